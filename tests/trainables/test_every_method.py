"""What every method must satisfy, on the smallest configuration of its real code; a new one is found by its file."""

import gc
from dataclasses import fields, replace

import pytest
import torch

from search_spaces.core.ranges import Choice, space_of
from trainables.core.method import FollowsBudget, find_method, method_names
from trainables.stylegan.class_generators import generator_epochs
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.train import Budget, train

SMALL = {"image_size": 16, "width": 4, "critic_width": 4, "classifier": "test_resnet", "batch_size": 8, "mu": 1,
         "lr": 1e-3, "drop_path": 0.0,
         "generator_width": 8, "batch_unlabelled": 8, "steps_per_epoch": 2, "tail": "conv_large",
         "generator_channel_base": 64, "generator_batch": 8, "generator_images": 9 * 16, "score_images": 1,
         "generator_init": "unlabelled_pretrain", "pretrain_images": 32,
         "features": 8, "synthetic_images": 16, "round_images": 16}  # fmt: skip
"""Sizes for tests, where a method has such a field."""

STAGES = {"generator_images": 5 * 16, "pretrain_images": 5 * 16, "ada_target": 0.2}
"""Enough of what comes before the classifier's first epoch for each of its settings to matter."""

GENERATORS = [name for name in method_names() if find_method(name).scorer]
"""They predict nothing of images, and have tests of their own."""

PREDICTING = [name for name in method_names() if name not in GENERATORS]

every_method = pytest.mark.parametrize("name", method_names())
methods = pytest.mark.parametrize("name", PREDICTING)
learning = pytest.mark.parametrize("name", [name for name in PREDICTING if name != "constant"])


def small(name, **changes):
    config_type = find_method(name).config
    known = {field.name for field in fields(config_type)}
    scored = {"score_images": 8} if name in GENERATORS else {}
    return config_type(**{key: value for key, value in {**SMALL, **scored, **changes}.items() if key in known})


def images_of(name, config, task, epochs):
    """Images that so many epochs see."""
    sizes = len(task.labelled), len(task.unlabelled_NCHW)
    return sum(find_method(name).epoch_images(config, *sizes, epoch) for epoch in range(epochs))


def start(name, task, config=None, *, epochs=2, seed=0, checkpoints=None, precision="no", accumulate=1, **options):
    config = config or small(name)
    budget = Budget(images=images_of(name, config, task, epochs), evaluate_every=1)
    accelerator = new_accelerator(precision=precision, cpu=True, accumulate=accumulate)
    return train(find_method(name), config, task, budget, seed=seed, accelerator=accelerator,
                 checkpoints=checkpoints, **options)  # fmt: skip


def build(name, task, config=None, seed=0):
    torch.manual_seed(seed)
    return find_method(name).build(config or small(name), task, new_accelerator(precision="no", cpu=True))


def weights(learner):
    """Every tensor of the state in one vector."""
    found = []

    def collect(value):
        if isinstance(value, torch.Tensor):
            found.append(value.detach().double().flatten())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                collect(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)

    collect(learner.state_dict())
    return torch.cat(found) if found else torch.zeros(0)


def trained_predictions(name, task, config, epochs):
    learner = build(name, task, config)
    iterator = iter(learner.epochs())
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        if isinstance(learner, FollowsBudget):
            learner.begin_epoch(epoch / epochs)
        next(iterator)
    return torch.cat(list(learner.predict(task.validation.images_NCHW).values()))


@every_method
def test_its_space_and_its_module_share_a_name(name):
    assert find_method(name).config.__module__ == f"search_spaces.{name}"


@every_method
def test_its_module_tells_what_it_does(name):
    module = __import__(f"trainables.{name}", fromlist=["METHOD"])
    assert len(module.__doc__.strip()) > 60


