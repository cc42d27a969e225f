import pytest
import torch
from torch import nn

from trainables.core.train import new_accelerator
from trainables.parts.trainee import Trainee


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, inputs):
        return self.used(inputs)


def trainee(precision="no"):
    torch.manual_seed(0)
    return Trainee(Halves(), new_accelerator(precision=precision, cpu=True), lr=0.1, beta1=0.5, weight_decay=0.5)


def test_what_the_loss_does_not_reach_stays_even_under_decay():
    one = trainee()
    before = {name: p.clone() for name, p in one.plain.named_parameters()}
    for _ in range(2):
        one.learn(one(torch.ones(3, 2)).sum())
    for name, p in one.plain.named_parameters():
        assert p.equal(before[name]) == name.startswith("unused")


def test_a_shared_loss_moves_each_as_its_own_would():
    first, second = trainee(), trainee()
    first.learn(first(torch.ones(3, 2)).sum() + second(torch.ones(3, 2)).sum(), second)
    alone = trainee()
    alone.learn(alone(torch.ones(3, 2)).sum())
    for one in (first, second):
        assert all(p.equal(q) for p, q in zip(one.plain.parameters(), alone.plain.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_outputs_are_float32_in_every_precision(precision):
    assert trainee(precision)(torch.ones(3, 2)).dtype == torch.float32


def test_state_goes_round():
    one, other = trainee(), trainee()
    one.learn(one(torch.ones(3, 2)).sum())
    other.load_state_dict(one.state_dict())
    for each in (one, other):
        each.learn(each(torch.ones(3, 2)).sum())
    assert all(p.equal(q) for p, q in zip(one.plain.parameters(), other.plain.parameters(), strict=True))
