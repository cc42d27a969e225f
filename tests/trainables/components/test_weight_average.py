import pytest
import torch
from torch import nn

from trainables.components.optimised_model import OptimisedModel
from trainables.components.weight_average import WeightAverage
from trainables.training.accelerator import new_accelerator


def test_it_is_the_closed_form():
    network = nn.Linear(1, 1, bias=False)
    path = torch.tensor([2.0, -1.0, 4.0, 0.5])
    with torch.no_grad():
        network.weight.fill_(path[0])
        average = WeightAverage(network, 0.9)
        for value in path[1:]:
            network.weight.fill_(value)
            average.update()
    expected = 0.9**3 * path[0] + sum(0.1 * 0.9 ** (3 - i) * path[i] for i in (1, 2, 3))
    torch.testing.assert_close(average.network.weight.detach(), expected.view(1, 1))
    assert network.weight.requires_grad
    assert not average.network.weight.requires_grad


def test_no_memory_is_the_network_itself():
    network = nn.Linear(2, 3)
    average = WeightAverage(network, 0.0)
    nn.init.ones_(network.weight)
    average.update()
    assert average.network.weight.eq(1).all()


def test_buffers_are_refused():
    with pytest.raises(ValueError, match="buffers"):
        WeightAverage(nn.BatchNorm1d(2), 0.9)


def model(accumulate=1, decay=0.5):
    torch.manual_seed(0)
    accelerator = new_accelerator(precision="no", cpu=True, accumulate=accumulate)
    return OptimisedModel(nn.Linear(2, 1), accelerator, lr=0.1, beta1=0.5, weight_decay=0.0, average_decay=decay)


@pytest.mark.parametrize(("losses", "updates"), [(1, 0), (2, 1), (3, 2), (4, 2)])
def test_an_average_follows_steps_not_losses(losses, updates):
    one, taken = model(accumulate=2), []
    one._average.update = lambda: taken.append(1)
    for _ in range(losses):
        one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert len(taken) == losses // 2
    one.finish()
    assert len(taken) == updates + (losses == 1)


def test_the_average_goes_round_with_the_rest_and_is_half_way():
    one, other = model(), model()
    start = one.module.weight.detach().clone()
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    torch.testing.assert_close(one.average.weight, (start + one.module.weight.detach()) / 2)
    other.load_state_dict(one.state_dict())
    assert other.average.weight.equal(one.average.weight)
    assert not other.average.weight.equal(other.module.weight)


def test_without_an_average_there_is_none():
    one = model(decay=None)
    assert set(one.state_dict()) == {"network", "optimiser"}
    with pytest.raises(ValueError, match="no average"):
        _ = one.average


def test_a_step_size_holds_from_then_on():
    one = model()
    one.set_lr(0.0)
    before = one.module.weight.detach().clone()
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert one.module.weight.equal(before)
    one.set_lr(0.25)
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert not one.module.weight.equal(before)
