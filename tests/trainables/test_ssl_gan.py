from dataclasses import replace

import pytest
import torch
import torch._dynamo
from torch import nn

from search_spaces.convnet import ConvnetConfig
from search_spaces.core.augmentation import NO_MOTION
from search_spaces.ssl_gan import SslGanConfig
from trainables import convnet, ssl_gan
from trainables.components import ssl_gan_classifier as discriminator
from trainables.components.meters import Means
from trainables.testing.subject import Subject
from trainables.training import accelerator as accelerators
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints

from .test_sparse_waits import Waits, strict  # noqa: F401

TINY = {"image_size": 28, "width": 4, "batch_size": 6, "steps_per_epoch": 2, "lr": 1e-3}
GAN = {"generator_width": 8, "batch_unlabelled": 5}


@pytest.fixture
def build(make_task):
    def make(precision="no", accumulate=1, supervised=False, task=None, compiled=False, **changes):
        torch.manual_seed(1)
        task = task or make_task(side=28, channels=3)
        accelerator = new_accelerator(precision=precision, cpu=True, accumulate=accumulate, compile=compiled)
        if supervised:
            return convnet.build(ConvnetConfig(**(TINY | changes)), task, accelerator)
        return ssl_gan.build(SslGanConfig(**(TINY | GAN | changes)), task, accelerator)

    return make


STILL = {"flip": False, "flip_vertical": False, **NO_MOTION}


def train(learner, num_epochs=1):
    epochs = learner.epochs()
    for epoch in range(num_epochs):
        torch.manual_seed(1000 + epoch)
        losses = next(epochs)
    return losses


def copies(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def test_losses_have_their_names(build):
    names = {"sup", "unsup", "real_frac", "fake", "fake_frac", "fm"}
    losses = train(build())
    assert set(losses) == names
    assert all(0 <= losses[name] <= 1 for name in ("real_frac", "fake_frac"))
    assert set(train(build(entropy_weight=0.1, pull_away_weight=0.1))) == names | {"entropy", "pull_away"}
    assert set(train(build(supervised=True))) == {"sup"}


def test_gans_start_undecided(build):
    """Logits around 0 with a deviation of a tenth: two thirds of all images are real a priori for two classes."""
    learner, means = build(lr=1e-8), Means()
    learner._discriminator_step(means)
    losses = means.read()
    assert losses["sup"] == pytest.approx(torch.tensor(3.0).log().item(), abs=0.2)
    assert losses["unsup"] == pytest.approx(torch.tensor(4 / 3).log().item(), abs=0.1)
    assert losses["fake"] == pytest.approx(torch.tensor(4.0).log().item(), abs=0.2)


# What reaches what


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_of_g_leaves_d_alone(build, accumulate):
    learner = build(accumulate=accumulate, train_gain=False)
    learner._discriminator_step(Means())
    d, g = learner._discriminator, learner._generator
    before, average = copies(d), [p.clone() for p in d.predicting.parameters()]
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in d.module.named_parameters()}
    assert any(g is not None for g in gradients.values()) == (accumulate == 2)
    learning = {name: p.requires_grad for name, p in d.module.named_parameters()}
    generator = copies(g)
    learner._generator_step(Means())
    g.finish()
    for name, p in d.module.named_parameters():
        assert p.equal(before[name])
        assert p.requires_grad == learning[name]
        assert p.grad is None if gradients[name] is None else p.grad.equal(gradients[name])
    assert all(p.equal(q) for p, q in zip(d.predicting.parameters(), average, strict=True))
    learned = [name for name, p in g.module.named_parameters() if p.requires_grad]
    assert all(not copies(g)[name].equal(generator[name]) for name in learned)


def test_a_step_of_d_leaves_g_alone_but_for_its_statistics(build):
    learner = build()
    g = learner._generator
    before = copies(g)
    learner._discriminator_step(Means())
    for name, tensor in g.module.state_dict().items():
        assert tensor.equal(before[name]) == (not name.endswith(("running_mean", "running_var", "batches_tracked")))
    assert all(p.grad is None for p in g.module.parameters())


