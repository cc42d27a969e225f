from copy import deepcopy

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F

from search_spaces.sparse import SparseConfig
from trainables import sparse
from trainables.components.meters import Means
from trainables.core.method import Labelled, Provenance, Task
from trainables.training import accelerator as accelerators
from trainables.training.accelerator import new_accelerator

TINY = {
    "width": 4, "critic_width": 4, "classifier": "test_resnet", "image_size": 32, "batch_size": 8, "mu": 1,
    "lr": 1e-3, "drop_path": 0.0,
}  # fmt: skip


def make_task(*, num_classes=3, channels=3, labelled=6, unlabelled=20):
    torch.manual_seed(0)
    images = torch.randint(256, (labelled + unlabelled, channels, 32, 32), dtype=torch.uint8)
    known = Labelled(images[:labelled], torch.arange(labelled) % num_classes)
    provenance = Provenance("", False, 2, 0, 0, "realistic", "", labelled)
    return Task("noise", "classification", num_classes, channels, known, images[labelled:], known, provenance)


def build(preset="paper", task=None, precision="no", accumulate=1, compiled=False, **changes):
    torch.manual_seed(1)
    config = SparseConfig.preset(preset, **(TINY | changes))
    accelerator = new_accelerator(precision=precision, cpu=True, accumulate=accumulate, compile=compiled)
    return sparse.build(config, task or make_task(), accelerator)


def train(learner, first, last):
    epochs = learner.epochs()
    for epoch in range(first, last):
        torch.manual_seed(1000 + epoch)
        losses = next(epochs)
    return losses


def networks(learner):
    return [learner._generator.module, learner._discriminator.module, learner._classifier.module]


def weights(learner):
    # How many passes BatchNorm has seen is used by no one: its momentum is fixed.
    tensors = [net.state_dict(prefix=f"{i}.") for i, net in enumerate(networks(learner))]
    return {k: v.clone() for one in tensors for k, v in one.items() if "num_batches" not in k}


def same(first, second):
    return all(first[name].equal(second[name]) for name in first)


# What is learned, beside the equality with the plain form (test_sparse_equality.py)


def test_the_supervised_sum_gives_each_network_its_own_gradient():
    learner = build(w_mixup=0.0)
    images, labels = make_task().labelled.images_NCHW.float() / 255, make_task().labelled.labels_N
    logits = {name: classify(images) for name, classify in learner._classify.items()}
    losses = {name: learner._supervised_loss(name, logits, images, labels) for name in logits}
    for one, net in zip(losses.values(), networks(learner), strict=True):
        own = {name for name, g in _gradients(one, net).items() if g is not None}
        assert own
        others = [other for other in networks(learner) if other is not net]
        assert all(g is None for other in others for g in _gradients(one, other).values())


