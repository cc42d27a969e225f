"""Pretext tasks as stages: their steps beside a plain loop in float64, who shares them, and how they go on."""

from copy import deepcopy
from dataclasses import replace
from math import cos, pi

import pytest
import torch
import torch.nn.functional as F

from search_spaces.core.errors import ConfigError
from search_spaces.core.self_supervision import PretextConfig
from trainables.core.method import Labelled
from trainables.data.tasks import few_shot_task
from trainables.nets.backbone import build_classifier
from trainables.self_supervision import stage
from trainables.self_supervision.networks import PretextNetwork, load_body
from trainables.self_supervision.stage import PretextStage, check_budget, pretext_images
from trainables.testing.tasks import make_task
from trainables.training.accelerator import new_accelerator

TASKS = ("simclr", "moco", "byol")
TINY = {"pretext_batch": 4, "pretext_side": 16, "pretext_images": 24, "pretext_projector": 8}


def stage_of(task=None, model="test_resnet", **settings):
    config = PretextConfig(**{**TINY, "pretext": "simclr", **settings})
    return PretextStage(config, model, task or make_task(), new_accelerator(precision="no", cpu=True))


def work_of(task=None, **settings):
    return stage_of(task, **settings)._new_work()


def trained(one):
    return [one.epoch(number) for number in range(one.num_epochs)]


def plain_losses(pretext, network, batches, *, lr, decay, temperature, momentum, queue):
    """Losses of some steps, by loops over a network in float64, which learns."""
    slow, total = deepcopy(network), len(batches)
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
    keys, losses = [], []
    for step, (first, second) in enumerate(batches):
        share = (step + 0.5) / total
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, share / 0.05) * (1 + cos(pi * share)) / 2
        if pretext == "moco":
            queries = network(first)[0]
            with torch.no_grad():
                new = slow(second)[0]
            terms = []
            for query, key in zip(queries, new, strict=True):
                others = torch.stack([F.cosine_similarity(query, one, dim=0) for one in [key, *keys]]) / temperature
                terms.append(others.logsumexp(0) - others[0])
            loss, keys = torch.stack(terms).mean(), [*new, *keys][:queue]
        else:
            projected, predicted = network(torch.cat([first, second]))
            count, terms = len(first), []
            with torch.no_grad():
                other = slow(torch.cat([first, second]))[0]
            for one in range(2 * count):
                twin = (one + count) % (2 * count)
                if pretext == "byol":
                    terms.append(2 * (2 - 2 * F.cosine_similarity(predicted[one], other[twin], dim=0)))
                    continue
                likeness = [F.cosine_similarity(projected[one], each, dim=0) / temperature for each in projected]
                apart = torch.stack([each for two, each in enumerate(likeness) if two != one])
                terms.append(apart.logsumexp(0) - likeness[twin])
            loss = torch.stack(terms).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        kept = momentum if pretext == "moco" else 1 - (1 - momentum) * (1 + cos(pi * share)) / 2
        with torch.no_grad():
            for old, own in zip(slow.parameters(), network.parameters(), strict=True):
                old.copy_(kept * old + (1 - kept) * own)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("pretext", TASKS)
def test_steps_are_those_of_a_plain_formulation(pretext, monkeypatch):
    seen = []

    class Watched(stage.Views):
        def __call__(self, images_BCHW):
            seen.append(super().__call__(images_BCHW).double())
            return seen[-1]

    monkeypatch.setattr(stage, "Views", Watched)
    task = make_task(num_classes=2, shots=2, num_unlabelled=8)
    work = work_of(task, pretext=pretext, pretext_momentum=0.9, pretext_lr=3e-3, pretext_weight_decay=0.1)
    work._learning.module.double()
    work._queue_QP = work._queue_QP.double()
    if work._slow:
        work._slow.network.double()
    start = deepcopy(work._learning.module)
    torch.manual_seed(0)
    found = [work.train_epoch()["loss"] for _ in range(3)]
    batches = list(zip(seen[::2], seen[1::2], strict=True))
    expected = plain_losses(pretext, start, batches, lr=3e-3, decay=0.1, temperature=0.2, momentum=0.9, queue=6)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)  # losses are told in float32
    for own, plain in zip(work._learning.module.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(own, plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pretext", TASKS)
def test_gradients_reach_what_learns_and_nothing_else(pretext):
    work = work_of(pretext=pretext)
    network = work._learning.module
    for each in network.parameters():
        if not each.any():  # timm's blocks begin as nothing, so that nothing passes back either
            each.data.uniform_(0.5, 1.0)
    images = [torch.rand(4, 1, 16, 16) for _ in range(2)]
    work._compare(*images)  # MoCo's queue is empty before
    loss, *_ = work._compare(*images)
    loss.backward()
    without = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert without == []
    assert any(name.startswith("predictor") for name, _ in network.named_parameters()) == (pretext == "byol")
    assert (work._slow is None) == (pretext == "simclr")
    if work._slow:
        assert all(each.grad is None and not each.requires_grad for each in work._slow.network.parameters())
        assert not work._queue_QP.requires_grad


@pytest.mark.parametrize("pretext", TASKS)
def test_it_goes_on_where_another_left_it_bit_for_bit(pretext, tmp_path, monkeypatch):
    straight = stage_of(pretext=pretext)
    losses = trained(straight)
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "other"))
    stopped = stage_of(pretext=pretext)
    stopped.epoch(0)
    stopped.stage.close()
    resumed = stage_of(pretext=pretext)
    assert trained(resumed) == losses
    assert (straight.stage.origin, resumed.stage.origin) == ("made", "continued")
    expected, found = straight.weights(), resumed.weights()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses[-1].keys() == {"loss", "alignment", "uniformity", "neighbour_accuracy"}


