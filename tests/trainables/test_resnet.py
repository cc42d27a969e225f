from dataclasses import replace
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F

from search_spaces.core.augmentation import NO_MOTION
from search_spaces.core.schedule import CONSTANT_RATE, NO_AVERAGE
from search_spaces.resnet import ResnetConfig
from trainables import resnet
from trainables.components.meters import Means
from trainables.core.method import Labelled
from trainables.nets.backbone import build_classifier
from trainables.training.accelerator import new_accelerator

from .test_sparse_waits import Waits

TINY = {"classifier": "test_resnet", "image_size": 16, "batch_size": 4, "lr": 1e-3}
PLAIN = {**CONSTANT_RATE, **NO_AVERAGE}
STILL = {"flip": False, **NO_MOTION, **PLAIN}
BUDGET = 16
"""Epochs of a run."""


def learner(task, **changes):
    torch.manual_seed(1)
    return resnet.build(ResnetConfig(**(TINY | changes)), task, new_accelerator(precision="no", cpu=True))


def train(one, first, last):
    epochs, images = one.epochs(), len(one._labels_N)
    losses = []
    for epoch in range(first, last):
        torch.manual_seed(epoch)
        one.begin_epoch(epoch * images, max(BUDGET, last) * images)
        losses.append(next(epochs)["loss"])
    return losses


def lr_of(one):
    (group,) = one.state_dict()["classifier"]["optimiser"]["param_groups"]
    return group["lr"]


def unbalanced(task, labels):
    """The task with other labels, all for images of its own."""
    labels_N = torch.tensor(labels)
    return replace(task, labelled=Labelled(task.labelled.images_NCHW[: len(labels_N)], labels_N))


def test_the_papers_networks_are_built_at_full_size():
    for preset, num_weights in [("paper", 21_285_698), ("whole", 23_512_130)]:
        network = build_classifier(ResnetConfig.preset(preset).classifier, channels=3, num_classes=2)
        assert sum(weight.numel() for weight in network.parameters()) == num_weights


def test_no_preset_needs_weights_from_elsewhere():
    assert not any(ResnetConfig.preset(name).pretrained for name in ResnetConfig.presets)


def test_it_learns_its_labelled_images(make_task):
    task = make_task()
    one = learner(task, lr=3e-3, plateau_factor=1.0, **STILL)
    losses = train(one, 0, 60)  # of one batch of four: single ones swing
    assert fmean(losses[-10:]) < 0.7 * fmean(losses[:5])
    assert one.predict(task.labelled.images_NCHW)["resnet"].argmax(1).equal(task.labelled.labels_N)


def test_adam_goes_down_the_weighted_loss(make_task):
    task = unbalanced(make_task(num_classes=2), [0, 0, 0, 1])
    one = learner(task, **STILL)
    twin = learner(task, **STILL)._classifier.module
    (loss,) = train(one, 0, 1)
    logits_BK = twin(task.labelled.images_NCHW / 255)
    weights_B = torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0])  # 4 images, 2 classes: 4 / (2 · 3) and 4 / (2 · 1)
    expected = (weights_B * F.cross_entropy(logits_BK, task.labelled.labels_N, reduction="none")).mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    optimiser = one.state_dict()["classifier"]["optimiser"]
    (group,) = optimiser["param_groups"]
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0.0)
    for number, weight in enumerate(twin.parameters()):
        torch.testing.assert_close(optimiser["state"][number]["exp_avg"], 0.1 * weight.grad, rtol=1e-3, atol=1e-5)


def test_class_weights_matter_where_classes_differ_in_size(make_task):
    for labels, same in [([0, 1, 2, 0, 1, 2], True), ([0, 0, 0, 0, 1, 2], False)]:
        task = unbalanced(make_task(), labels)
        first, second = (train(learner(task, class_weights=on), 0, 2) for on in (False, True))
        assert (first == second) == same


def test_a_resumed_run_is_the_undisturbed_one(make_task, tmp_path):
    # Steps of 0 leave the loss to the augmentation's noise, so the plateau falls within the first epochs.
    task, settings = make_task(), {"patience": 2 / BUDGET, "lr": 1e-7, "plateau_factor": 0.5, **CONSTANT_RATE}
    straight, stopped, resumed = (learner(task, **settings) for _ in range(3))
    expected = train(straight, 0, 12)
    train(stopped, 0, 7)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert lr_of(stopped) == lr_of(resumed) < 1e-7
    assert train(resumed, 7, 12) == expected[7:]
    assert lr_of(resumed) == lr_of(straight) < lr_of(stopped)
    images = task.validation.images_NCHW
    assert resumed.predict(images)["resnet"].equal(straight.predict(images)["resnet"])


def test_the_step_size_falls_at_a_plateau_of_the_training_loss(make_task, monkeypatch):
    one = learner(make_task(), patience=2 / BUDGET, lr=1e-3, **PLAIN)
    script = iter([3.0, 2.0, 2.5, 2.5, 1.0, 1.0, 1.0])
    monkeypatch.setattr(Means, "read", lambda means: {"loss": next(script)})
    sizes = []
    for epoch in range(7):
        train(one, epoch, epoch + 1)
        sizes.append(lr_of(one))
    assert sizes == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5])


def test_a_plateau_multiplies_what_the_schedule_says(make_task, monkeypatch):
    falling = {"schedule": "linear", "decay_start": 0.0, "warm_up": 0.0}
    one = learner(make_task(), patience=1 / BUDGET, lr=1e-3, plateau_factor=0.1, batch_size=9, **falling)
    monkeypatch.setattr(Means, "read", lambda means: {"loss": 1.0})
    sizes = []
    for epoch in range(3):
        train(one, epoch, epoch + 1)
        one._train_batch(torch.arange(9), Means())
        sizes.append(lr_of(one))
    shares = [(epoch + 1.5) / BUDGET for epoch in range(3)]
    assert sizes == pytest.approx([1e-3 * 0.1**n * (1 - share) for n, share in enumerate(shares)])


def test_an_epoch_looks_at_nothing(make_task, monkeypatch):
    one = learner(make_task())
    monkeypatch.setattr(Means, "read", lambda means: {"loss": 1.0})
    with Waits() as waits:
        train(one, 0, 2)
    assert waits.total() == 0, waits.counts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_waits_for_it(make_task):
    one = resnet.build(ResnetConfig(**TINY), make_task(), new_accelerator(precision="no", cpu=False))
    next(one.epochs())  # kernels are loaded
    index = torch.arange(4, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        one._train_batch(index, Means())
    finally:
        torch.cuda.set_sync_debug_mode("default")