@methods
@pytest.mark.slow
def test_builds_and_learns_with_its_default_configuration(name, make_task):
    task = make_task(channels=3, num_unlabelled=4, side=32)
    config = replace(find_method(name).config(), image_size=32)
    if "steps_per_epoch" in {field.name for field in fields(config)}:
        config = replace(config, steps_per_epoch=1)  # ten take minutes here
    progress = list(start(name, task, config, epochs=1))
    assert set(progress[-1].scores) == set(find_method(name).predictors)


@learning
def test_an_epoch_is_finite_and_changes_the_weights(name, make_task):
    learner = build(name, make_task())
    before = weights(learner)
    losses = dict(next(iter(learner.epochs())))
    assert losses
    assert all(isinstance(value, float) and torch.tensor(value).isfinite() for value in losses.values())
    assert not torch.equal(before, weights(learner))


@methods
@pytest.mark.parametrize(("channels", "num_classes"), [(1, 2), (3, 2), (3, 9)])
def test_predicts_probabilities_without_changing_anything(name, channels, num_classes, make_task):
    task = make_task(channels=channels, num_classes=num_classes)
    learner = build(name, task)
    next(iter(learner.epochs()))
    before = weights(learner)
    first, second = (learner.predict(task.validation.images_NCHW) for _ in range(2))
    assert tuple(first) == find_method(name).predictors
    for predictor, probs in first.items():
        if task.kind == "segmentation":
            assert probs.shape == task.validation.masks_IHW.shape
            assert ((probs >= 0) & (probs <= 1)).all()
        else:
            assert probs.shape == (len(task.validation), num_classes)
            assert torch.allclose(probs.sum(1), torch.ones(len(probs)), atol=1e-5)
        assert torch.equal(probs, second[predictor])
    assert torch.equal(before, weights(learner))


@methods
def test_a_prediction_does_not_depend_on_its_company(name, make_task):
    task = make_task()
    learner = build(name, task)
    next(iter(learner.epochs()))
    images = task.validation.images_NCHW
    for predictor, probs_BK in learner.predict(images).items():
        alone = torch.cat([learner.predict(image[None])[predictor] for image in images])
        assert torch.allclose(probs_BK, alone, atol=1e-5)


@methods
def test_two_epochs_and_two_more_are_four(name, make_task, tmp_path):
    task = make_task()
    straight = list(start(name, task, epochs=4))
    killed = start(name, task, epochs=4, checkpoints=Checkpoints(tmp_path))
    for _ in range(2):
        next(killed)
    killed.close()
    resumed = list(start(name, task, epochs=4, checkpoints=Checkpoints(tmp_path)))
    assert [p.replayed for p in resumed] == [True, True, False, False]
    assert [(dict(p.losses), p.scores) for p in resumed] == [(dict(p.losses), p.scores) for p in straight]


@methods
def test_the_seed_decides(name, make_task):
    def losses(seed):
        return [dict(p.losses) for p in start(name, make_task(), seed=seed)]

    assert losses(0) == losses(0)
    if name != "constant":
        assert losses(0) != losses(1)


@learning
def test_it_trains_in_bf16(name, make_task):
    config = small(name, synthetic=False)  # generators keep float32 below 128 px
    exact, rounded = (list(start(name, make_task(), config, precision=p))[-1] for p in ("no", "bf16"))
    assert rounded.scores
    if hasattr(find_method(name).config, "classifier"):
        assert exact.losses != rounded.losses


@methods
def test_it_trains_with_accumulated_gradients(name, make_task):
    assert list(start(name, make_task(shots=6), accumulate=2))[-1].scores


@methods
def test_it_is_judged_by_the_mean_of_evaluations(name, make_task):
    progress = list(start(name, make_task(), epochs=4, selection="mean3"))
    main = find_method(name).predictors[0]
    metric = "log_loss" if find_method(name).kind == "classification" else "mdice_2"
    last = [p.scores[main].metric(metric) for p in progress[-3:]]
    assert progress[-1].selected[main].metric(metric) == pytest.approx(sum(last) / 3)