def test_label_sets_of_the_same_images_share_it_and_other_images_do_not():
    task = make_task(num_classes=2, shots=2, num_unlabelled=8)
    images = torch.cat([task.labelled.images_NCHW, task.unlabelled_NCHW]).flip(0)
    swapped = replace(task, labelled=Labelled(images[:4], torch.tensor([1, 0, 1, 0])), unlabelled_NCHW=images[4:])
    losses, again = trained(stage_of(task)), stage_of(swapped)
    found = trained(again)
    assert again.stage.origin == "found"
    assert found[:-1] == losses[:-1]
    assert again.facts()["origin"] == "found"
    fold = replace(task, unlabelled_NCHW=task.unlabelled_NCHW[1:])
    keys = {stage_of(each).stage.entry.key for each in (task, swapped, fold)}
    others = {stage_of(task, pretext_blur=0.0).stage.entry.key, stage_of(task, model="test_vit").stage.entry.key}
    assert len(keys) == 2
    assert len(keys | others) == 4
    upright = replace(task, asymmetric=("horizontal",))
    assert stage_of(upright).stage.entry.key not in keys


@pytest.mark.parametrize(
    ("pretext", "settings", "shape"),
    [
        ("simclr", {"pretext_batch": 64}, {"channels": 3, "num_classes": 2, "shots": 1, "num_unlabelled": 0}),
        ("moco", {"pretext_batch": 64, "model": "test_vit", "pretext_side": 160}, {"side": 28, "num_unlabelled": 3}),
        ("byol", {"pretext_batch": 7, "pretext_side": 24, "pretext_images": 1}, {"channels": 2, "side": 33}),
    ],
)
def test_awkward_sizes(pretext, settings, shape):
    task = make_task(**shape)
    one = stage_of(task, pretext=pretext, **settings)
    losses = trained(one)
    assert all(torch.tensor(each["loss"]).isfinite() for each in losses)
    features = one.network()(torch.rand(2, task.channels, one._config.pretext_side, one._config.pretext_side))
    assert features.shape[0] == 2


@pytest.mark.parametrize(
    ("images", "batch", "pool"), [(24, 4, 33), (1000, 4, 33), (1000, 64, 33), (999_999, 128, 4708)]
)
def test_all_views_are_counted(images, batch, pool):
    config = PretextConfig(pretext="byol", pretext_images=images, pretext_batch=batch)
    counts = [pretext_images(config, pool, epoch) for epoch in range(config.num_pretext_epochs)]
    step = 2 * min(batch, pool)
    assert images <= sum(counts) < images + step
    assert min(counts) >= step
    assert max(counts) - min(counts) <= step
    with pytest.raises(ConfigError, match="raise images, or lower pretext_images"):
        check_budget(config, sum(counts) + 1, sum(counts))
    check_budget(config, sum(counts), sum(counts))


def test_the_epochs_train_as_many_views_as_are_counted(monkeypatch):
    task, seen = make_task(), []

    class Watched(PretextNetwork):
        def forward(self, unit_BCHW):
            seen.append(len(unit_BCHW))
            return super().forward(unit_BCHW)

    monkeypatch.setattr(stage, "PretextNetwork", Watched)
    one = stage_of(task, pretext_images=500, pretext_batch=3)
    for number in (0, 1):
        before = sum(seen)
        one.stage.epoch(number)
        assert sum(seen) - before == pretext_images(one._config, 33, number)


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet", "test_vit"])
def test_a_classifier_takes_the_weights_and_keeps_its_last_layer(model):
    encoder = build_classifier(model, channels=1, num_classes=0)
    network = build_classifier(model, channels=1, num_classes=3)
    last = deepcopy(network.get_classifier().state_dict())
    load_body(network, encoder.state_dict())
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in encoder.state_dict().items())
    assert all(torch.equal(value, last[name]) for name, value in network.get_classifier().state_dict().items())
    with pytest.raises(ConfigError, match="has not the same tensors"):
        load_body(network, {"other": torch.zeros(1)})


@pytest.mark.parametrize(("validation", "shared"), [("official", True), ("realistic", False), ("labelled-cv", False)])
def test_it_holds_exactly_the_training_images_of_a_draw(validation, shared):
    tasks = [few_shot_task("digits", 5, label_set, validation) for label_set in (0, 1)]
    assert (len({stage_of(task).stage.entry.key for task in tasks}) == 1) == shared
    for task in tasks:
        pool = {image.numpy().tobytes() for image in stage_of(task)._images_NCHW}
        assert not pool & {image.numpy().tobytes() for image in task.validation.images_NCHW}
        images = [*task.labelled.images_NCHW, *task.unlabelled_NCHW]
        assert pool == {image.numpy().tobytes() for image in images}
    if validation == "labelled-cv":
        folds = [few_shot_task("digits", 5, 0, validation, fold=fold) for fold in (0, 1)]
        assert len({stage_of(task).stage.entry.key for task in folds}) == 2