def test_frozen_gains_stay_and_the_last_layers_learn(build):
    learner = build()
    before = {name: copies(part) for name, part in [("d", learner._discriminator), ("g", learner._generator)]}
    train(learner, 3)
    d, g = copies(learner._discriminator), copies(learner._generator)
    stayed = {name for name in d if d[name].equal(before["d"][name])}
    assert stayed == {name for name in d if "original0" in name and not name.startswith("output")}
    norms = {name for name in g if g[name].equal(before["g"][name])}
    assert norms == {name for name in g if name.endswith(".weight") and g[name].ndim == 1}


def test_d_makes_one_forward_and_g_sees_other_images_and_numbers(build):
    learner, seen = build(), []
    learner._discriminator.module.register_forward_hook(lambda net, inputs, output: seen.append(inputs[0]))
    learner._discriminator_step(Means())
    assert [len(images) for images in seen] == [6 + 5 + 5]
    learner._generator_step(Means())
    assert [len(images) for images in seen] == [16, 5, 5]
    assert not seen[0][11:].equal(seen[2].detach())
    assert not seen[0][6:11].equal(seen[1])


def test_d_and_g_take_separate_passes_over_all_images(build, make_task):
    task, taken = make_task(side=28, shots=2, num_unlabelled=9), []
    learner = build(task=task, batch_unlabelled=5, batch_size=4, steps_per_epoch=3)
    images = learner._images
    learner._images = lambda index_B: taken.append(index_B) or images(index_B)
    train(learner)
    known, unknown = torch.cat([i[:4] for i in taken[::2]]), torch.cat([i[4:] for i in taken[::2]])
    assert known.bincount().tolist() == [2] * 6  # 12 taken
    assert unknown.sort().values.equal(torch.arange(15))
    assert torch.cat(taken[1::2]).sort().values.equal(torch.arange(15))
    assert not torch.cat(taken[1::2]).equal(unknown)


@pytest.mark.parametrize("num_unlabelled", [0, 5])
def test_images_are_numbered_labelled_first(build, make_task, num_unlabelled):
    task = make_task(side=28, shots=1, num_unlabelled=num_unlabelled)
    learner = build(task=task, **STILL)
    images = torch.cat([task.labelled.images_NCHW, task.unlabelled_NCHW])
    order = torch.randperm(3 + num_unlabelled)
    torch.testing.assert_close(learner._images(order), images[order] / 127.5 - 1)


@pytest.mark.parametrize("supervised", [True, False])
def test_an_epoch_sees_as_many_images_as_a_budget_counts(build, supervised):
    counted = []
    module = convnet if supervised else ssl_gan
    learner = build(supervised=supervised)
    augmented = learner._augmented
    learner._augmented = lambda images: counted.append(len(images)) or augmented(images)
    train(learner)
    assert sum(counted) == module.METHOD.epoch_images(learner._config, 9, 24, 0)


# The average, the step size, the state


def test_the_average_starts_after_the_start_on_data_and_predicts(build, make_task):
    learner = build(average=0.1)
    d = learner._discriminator
    assert d.predicting is not d.module
    assert all(p.equal(q) for p, q in zip(d.module.parameters(), d.predicting.parameters(), strict=True))
    raw = discriminator.Discriminator(channels=3, num_classes=3, width=4)
    assert not d.module.state_dict()["output.parametrizations.weight.original0"].eq(1).any()
    assert raw.state_dict()["output.parametrizations.weight.original0"].eq(1).all()
    images = make_task(side=28, channels=3).labelled.images_NCHW
    before = learner.predict(images)["ssl_gan"]
    with torch.no_grad():
        for p in d.module.parameters():
            p.add_(1.0)
    assert learner.predict(images)["ssl_gan"].equal(before)