@methods
def test_hidden_labels_change_nothing_but_a_diagnosis(name, make_task):
    def trained(**options):
        return list(start(name, make_task(num_unlabelled=24), **options))

    for blind, told in zip(trained(), trained(hidden_labels_M=torch.arange(24) % 3), strict=True):
        assert told.scores == blind.scores
        losses = dict(told.losses)
        assert 0 <= losses.pop("pseudo_accuracy", 0) <= 1
        assert losses == blind.losses


@methods
def test_closing_early_is_clean(name, make_task):
    iterator = start(name, make_task(), epochs=100)
    next(iterator)
    iterator.close()


@methods
def test_a_finished_run_leaves_no_network_behind(name, make_task):
    def num_networks():
        return sum(issubclass(type(thing), torch.nn.Module) for thing in gc.get_objects())

    gc.collect()
    before = num_networks()
    list(start(name, make_task()))
    assert num_networks() <= before


@methods
@pytest.mark.parametrize(
    ("shots", "num_unlabelled"), [(1, 0), (1, 1), (1, 2), (3, 5), (9, 17)], ids=lambda value: str(value)
)
def test_awkward_sizes(name, shots, num_unlabelled, make_task):
    task = make_task(shots=shots, num_unlabelled=num_unlabelled, num_classes=2)
    assert list(start(name, task))[-1].scores


@methods
@pytest.mark.parametrize("side", [28, 32])
def test_images_are_resized(name, side, make_task):
    assert list(start(name, make_task(side=side), epochs=1))[-1].scores


class Forbidden:
    """Labels or masks nobody may look at."""

    def __len__(self):
        return 9

    def __getattr__(self, name):
        raise AssertionError("a learner read the validation labels")


@methods
def test_a_learner_never_reads_validation_labels_or_masks(name, make_task):
    task = make_task()
    validation = replace(task.validation)
    object.__setattr__(validation, "labels_N", Forbidden())
    object.__setattr__(validation, "masks_IHW", Forbidden())
    learner = build(name, replace(task, validation=validation))
    next(iter(learner.epochs()))
    learner.predict(validation.images_NCHW)


def knobs():
    """Every searched field of every method, but those of another method from which it has them, and lengths that would
    take all of the thousands of images that they are."""
    configs = {name: find_method(name).config for name in method_names()}
    found = []
    for name, config in configs.items():
        others = [base for base in config.__mro__[1:] if base in configs.values()]
        inherited = {field for base in others for field in space_of(base)}
        long = ("generator_images", "pretrain_images") if name in GENERATORS else ()
        found += [(name, field) for field in space_of(config) if field not in (*inherited, *long)]
    return found


def other_values(config, field):
    range_ = space_of(type(config))[field]
    options = range_.options if isinstance(range_, Choice) else range_.ends()
    return [value for value in options if value != getattr(config, field)]


@pytest.fixture(scope="module")
def baselines():
    return {}


@pytest.mark.parametrize(("name", "field"), knobs(), ids=lambda value: str(value))
def test_no_dead_knob(name, field, make_task, baselines):
    """Every searched field changes what is learned, if not at one end of its range then at another."""
    task, config = make_task(num_unlabelled=40), small(name, **STAGES)
    method = find_method(name)
    before = next((epoch for epoch in range(16) if method.cycle_ends(config, epoch + 1)), 0)
    lengths = (before + 4, before + 16)  # a decay shows after a few updates
    for epochs in lengths if name in PREDICTING else (generator_epochs(config),):
        if (name, epochs) not in baselines:
            baselines[name, epochs] = trained_predictions(name, task, config, epochs)
        for value in other_values(config, field):
            other = replace(config, **{field: value})
            changed = trained_predictions(name, task, other, epochs if name in PREDICTING else generator_epochs(other))
            if not torch.equal(baselines[name, epochs], changed):
                return
    pytest.fail(f"{name}.{field} changes nothing")
