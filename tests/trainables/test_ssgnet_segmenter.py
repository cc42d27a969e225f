import gc
import weakref
from dataclasses import replace
from math import cos, isfinite, pi

import pytest
import torch

from search_spaces.core.augmentation import NO_MOTION
from search_spaces.ssgnet_segmenter import SsgnetSegmenterConfig
from trainables import ssgnet_segmenter
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.train import Budget, train

from .test_segmenter import task

TINY = SsgnetSegmenterConfig(
    image_size=16, network="vm_unet", features=8, stages=2, d_state=2, drop_path=0.0, batch_size=4, steps_per_epoch=2,
    lr=1e-2, warm_up=0.0, average=0.0, **NO_MOTION,
    generator_images=16, generator_init="scratch", generator_batch=8, generator_width=4, generator_channel_base=32,
    z_dim=8, synthetic_images=12, round_images=16, rounds=2,
)  # fmt: skip
GENERATOR, ROUND = 1, 2
"""Epochs."""


def build(**changes):
    torch.manual_seed(1)
    return ssgnet_segmenter.build(replace(TINY, **changes), task(), new_accelerator(precision="no", cpu=True))


def advance(one, epochs):
    found = one.epochs()
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        losses = next(found)
    found.close()
    return losses


def test_rounds_follow_one_another():
    one = build()
    found = one.epochs()
    rounds = [dict(next(found)).get("round") for _ in range(GENERATOR + 3 * ROUND + 2)]
    assert rounds == [None, 0, 0, 1, 1, 2, 2, 2, 2]
    ends = [ssgnet_segmenter.METHOD.cycle_ends(TINY, epoch) for epoch in range(1, 10)]
    assert [epoch for epoch, end in enumerate(ends, 1) if end] == [3, 5], "the last round ends with the budget"
    found.close()


def test_masks_are_replaced_and_real_ones_stay():
    one = build()
    real = one._masks_NHW.clone()
    advance(one, GENERATOR + ROUND + 1)
    first = one._pseudo_MHW.clone()
    advance(one, ROUND)
    assert first.shape == one._pseudo_MHW.shape == (12, 16, 16), "of all rounds together no more than the bank"
    assert not torch.equal(first, one._pseudo_MHW)
    assert torch.equal(one._masks_NHW, real)


def test_a_round_lets_go_of_the_network_of_the_one_before():
    one = build()
    before = weakref.ref(one._segmenter._network.module)
    advance(one, GENERATOR + ROUND + 1)
    gc.collect()
    assert before() is None


def test_masks_are_those_of_the_round_before():
    one = build()
    advance(one, GENERATOR + ROUND)
    expected = (one._segmenter.predict(one._bank()) * 255).round().to(torch.uint8)
    advance(one, 1)
    assert torch.equal(one._pseudo_MHW, expected)


def test_only_plausible_and_sure_pictures_take_part():
    one = build(keep_fraction=0.25)
    advance(one, GENERATOR + ROUND + 1)
    assert len(one._kept) == 3
    none = build(min_foreground=1.0)
    assert advance(none, GENERATOR + ROUND + 1)["kept"] == 0.0, "then it learns from the labelled pictures alone"
    assert none._num_synthetic_until(100) == 0


def test_a_batch_holds_the_share_that_is_asked_for():
    one = build(max_synthetic=0.3)
    advance(one, GENERATOR + ROUND + 1)
    counts = [one._num_synthetic_until(step + 1) - one._num_synthetic_until(step) for step in range(50)]
    assert sum(counts) == pytest.approx(0.3 * 4 * 50, abs=1)


def test_unsure_pixels_do_not_count():
    one = build(pixel_confidence=0.9)
    advance(one, GENERATOR + ROUND + 1)
    _, _, weights = one._synthetic(8)
    sure = (one._pseudo_MHW[one._kept] / 255 - 0.5).abs() >= 0.4
    assert 0 <= weights.mean() <= 1
    assert bool(weights.any()) == bool(sure.any())


