import pytest
import torch
from torch import nn

from trainables.components.modes import batch_norm_counts, evaluated, frozen, gathering_statistics


def _expect_training(network):
    if not network.training:
        raise RuntimeError("evaluated")


def test_evaluated_puts_each_mode_back_even_after_an_error():
    training, resting = nn.Dropout(), nn.Dropout().eval()
    with pytest.raises(RuntimeError), evaluated(training, resting):
        _expect_training(training)
    assert training.training
    assert not resting.training


def test_where_statistics_are_gathered_only_batch_norm_trains():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)))
    with gathering_statistics(), evaluated(network):
        assert [m.training for m in (network, network[1][0])] == [False, False]
        assert network[0].training
        assert network[1][1].training
        network(torch.rand(4, 3))
    assert all(module.training for module in network.modules())
    assert network[0].num_batches_tracked == 1
    with evaluated(network):
        assert not any(module.training for module in network.modules())


def test_gathering_ends_even_after_an_error():
    norm = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="more than 1 value"), gathering_statistics(), evaluated(norm):
        norm(torch.rand(1, 3))
    with evaluated(norm):
        assert not norm.training


def test_frozen_passes_gradients_on_and_keeps_none():
    layer, inputs = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    with frozen(layer):
        layer(inputs).sum().backward()
    assert inputs.grad is not None
    assert all(p.grad is None and p.requires_grad for p in layer.parameters())


def test_what_did_not_learn_before_it_was_frozen_does_not_learn_after():
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with frozen(layer):
        assert not layer.weight.requires_grad
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


def test_a_pass_that_counts_twice_leaves_the_statistics_of_two():
    images = torch.randn(4, 3, 5, 5)
    once, twice = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    twice(images)
    twice(images)
    with batch_norm_counts(once, 2):
        once(images)
    torch.testing.assert_close(once.running_mean, twice.running_mean)
    torch.testing.assert_close(once.running_var, twice.running_var)
    assert once.momentum == 0.1
