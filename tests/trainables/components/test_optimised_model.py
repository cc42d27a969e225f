import pytest
import torch
from torch import nn

from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import Pace
from trainables.training.accelerator import new_accelerator


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, inputs):
        return self.used(inputs)


def model(precision="no"):
    torch.manual_seed(0)
    return OptimisedModel(Halves(), new_accelerator(precision=precision, cpu=True), lr=0.1, beta1=0.5, weight_decay=0.5)


def test_what_the_loss_does_not_reach_stays_even_under_decay():
    one = model()
    before = {name: p.clone() for name, p in one.module.named_parameters()}
    for _ in range(2):
        one.backward_and_step(one(torch.ones(3, 2)).sum())
    for name, p in one.module.named_parameters():
        assert p.equal(before[name]) == name.startswith("unused")


def test_a_shared_loss_moves_each_as_its_own_would():
    first, second = model(), model()
    first.backward_and_step(first(torch.ones(3, 2)).sum() + second(torch.ones(3, 2)).sum(), second)
    alone = model()
    alone.backward_and_step(alone(torch.ones(3, 2)).sum())
    for one in (first, second):
        assert all(p.equal(q) for p, q in zip(one.module.parameters(), alone.module.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_outputs_are_float32_in_every_precision(precision):
    assert model(precision)(torch.ones(3, 2)).dtype == torch.float32


@pytest.mark.parametrize("pace", [None, Pace(lambda share: 0.5)], ids=["alone", "paced"])
def test_the_scale_of_a_step_is_of_that_step_alone(pace):
    one = OptimisedModel(Halves(), new_accelerator(precision="no", cpu=True), lr=0.1, beta1=0.5, weight_decay=0.5,
                         pace=pace)  # fmt: skip
    rates = []
    for scale in (1.0, 0.2, 1.0):
        one.backward_and_step(one(torch.ones(3, 2)).sum(), scale=scale)
        rates.append(one.state_dict()["optimiser"]["param_groups"][0]["lr"])
    assert rates == pytest.approx([0.1, 0.02, 0.1])


def test_the_step_for_a_rest_has_the_scale_of_its_losses():
    one = OptimisedModel(
        Halves(), new_accelerator(precision="no", cpu=True, accumulate=2), lr=0.1, beta1=0.5, weight_decay=0.5
    )
    one.backward_and_step(one(torch.ones(3, 2)).sum(), scale=0.2)
    one.finish()
    assert one.state_dict()["optimiser"]["param_groups"][0]["lr"] == pytest.approx(0.02)


def test_state_goes_round():
    one, other = model(), model()
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    other.load_state_dict(one.state_dict())
    for each in (one, other):
        each.backward_and_step(each(torch.ones(3, 2)).sum())
    assert all(p.equal(q) for p, q in zip(one.module.parameters(), other.module.parameters(), strict=True))


def learned(batches, accumulate):
    """Parameters after one loss a batch and the end of the pass."""
    torch.manual_seed(0)
    accelerator = new_accelerator(precision="no", cpu=True, accumulate=accumulate)
    one = OptimisedModel(Halves(), accelerator, lr=0.1, beta1=0.5, weight_decay=0.5)
    steps = 0
    for batch in batches:
        one.backward_and_step(one(batch).square().mean())
        steps += one._gathered == 0
    steps += one._gathered > 0
    one.finish()
    return steps, list(one.module.parameters())


@pytest.mark.parametrize("count", [2, 3, 4])
def test_accumulated_batches_are_one_batch_also_at_a_short_end(count):
    torch.manual_seed(2)
    batches = list(torch.randn(count, 6, 2))
    joined = [torch.cat(batches[:3])] + ([batches[3]] if count == 4 else [])
    (steps, ours), (expected_steps, expected) = learned(batches, 3), learned(joined, 1)
    assert steps == expected_steps == len(joined)
    for p, q in zip(ours, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_what_accumulates_is_the_gradient_of_each_alone():
    accelerator = new_accelerator(precision="no", cpu=True, accumulate=2)
    first, second = (OptimisedModel(Halves(), accelerator, lr=0.1, beta1=0.5, weight_decay=0.5) for _ in range(2))
    before = [p.clone() for p in first.module.parameters()]
    first.backward_and_step(first(torch.ones(3, 2)).sum())
    second.backward_and_step(second(torch.ones(3, 2)).sum())
    assert all(p.equal(q) for p, q in zip(first.module.parameters(), before, strict=True))
    first.backward_and_step(first(torch.ones(3, 2)).sum())
    assert not first.module.used.weight.equal(before[0])
    assert second._gathered == 1
