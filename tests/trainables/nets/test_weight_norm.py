from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainables.nets.ssl_gan import Discriminator, SslGanGenerator
from trainables.nets.weight_norm import gain_of, initialise_by_data, weight_normed

INIT = {"init_std": 0.05, "train_gain": False}


@pytest.mark.parametrize(
    ("layer", "shape", "others"),
    [
        (nn.Conv2d(3, 5, 3), (5, 1, 1, 1), (1, 2, 3)),
        (nn.Linear(3, 5), (5, 1), (1,)),
        (nn.ConvTranspose2d(3, 5, 3), (1, 5, 1, 1), (0, 2, 3)),
    ],
    ids=["convolution", "linear", "transposed"],
)
def test_a_gain_per_output_channel_is_the_length_of_its_weights(layer, shape, others):
    weight_normed(layer, **INIT)
    assert gain_of(layer).shape == shape
    assert not gain_of(layer).requires_grad
    assert layer.bias.eq(0).all()
    with torch.no_grad():
        gain_of(layer).copy_(torch.arange(1.0, 6.0).view(shape))
    torch.testing.assert_close(layer.weight.square().sum(others).sqrt(), torch.arange(1.0, 6.0))


def test_the_weight_is_the_direction_times_the_gain():
    layer = weight_normed(nn.Conv2d(2, 3, 3), **INIT)
    direction = layer.parametrizations.weight.original1
    assert 0.03 < direction.std() < 0.07
    unit = direction / direction.flatten(1).norm(dim=1).view(3, 1, 1, 1)
    images = torch.rand(1, 2, 5, 5)
    torch.testing.assert_close(layer(images), F.conv2d(images, unit))


def outputs_by_layer(network, inputs):
    """What every weight-normalised layer gives, in order."""
    seen = []
    layers = [m for m in network.modules() if hasattr(m, "parametrizations")]
    hooks = [layer.register_forward_hook(lambda layer, given, output: seen.append(output.clone())) for layer in layers]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return seen


def moments(output):
    dims = [0, *range(2, output.ndim)]
    return output.mean(dims), output.std(dims, correction=0)


@pytest.mark.parametrize("side", [28, 64])
def test_after_it_every_layer_has_mean_0_and_deviation_1_on_the_same_data(side):
    torch.manual_seed(0)
    network = Discriminator(channels=3, num_classes=4, width=6)
    images = torch.rand(60, 3, side, side)
    torch.manual_seed(1)
    initialise_by_data(network, images, output=network.output)
    torch.manual_seed(1)  # the same masks of dropout
    *hidden, logits = (moments(output.detach()) for output in outputs_by_layer(network, images))
    assert len(hidden) == 10
    for mean, std in hidden:
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=1e-3, rtol=0)
    torch.testing.assert_close(logits[1], torch.full((4,), 0.1), atol=1e-3, rtol=0)
    torch.manual_seed(2)  # and much the same with others
    *hidden, logits = (moments(output.detach()) for output in outputs_by_layer(network, images))
    assert all(0.8 < std.mean() < 1.25 for _, std in hidden)
    assert 0.05 < logits[1].mean() < 0.2


def test_the_generators_last_layer_starts_small_and_its_others_stay():
    torch.manual_seed(0)
    network = SslGanGenerator(channels=2, first_side=4, num_doublings=2, width=8, z_dim=5)
    before = deepcopy(network.state_dict())
    numbers = torch.rand(40, 5)
    initialise_by_data(network, numbers, output=network.output)
    (output,) = outputs_by_layer(network, numbers)
    mean, std = moments(output.detach())
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.full((2,), 0.1), atol=1e-3, rtol=0)
    changed = {name for name, tensor in network.state_dict().items() if not tensor.equal(before[name])}
    learned = {name for name, _ in network.named_parameters()}
    assert changed & learned == {"output.bias", "output.parametrizations.weight.original0"}


def test_only_the_last_gain_learns():
    network = Discriminator(channels=1, num_classes=2, width=3)
    learned = [name for name, p in network.named_parameters() if "original0" in name and p.requires_grad]
    assert learned == ["output.parametrizations.weight.original0"]
    network = Discriminator(channels=1, num_classes=2, width=3, train_gain=True)
    assert all(p.requires_grad for p in network.parameters())


def test_a_constant_channel_stays_finite():
    network = Discriminator(channels=1, num_classes=2, width=3, drop_in=0.0, drop_hidden=0.0)
    images = torch.zeros(4, 1, 28, 28)
    initialise_by_data(network, images, output=network.output)
    assert all(p.isfinite().all() for p in network.parameters())
    assert network(images)[0].isfinite().all()


def test_it_gives_no_gradient_and_leaves_no_hook():
    network = Discriminator(channels=1, num_classes=2, width=3)
    initialise_by_data(network, torch.rand(4, 1, 28, 28), output=network.output)
    assert all(p.grad is None for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_state_dict_gives_the_same_logits():
    first, second = (Discriminator(channels=3, num_classes=2, width=4).eval() for _ in range(2))
    images = torch.rand(6, 3, 32, 32)
    initialise_by_data(first, images, output=first.output)
    second.load_state_dict(first.state_dict())
    assert second(images)[0].equal(first(images)[0])