def _gradients(loss, net):
    named = dict(net.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return dict(zip(named, found, strict=True))


# What the two presets are


def test_mutual_learning_moves_every_network_in_paper_and_none_in_reference():
    options = {"mu": 0, "dropout": 0.0, "w_mixup": 0.0, "flip": False}
    for preset, moves in [("paper", True), ("reference", False)]:
        runs = []
        for w_mutual in (0.01, 1.0):
            learner = build(preset, w_mutual=w_mutual, **options)
            train(learner, 0, 1)
            runs.append(weights(learner))
        changed = {name[0] for name in runs[0] if not runs[0][name].equal(runs[1][name])}
        assert changed == ({"0", "1", "2"} if moves else set())


@pytest.mark.parametrize(("preset", "inert"), [("paper", False), ("reference", True)])
@pytest.mark.parametrize("field", [{"percentile": 0.05}, {"ens_blend": 0.3}, {"ema_momentum": 0.0}])
def test_what_searches_over_the_published_code_would_be_blind_to(preset, inert, field):
    first, second = build(preset), build(preset, **field)
    for learner in (first, second):
        train(learner, 0, 4)
    assert same(weights(first), weights(second)) == inert


def test_dropping_nothing_is_no_mask():
    first, second = build(percentile=0.0), build(mask=False)
    for learner in (first, second):
        train(learner, 0, 2)
    assert same(weights(first), weights(second))


def test_bce_is_for_discriminator_and_classifier_only():
    first, second = (build("reference", w_bce=w, mu=0) for w in (0.0, 1.0))
    for learner in (first, second):
        train(learner, 0, 1)
    before, after = weights(first), weights(second)
    changed = {name[0] for name in before if not before[name].equal(after[name])}
    assert changed == {"1", "2"}


# What is ours, and a choice


def test_squashed_translations_are_images():
    task = make_task()
    images, classes = task.unlabelled_NCHW[:4], torch.zeros(4, dtype=torch.long)
    for output, squashed in [("linear", False), ("sigmoid", True)]:
        learner = build(generator_output=output)
        translated = learner._translate(1e3 * images.float(), classes)
        assert bool(((translated >= 0) & (translated <= 1)).all()) == squashed
        train(learner, 0, 2)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_vote_is_cast_in_the_mode_asked_for(mode):
    learner, seen = build(pseudo_label_mode=mode, dropout=0.0), []
    classifier = networks(learner)[2]
    before = [norm.running_mean.clone() for norm in classifier.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    classifier.register_forward_hook(lambda *call: seen.append(classifier.training))
    images = torch.rand(4, 3, 32, 32)
    learner._pseudo_labels(torch.arange(4), images, Means())
    assert seen == [mode == "train"]
    assert classifier.training
    norms = [norm for norm in classifier.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    assert all(norm.running_mean.equal(old) for norm, old in zip(norms, before, strict=True)) == (mode == "eval")


def test_a_bank_is_the_batch_where_the_batch_is_everything():
    first, second = build(mu=0, proto_source="batch"), build(mu=0, proto_source="bank")
    for learner in (first, second):
        train(learner, 0, 3)
    assert same(weights(first), weights(second))


def test_a_bank_makes_prototypes_of_all_labelled_images_and_survives():
    options = {"mu": 0, "proto_source": "bank", "batch_size": 3, "flip": False}
    learner, blind = build(**options), build(**(options | {"proto_source": "batch"}))
    for each in (learner, blind):
        train(each, 0, 1)
    assert not same(weights(learner), weights(blind))
    banks = learner.state_dict()["banks"]
    assert {name.partition(".")[0] for name in banks} == {"generator", "critic", "classifier"}
    assert all(tensor.all() for name, tensor in banks.items() if "seen" in name)
    resumed = build(**options)
    resumed.load_state_dict(deepcopy(learner.state_dict()))
    train(learner, 1, 3)
    train(resumed, 1, 3)
    assert same(weights(resumed), weights(learner))


def test_strata_give_every_batch_every_class():
    task, seen = make_task(labelled=12), []
    learner = build(mu=0, task=task, batch_size=3, stratify=True)
    learner._supervised_step = lambda index, means: seen.append(task.labelled.labels_N[index].tolist())
    train(learner, 0, 5)
    assert len(seen) == 20
    assert all(sorted(labels) == [0, 1, 2] for labels in seen)
    assert len({tuple(labels) for labels in seen}) > 3


# What reaches what


def test_a_supervised_epoch_leaves_decoder_and_discriminator_map_alone():
    learner = build(mu=0)
    before = weights(learner)
    train(learner, 0, 2)
    after = weights(learner)
    unchanged = {".".join(name.split(".")[:2]) for name in before if before[name].equal(after[name])}
    assert {"0.first_generate", "0.up3", "0.up2", "0.up1", "0.output", "1.patch_head"} <= unchanged
    assert not unchanged & {"0.second", "0.class_head", "1.class_head", "2.fc"}


@pytest.mark.parametrize("scope", ["all", "labels"])
def test_the_way_back_is_to_the_pseudo_label(scope, monkeypatch):
    learner = build(mask_scope=scope, percentile=0.5)
    calls, labels = [], []
    translate, pseudo_labels = learner._translate, learner._pseudo_labels

    def spy_labels(*args):
        found = pseudo_labels(*args)
        labels.append(found[0][found[1]])
        return found

    def spy_translate(images, classes):
        calls.append(classes)
        return translate(images, classes)

    monkeypatch.setattr(learner, "_translate", spy_translate)
    monkeypatch.setattr(learner, "_pseudo_labels", spy_labels)
    train(learner, 0, 1)
    there, back, again = calls[0::3], calls[1::3], calls[2::3]
    assert len(there) == len(labels) == 3
    for i in range(3):
        assert back[i].equal(labels[i])
        assert there[i].equal(again[i])
    assert not torch.cat(back).equal(torch.cat(there)[: len(torch.cat(back))])


def test_the_discriminator_learns_nothing_from_the_other_steps():
    learner = build()
    images, targets = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    before = [p.clone() for p in networks(learner)[1].parameters()]
    fake = learner._translate(images, targets)
    learner._generator_step(fake, targets, F.l1_loss(fake, images), Means())
    learner._classifier_step(images, targets, Means())
    discriminator = networks(learner)[1]
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    assert all(p.equal(q) for p, q in zip(discriminator.parameters(), before, strict=True))


@pytest.mark.parametrize(("n_critic", "expected"), [(1, 3), (2, 1), (3, 1), (5, 1)])
def test_generator_and_classifier_step_at_every_nth_batch(n_critic, expected, monkeypatch):
    learner, steps = build(n_critic=n_critic), []
    monkeypatch.setattr(learner, "_generator_step", lambda *args: steps.append(1))
    losses = train(learner, 0, 1)
    assert len(steps) == expected
    assert "gradient_penalty" in losses


# The schedule


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mu": 2}, [0, 2, 4]),
        ({"mu": 2, "unsup_warmup": 1}, [1, 3, 5]),
        ({"mu": 0}, []),
        ({"mu": 5, "unsup_warmup": 4}, [4]),
    ],
)
def test_unsupervised_epochs(options, expected, monkeypatch):
    learner, seen = build(**options), []
    monkeypatch.setattr(learner, "_supervised_step", lambda *args: None)
    monkeypatch.setattr(learner, "_unsupervised_pass", lambda means: seen.append(learner._epoch))
    train(learner, 0, 6)
    assert seen == expected


def test_a_pass_covers_each_image_once_or_the_share_asked_for():
    whole, part = build(), build(unsup_fraction=0.5)
    for learner in (whole, part):
        train(learner, 0, 1)
    assert whole._memory.num_updates_M.equal(torch.ones(20))
    assert part._memory.num_updates_M.sum() == 10


def test_losses_tell_how_the_pseudo_labels_fare():
    losses = train(build(percentile=0.75), 0, 1)
    assert all(type(value) is float for value in losses.values())
    assert losses["coverage"] == pytest.approx(6 / 20)  # 7, 7 and 6 images, of which 2 each
    for name in ("agreement", "pseudo_balance"):
        assert 0 <= losses[name] <= 1
    assert {
        "generator",
        "critic",
        "classifier",
        "unsup_generator",
        "unsup_critic",
        "unsup_classifier",
    } <= set(losses)
    assert "unsup_critic" not in train(build(mu=0), 0, 1)


# The contract of a learner


@pytest.mark.parametrize("options", [{"mu": 2}, {"preset": "reference"}, {"n_critic": 2, "unsup_fraction": 0.7}])
def test_a_resumed_run_is_the_undisturbed_one(options, tmp_path):
    straight, stopped, resumed = (build(**options) for _ in range(3))
    train(straight, 0, 4)
    train(stopped, 0, 2)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, 2, 4)
    assert same(weights(resumed), weights(straight))
    assert resumed._memory.average_MK.equal(straight._memory.average_MK)


