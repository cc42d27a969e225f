import pytest
import torch

from search_spaces.ssl_gan import first_map
from trainables.nets.ssl_gan import Discriminator, SslGanGenerator, pooled_features


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("num_classes", "expected"), [(2, 1_738_852), (10, 1_740_404)])
def test_the_discriminator_has_as_many_parameters_as_the_paper(num_classes, expected):
    network = Discriminator(channels=3, num_classes=num_classes)
    assert count(network) == expected
    assert sum(p.numel() for p in network.parameters() if not p.requires_grad) == 1_632
    assert not list(network.buffers())


@pytest.mark.parametrize(
    ("tail", "side", "sides"),
    [
        ("dr", 25, [25, 25, 13, 13, 13, 7, 3, 1, 1, 1]),
        ("dr", 28, [28, 28, 14, 14, 14, 7, 3, 1, 1, 1]),
        ("dr", 32, [32, 32, 16, 16, 16, 8, 3, 1, 1, 1]),
        ("dr", 64, [64, 64, 32, 32, 32, 16, 7, 3, 3, 3]),
        ("dr", 96, [96, 96, 48, 48, 48, 24, 11, 5, 5, 5]),
        ("dr", 128, [128, 128, 64, 64, 64, 32, 15, 7, 7, 7]),
        ("conv_large", 9, [9, 9, 5, 5, 5, 3, 1, 1, 1]),
        ("conv_large", 32, [32, 32, 16, 16, 16, 8, 6, 6, 6]),
    ],
)
def test_every_convolution_has_the_size_of_the_table(tail, side, sides):
    network, seen = Discriminator(channels=1, num_classes=5, width=3, tail=tail), []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape[1:]))
    logits, last = network(torch.rand(2, 1, side, side))
    widths = [3] * 3 + [6] * (len(sides) - 3)
    assert seen == [(width, s, s) for width, s in zip(widths, sides, strict=True)]
    assert last.shape == (2, 6, sides[-1], sides[-1])
    assert logits.shape == (2, 5)


def test_a_side_too_small_leaves_nothing():
    with pytest.raises(RuntimeError):
        Discriminator(channels=1, num_classes=2, width=3)(torch.rand(1, 1, 24, 24))


def test_an_image_is_judged_alone():
    network = Discriminator(channels=3, num_classes=4, width=3).eval()
    images = torch.rand(5, 3, 28, 28)
    torch.testing.assert_close(network(images[1:3])[0], network(images)[0][1:3])


def test_dropout_is_where_the_table_has_it():
    network = Discriminator(channels=1, num_classes=2, drop_in=0.3, drop_hidden=0.6)
    places = [(i, layer.p) for i, layer in enumerate(network.trunk) if isinstance(layer, torch.nn.Dropout)]
    assert places == [(0, 0.3), (4, 0.6), (8, 0.6)]


def test_a_mean_over_pixels_is_taken_in_float32():
    map_BDhw = torch.rand(2, 3, 7, 7)
    halved = pooled_features(map_BDhw.bfloat16())
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, map_BDhw.bfloat16().float().mean((2, 3)))
    assert pooled_features(map_BDhw.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("side", "expected"),
    [(28, 5_855_494), (32, 4_941_958), (64, 5_351_814), (96, 6_396_294), (128, 5_551_942)],
)
def test_the_generator_has_as_many_parameters_as_the_table(side, expected):
    first_side, num_doublings = first_map(side)
    with torch.device("meta"):
        network = SslGanGenerator(channels=3, first_side=first_side, num_doublings=num_doublings)
    assert count(network) == expected


@pytest.mark.parametrize("side", [8, 28, 32, 64, 96, 128])
def test_the_generator_doubles_to_the_size_of_the_image(side):
    first_side, num_doublings = first_map(side)
    network = SslGanGenerator(channels=2, first_side=first_side, num_doublings=num_doublings, width=8, z_dim=6)
    images = network(torch.rand(3, 6))
    assert images.shape == (3, 2, side, side)
    assert -1 < images.min() < images.max() < 1


def test_scales_of_the_generators_norms_are_not_learned_and_shifts_are():
    network = SslGanGenerator(channels=1, first_side=4, num_doublings=2, width=8)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert len(norms) == 2
    assert all(n.bias.requires_grad and not n.weight.requires_grad and n.weight.eq(1).all() for n in norms)