@pytest.mark.parametrize("supervised", [True, False])
def test_step_sizes_follow_the_budget(build, supervised):
    options = {"lr": 4e-4, "schedule": "linear", "decay_start": 0.5, "warm_up": 0.1, "steps_per_epoch": 1}
    learner = build(supervised=supervised, **options, **({} if supervised else {"lr_ratio_generator": 2.0}))
    sizes = (6,) if supervised else (6 + 5, 5)  # images of the batch of D, and of that of G
    parts = [learner._network] if supervised else [learner._discriminator, learner._generator]
    for seen, budget in [(0, 1000), (50, 1000), (500, 1000), (750, 1000), (250, 1000), (990, 1000), (999, 1000)]:
        learner.begin_epoch(seen, budget)
        train(learner)
        for part, ratio, middle in zip(parts, (1, 2), (sizes[0] / 2, sum(sizes[:-1]) + sizes[-1] / 2), strict=False):
            share = min(1, (seen + middle) / budget)
            (group,) = part.state_dict()["optimiser"]["param_groups"]
            expected = ratio * 4e-4 * min(1, share / 0.1) * min(1, (1 - share) / 0.5)
            assert group["lr"] == pytest.approx(expected, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("name", ["ssl_gan", "convnet"])
def test_a_run_resumed_while_step_sizes_fall_is_the_undisturbed_one(name, make_task, tmp_path):
    falling = {"schedule": "linear", "decay_start": 0.0}
    config = ConvnetConfig(**TINY, **falling) if name == "convnet" else SslGanConfig(**TINY, **GAN, **falling)

    def scores(checkpoints=None, stop=None):
        found = []
        for progress in Subject(name).start(make_task(), config, epochs=4, checkpoints=checkpoints):
            found.append((dict(progress.losses), progress.scores))
            if progress.epoch == stop:
                break
        return found

    straight = scores()
    assert scores(Checkpoints(tmp_path), stop=2) == straight[:2]
    assert scores(Checkpoints(tmp_path)) == straight
    constant = replace(config, schedule="constant")
    assert [dict(p.losses) for p in Subject(name).start(make_task(), constant, epochs=4)] != [
        losses for losses, _ in straight
    ]


def test_a_state_reproduces_predictions_and_holds_no_network(build, make_task, tmp_path):
    first, second = build(), build()
    train(first, 2)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    images = make_task(side=28, channels=3).validation.images_NCHW
    assert second.predict(images)["ssl_gan"].equal(first.predict(images)["ssl_gan"])
    assert train(second) == train(first)
    assert not any(isinstance(value, nn.Module) for part in first.state_dict().values() for value in part.values())


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("options", [{}, {"entropy_weight": 0.1, "pull_away_weight": 0.1}, {"accumulate": 2}], ids=str)
def test_an_epoch_looks_at_nothing(build, options):
    for learner in (build(**options), build(supervised=True, class_balance=True)):
        with Waits() as waits:
            train(learner, 2)
        assert waits.total() == 0, waits.counts


# What it learns


@pytest.mark.parametrize("supervised", [True, False])
def test_it_learns_its_labelled_images(build, supervised, make_task):
    learner = build(supervised=supervised, lr=3e-3, batch_size=9, drop_in=0.0, drop_hidden=0.0, **STILL)
    first = train(learner)["sup"]
    last = train(learner, 20)["sup"]
    assert last < 0.5 * first
    labelled = make_task(side=28, channels=3).labelled
    (probs_NK,) = learner.predict(labelled.images_NCHW).values()
    assert (probs_NK.argmax(1) == labelled.labels_N).float().mean() > 0.7


def test_the_generator_comes_nearer_to_the_features(build):
    options = {"drop_in": 0.0, "drop_hidden": 0.0, "batch_unlabelled": 32, "generator_width": 16, **STILL}
    learner = build(lr=1e-8, steps_per_epoch=5, **options)

    def distance():
        learner._generator.set_lr(0.0)
        return train(learner)["fm"]

    first = distance()
    learner._generator.set_lr(1e-3)
    train(learner, 8)
    assert distance() < 0.75 * first


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_outputs_are_float32_in_every_precision(build, precision):
    learner = build(precision=precision)
    logits, last = learner._discriminator(torch.rand(2, 3, 28, 28))
    assert logits.dtype == last.dtype == torch.float32
    assert learner._generate().dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the tracer's own
def test_traced_networks_are_the_same_learner(build, monkeypatch):
    """What compilation sees: weight normalisation, and D learning or frozen."""
    monkeypatch.setattr(accelerators, "_can_compile", lambda device: True)
    monkeypatch.setattr(accelerators, "COMPILER", "aot_eager")  # all of it but the code that a compiler makes
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        learner = build(compiled=compiled, drop_in=0.0, drop_hidden=0.0, lr=1e-4)
        train(learner, 2)
        found.append(copies(learner._discriminator) | copies(learner._generator))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