@pytest.mark.parametrize(
    "shape",
    [
        {"num_classes": 2, "channels": 1, "labelled": 2},
        {"num_classes": 11, "labelled": 11, "unlabelled": 9},
        {"unlabelled": 0},
        {"unlabelled": 1},
        {"unlabelled": 2, "labelled": 25},
    ],
)
@pytest.mark.parametrize("preset", ["paper", "reference"])
def test_every_size_of_task(shape, preset):
    task = make_task(**shape)
    learner = build(preset, task, batch_size=8, percentile=0.95, image_size=16)
    losses = train(learner, 0, 2)
    assert all(torch.tensor(value).isfinite() for value in losses.values())
    predictions = learner.predict(task.labelled.images_NCHW)
    assert tuple(predictions) == sparse.METHOD.predictors
    for probs in predictions.values():
        assert probs.shape == (len(task.labelled), task.num_classes)
        torch.testing.assert_close(probs.sum(1), torch.ones(len(probs)).double())


@pytest.mark.parametrize("side", [28, 32, 64, 128, 224])
@pytest.mark.parametrize(("channels", "num_classes"), [(1, 2), (3, 11)])
def test_every_side(side, channels, num_classes):
    task = make_task(channels=channels, num_classes=num_classes, labelled=num_classes, unlabelled=4)
    learner = build(task=task, image_size=side, width=2, critic_width=2, batch_size=4)
    losses = train(learner, 0, 1)
    assert "unsup_generator" in losses
    assert all(torch.tensor(value).isfinite() for value in losses.values())
    assert learner.predict(task.unlabelled_NCHW)["sparse"].shape == (4, num_classes)