@pytest.mark.parametrize("soft", [False, True])
def test_synthetic_pictures_are_turned_with_their_masks(soft):
    one = build(rotation=90.0, flip=False, soft=soft, pixel_confidence=0.6)
    advance(one, GENERATOR + ROUND + 1)
    side = torch.arange(16.0)
    ramp = (side[:, None] + side) / 30
    one._pseudo_MHW = (ramp * 255).round().to(torch.uint8).expand(12, -1, -1)
    one._bank_MCHW = one._pseudo_MHW[:, None].expand(-1, 3, -1, -1)
    images, targets, weights = one._synthetic(8)
    shown = images[:, 0]
    assert (shown - ramp).abs().max() > 0.3
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    clear = (shown - 0.5).abs() > 0.2  # away from both borders
    assert clear.any()
    assert weights[clear].all()
    torch.testing.assert_close(targets[clear], (shown if soft else (shown > 0.5).float())[clear], atol=1e-5, rtol=0)


def test_a_batch_may_be_of_synthetic_pictures_alone():
    one = build(max_synthetic=1.0, synthetic_images=500, rotation=30.0)  # beside 8
    advance(one, GENERATOR + ROUND)
    found = one.epochs()
    assert next(found)["round"] == 1
    assert one._num_synthetic_until(60) - one._num_synthetic_until(59) == 4
    found.close()


@pytest.mark.parametrize(
    "stop", [GENERATOR, *(GENERATOR + done for done in (ROUND, ROUND + 1, 2 * ROUND + 1, 3 * ROUND + 1))]
)
def test_an_interrupted_run_ends_as_an_undisturbed_one(stop, tmp_path):
    sizes = [16, *[8] * 7]
    budget = Budget(images=sum(sizes), evaluate_every=1)

    def run(**options):
        accelerator = new_accelerator(precision="no", cpu=True)
        return train(ssgnet_segmenter.METHOD, TINY, task(), budget, seed=0, accelerator=accelerator, **options)

    straight = list(run())
    assert len(straight) == len(sizes)
    killed = run(checkpoints=Checkpoints(tmp_path))
    for _ in range(stop):
        next(killed)
    killed.close()
    resumed = list(run(checkpoints=Checkpoints(tmp_path)))
    assert [p.replayed for p in resumed] == [True] * stop + [False] * (len(sizes) - stop)
    assert [(dict(p.losses), p.scores) for p in resumed] == [(dict(p.losses), p.scores) for p in straight]
    assert set(resumed[-1].artefacts) == {"stages.json", "bank.png"}
    assert resumed[-1].artefacts["bank.png"] == straight[-1].artefacts["bank.png"]


def test_every_round_has_a_pace_of_its_own_and_the_last_takes_what_is_left():
    one, sizes = build(), [16, *[8] * 9]
    found, budget, shares = one.epochs(), 88, []
    for epoch, size in enumerate(sizes):
        one.begin_epoch(sum(sizes[:epoch]), budget)
        next(found)
        shares.append(one._segmenter.pace.share)
        assert one._segmenter._network.state_dict()["optimiser"]["param_groups"][0]["lr"] == pytest.approx(
            TINY.lr * (1 + cos(pi * shares[-1])) / 2 if epoch else TINY.lr
        ), size
    rounds = [6 / 16, 14 / 16]  # two epochs of two batches of four: the middle of the last batch of each
    last = [(8 * number + 6) / 40 for number in range(5)]  # 48 of 88 images are behind when it begins
    assert shares == pytest.approx([0.0, *rounds, *rounds, *last])
    found.close()


def test_an_average_goes_on_from_one_round_to_the_next():
    one = build(average=0.001, round_init="continue")
    found = one.epochs()
    for epoch in range(GENERATOR + 3 * ROUND):
        one.begin_epoch(16 * min(epoch, 1) + 8 * max(epoch - 1, 0), 64)
        assert all(isfinite(loss) for loss in next(found).values())
    found.close()


@pytest.mark.parametrize(("epochs", "told"), [(GENERATOR + 2 * ROUND, 1), (GENERATOR + 2 * ROUND + 1, 0)])
def test_a_budget_that_ends_before_the_last_round_is_told(epochs, told, caplog):
    sizes = [ssgnet_segmenter.METHOD.epoch_images(TINY, 0, 0, epoch) for epoch in range(epochs)]
    one = build()
    for epoch in (0, 1):
        one._epoch = epoch
        one.begin_epoch(sum(sizes[:epoch]), sum(sizes))
    assert caplog.text.count("the budget ends before the last round begins") == told
