from math import cos, pi

import pytest
import torch
from torch import nn

from search_spaces.core.schedule import ScheduledConfig
from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import Pace, pace_of
from trainables.training.accelerator import new_accelerator

EPOCHS = [(4, 6), (5, 5), (10,), (2, 3, 5)]
"""Images of the batches of each epoch; a budget of 40 with none left."""
BUDGET = 40
MIDDLES = [2, 7, 12.5, 17.5, 25, 31, 33.5, 37.5]
"""Images of the budget that are behind the middle of each batch."""


def config(**changes):
    return ScheduledConfig(**({"warm_up": 0.0} | changes))


def followed(pace, epochs=EPOCHS, seen=0, budget=BUDGET):
    """Share and scale at every batch."""
    found = []
    for batches in epochs:
        pace.begin_epoch(seen, budget)
        for images in batches:
            pace.advance(images)
            found.append((pace.share, pace.scale))
        seen += sum(batches)
    return found


def falls(share):
    """Scales by hand, by schedule."""
    return {
        "constant": 1.0,
        "cosine": 0.5 + 0.5 * cos(pi * share),
        "linear": min(1.0, (1 - share) / (1 - 0.3)),
        "poly": (1 - share) ** 0.9,
    }


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "poly"])
@pytest.mark.parametrize("warm_up", [0.0, 0.2, 1.0])
def test_a_scale_belongs_to_the_middle_of_each_batch(schedule, warm_up):
    found = followed(pace_of(config(schedule=schedule, decay_start=0.3, warm_up=warm_up)))
    shares = [middle / BUDGET for middle in MIDDLES]
    assert [share for share, _ in found] == pytest.approx(shares, rel=1e-12)
    rises = [min(1.0, share / warm_up) if warm_up else 1.0 for share in shares]
    expected = [rise * falls(share)[schedule] for rise, share in zip(rises, shares, strict=True)]
    assert [scale for _, scale in found] == pytest.approx(expected, rel=1e-12)


def test_a_resumed_run_only_hears_where_it_stands():
    straight = followed(pace_of(config()))
    assert followed(pace_of(config()), EPOCHS[2:], seen=20) == straight[4:]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "poly"])
def test_nothing_lies_beyond_the_end(schedule):
    pace = pace_of(config(schedule=schedule))
    pace.begin_epoch(39, BUDGET)
    for _ in range(3):
        pace.advance(10)
        assert (pace.share, pace.scale) == (1.0, pytest.approx(0.0, abs=1e-15))


def test_before_the_beginning_and_without_a_budget():
    """Of a part of a training that begins later, as the classifier behind generators, and of one told nothing."""
    pace = Pace(lambda share: share)
    pace.advance(5)
    assert (pace.share, pace.scale) == (0.0, 1.0)
    pace.begin_epoch(-20, 10)
    assert pace.share == 0.0
    pace.begin_epoch(0, 0)
    assert pace.share == 0.0


def rate(model):
    (group,) = model.state_dict()["optimiser"]["param_groups"]
    return group["lr"]


def model(pace, accumulate=1):
    torch.manual_seed(0)
    accelerator = new_accelerator(precision="no", cpu=True, accumulate=accumulate)
    return OptimisedModel(nn.Linear(2, 1), accelerator, lr=0.1, beta1=0.5, weight_decay=0.0, pace=pace)


def test_every_step_has_its_own_size():
    pace = Pace(lambda share: 1 - share)
    one = model(pace)
    pace.begin_epoch(0, 8)
    for number in range(4):
        pace.advance(2)
        one.backward_and_step(one(torch.ones(2, 2)).sum())
        assert rate(one) == pytest.approx(0.1 * (1 - (2 * number + 1) / 8), rel=1e-12)


def test_a_base_rate_and_the_scale_of_a_single_step_multiply():
    pace = Pace(lambda share: 0.5)
    one = model(pace)
    pace.begin_epoch(0, 8)
    for base, scale, expected in [(0.1, 1.0, 0.05), (0.1, 3.0, 0.15), (0.1, 1.0, 0.05), (0.4, 1.0, 0.2)]:
        one.set_lr(base)
        pace.advance(2)
        one.backward_and_step(one(torch.ones(2, 2)).sum(), scale=scale)
        assert rate(one) == pytest.approx(expected, rel=1e-12)


def test_a_scale_is_the_size_of_the_step_which_adam_makes_of_any_gradient():
    moved = {}
    for scale in (1.0, 0.25):
        one = model(None)
        before = one.module.weight.detach().clone()
        one.backward_and_step(one(torch.ones(2, 2)).sum(), scale=scale)
        moved[scale] = one.module.weight.detach() - before
    torch.testing.assert_close(moved[0.25], 0.25 * moved[1.0])