@pytest.mark.parametrize(("options", "kept"), [({"percentile": 0.75}, 6), ({"preset": "reference"}, 20)])
def test_pseudo_labels_are_those_that_were_used(options, kept, monkeypatch):
    learner, used = build(**({"mu": 2} | options)), {}
    assert learner.pseudo_labels() is None
    vote = learner._pseudo_labels

    def spy(index, *args):
        labels, positions = vote(index, *args)
        used.update(zip(index[positions].tolist(), labels[positions].tolist(), strict=True))
        return labels, positions

    monkeypatch.setattr(learner, "_pseudo_labels", spy)
    train(learner, 0, 1)
    given = learner.pseudo_labels()
    assert len(used) == kept
    assert {int(i): int(given[i]) for i in (given >= 0).nonzero()} == used
    train(learner, 1, 2)
    assert learner.pseudo_labels() is None
    used.clear()
    train(learner, 2, 3)
    assert int((learner.pseudo_labels() >= 0).sum()) == len(used) == kept


@pytest.mark.parametrize(
    ("options", "ends"), [({}, [1, 2, 3]), ({"mu": 2}, [2, 4]), ({"mu": 3, "unsup_warmup": 2}, [5])]
)
def test_a_cycle_ends_before_the_next_unsupervised_phase(options, ends):
    config = SparseConfig(**(TINY | options))
    found = [epoch for epoch in range(1, 6) if sparse.METHOD.cycle_ends(config, epoch)]
    assert found[: len(ends)] == ends
    assert not sparse.METHOD.cycle_ends(SparseConfig(mu=0), 4)


def test_prediction_changes_nothing_and_is_the_mean_of_both():
    learner = build()
    train(learner, 0, 1)
    images, before = make_task().unlabelled_NCHW, weights(learner)
    random_state = torch.get_rng_state()
    first, second = learner.predict(images), learner.predict(images)
    assert all(first[name].equal(second[name]) for name in first)
    assert same(before, weights(learner))
    assert torch.get_rng_state().equal(random_state)
    assert all(net.training for net in networks(learner))
    discriminator = networks(learner)[1](images.float() / 255)[1].double().softmax(1)
    torch.testing.assert_close(first["sparse_ens"], (discriminator + first["sparse"]) / 2)


def test_reduced_precision_keeps_the_slope_in_float32(monkeypatch):
    learner, seen = build(precision="bf16"), []
    discriminator, slopes = networks(learner)[1], learner._slopes

    def spy(images):
        with discriminator.patch_head.register_forward_hook(lambda *call: seen.append(call[2].dtype)):
            return slopes(images)

    monkeypatch.setattr(learner, "_slopes", spy)
    losses = train(learner, 0, 2)
    assert set(seen) == {torch.float32}
    assert next(discriminator.parameters()).dtype == torch.float32
    assert all(torch.tensor(value).isfinite() for value in losses.values())
    probs = learner.predict(make_task().unlabelled_NCHW)["sparse_ens"]
    torch.testing.assert_close(probs.sum(1), torch.ones(20).double())


def test_it_learns_its_labelled_images():
    learner = build(mu=0, dropout=0.0, flip=False)
    train(learner, 0, 60)
    known = make_task().labelled
    assert learner.predict(known.images_NCHW)["sparse_ens"].argmax(1).equal(known.labels_N)


@pytest.mark.long  # twenty seconds of tracing
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the tracer's own
def test_traced_networks_are_the_same_learner(monkeypatch):
    """What compilation sees: every mode of every network, each with its own count of BatchNorm, frozen or not."""
    monkeypatch.setattr(accelerators, "_can_compile", lambda device: True)
    monkeypatch.setattr(accelerators, "COMPILER", "aot_eager")  # all of it but the code that a compiler makes
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        # Half of the images are kept: of very few, BatchNorm makes 1e-5 of a change of 1e-14.
        learner = build(dropout=0.0, lr=2e-4, percentile=0.5, compiled=compiled)
        for network in networks(learner):
            network.double()
        learner._memory.double()
        learner._images = lambda *which, images=learner._images: images(*which).double()
        with torch._dynamo.config.patch(recompile_limit=64):
            train(learner, 0, 2)
        found.append(weights(learner))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
