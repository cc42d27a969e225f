from math import log10, sqrt

import pytest
import torch
import torch.nn.functional as F

from trainables.stylegan.alias_free import FilteredLeakyReLU, layer_schedule, resample
from trainables.stylegan.equalised import EqualisedConv2d, EqualisedLinear, leaky_relu
from trainables.stylegan.generator import EmaStatistics, FourierInput, Mapping, StyleganGenerator, SynthesisLayer

TINY = {"resolution": 16, "num_layers": 4, "channels": 1, "channel_base": 64, "channel_max": 8, "z_dim": 8, "margin": 6}
BANDS = layer_schedule(32, num_layers=6, channel_base=1024, channel_max=64)


def new_layer(source=2, target=3, **options):
    torch.manual_seed(0)
    return SynthesisLayer(BANDS[source], BANDS[target], 16, **{"to_image": False, "may_reduce": False, **options})


def settled(generator, passes=3):
    """With running sizes of maps as large as they are."""
    for _ in range(passes):
        generator(torch.randn(8, generator.z_dim), statistics=EmaStatistics(0.5))
    return generator


# Parts


def test_equalised_layers_keep_unit_size_and_share_their_range():
    torch.manual_seed(0)
    linear, convolution = EqualisedLinear(400, 300), EqualisedConv2d(50, 40, 3, padding=1)
    for layer, inputs in ((linear, torch.randn(100, 400)), (convolution, torch.randn(8, 50, 8, 8))):
        weight = next(layer.parameters())
        assert abs(weight.std() - 1) < 0.02
        outputs = layer(inputs) if layer is linear else layer(inputs)[:, :, 1:-1, 1:-1]
        assert abs(outputs.std() - 1) < 0.1
    slow = EqualisedLinear(400, 300, bias=2.0, speed=0.01)
    assert abs(slow.weight_OI.std() - 100) < 2
    torch.testing.assert_close(slow(torch.zeros(1, 400)), torch.full((1, 300), 2.0))
    torch.testing.assert_close(leaky_relu(torch.tensor([1.0, -1.0])), torch.tensor([sqrt(2), -0.2 * sqrt(2)]))


def test_styles_are_truncated_towards_their_running_mean():
    torch.manual_seed(0)
    mapping, numbers = Mapping(8), torch.randn(16, 8)
    styles = mapping(numbers, statistics=EmaStatistics(0.5))
    torch.testing.assert_close(mapping.mean_Z, 0.002 * styles.mean(0).detach())
    torch.testing.assert_close(mapping(numbers), styles)
    torch.testing.assert_close(mapping(10 * numbers), styles)
    torch.testing.assert_close(mapping(numbers, psi=0.0), mapping.mean_Z.expand(16, -1))
    torch.testing.assert_close(mapping(numbers, psi=0.25), 0.75 * mapping.mean_Z + 0.25 * styles)


def test_waves_fill_the_disc_of_their_band_evenly():
    torch.manual_seed(0)
    waves = FourierInput(layer_schedule(256, channel_max=4096)[0], 8)
    radius = waves.frequencies_O2.norm(dim=1) / 2.0
    assert radius.max() <= 1
    for share in (0.25, 0.5, 0.75):
        assert abs((radius.square() < share).float().mean() - share) < 0.03
    angle = torch.atan2(*waves.frequencies_O2.T)
    assert abs(angle.cos().mean()) < 0.05
    assert abs(angle.sin().mean()) < 0.05


def test_the_style_turns_and_moves_the_waves():
    torch.manual_seed(0)
    waves = FourierInput(BANDS[0], 8)
    plain = waves(torch.zeros(1, 8))
    with torch.no_grad():
        waves.place.bias_O.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0]))  # a quarter turn, of any length
    torch.testing.assert_close(waves(torch.zeros(1, 8)), plain.rot90(1, (2, 3)), rtol=0, atol=1e-5)
    with torch.no_grad():
        waves.place.bias_O.copy_(torch.tensor([1.0, 0.0, 2 / 16, -3 / 16]))
    moved = waves(torch.zeros(1, 8))
    torch.testing.assert_close(moved[:, :, :-3, 2:], plain[:, :, 3:, :-2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_demodulated_outputs_have_unit_variance(seed):
    layer = new_layer()
    torch.manual_seed(seed)
    maps, styles = torch.randn(4, 64, 52, 52), torch.randn(4, 16)
    layer.bend = None
    variance = layer(maps, styles)[:, :, 2:-2, 2:-2].var((2, 3))
    assert abs(variance.mean() - 1) < 0.2


def test_the_size_of_a_style_changes_nothing_but_in_the_last_layer():
    torch.manual_seed(1)
    maps, styles = torch.randn(2, 64, 52, 52), torch.randn(2, 16)
    layer, last = new_layer(), new_layer(to_image=True)
    for each, factor in ((layer, 1.0), (last, 10.0)):
        before = each(maps, styles)
        with torch.no_grad():
            each.style.weight_OI.mul_(10)
            each.style.bias_O.mul_(10)
        torch.testing.assert_close(each(maps, styles), factor * before, rtol=1e-4, atol=1e-4)


def test_one_convolution_is_as_many_as_there_are_images():
    """The definition: weights modulated and demodulated for every image, as one grouped convolution."""
    layer = new_layer()
    layer.square.fill_(4.0)
    torch.manual_seed(1)
    maps, styles = torch.randn(3, 64, 52, 52), torch.randn(3, 16)
    with torch.no_grad():
        layer.bias_O.normal_()
        scales = layer.style(styles)
        weights = layer.weight_OIkk[None] * scales[:, None, :, None, None]
        weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt() / 2
        convolved = F.conv2d(maps.view(1, -1, 52, 52), weights.flatten(0, 1), padding=2, groups=3)
        expected = layer.bend(convolved.view(3, -1, 54, 54) + layer.bias_O[:, None, None])
        torch.testing.assert_close(layer(maps, styles), expected, rtol=1e-4, atol=1e-4)


def test_sizes_of_maps_are_followed_only_when_asked_to():
    layer = new_layer()
    maps, styles = torch.full((2, 64, 52, 52), 3.0), torch.randn(2, 16)
    layer(maps, styles)
    assert layer.square == 1.0
    layer(maps, styles, EmaStatistics(0.75))
    torch.testing.assert_close(layer.square, torch.tensor([0.75 + 0.25 * 9.0]))


def test_following_joins_uneven_shares():
    shares = [torch.randn(3, 5), torch.randn(1, 5)]
    sums = [torch.cat([each.sum(0), torch.tensor([float(len(each))])]) for each in shares]
    together = EmaStatistics(0.5, total=lambda own: sum(sums))
    torch.testing.assert_close(together.mean(shares[0]), torch.cat(shares).mean(0))


# The generator


@pytest.mark.parametrize(("resolution", "num_layers"), [(16, 4), (28, 6), (32, 6)])
def test_any_resolution(resolution, num_layers):
    generator = StyleganGenerator(**{**TINY, "resolution": resolution, "num_layers": num_layers, "channels": 3})
    assert generator(torch.randn(2, 8)).shape == (2, 3, resolution, resolution)


@pytest.mark.parametrize(
    ("resolution", "num_layers", "base", "most", "z_dim", "parameters"),
    [(16, 4, 128, 16, 32, 11_023), (32, 6, 256, 16, 32, 15_969), (32, 6, 512, 32, 64, 63_581)],
)
def test_as_many_parameters_as_measured_for_the_small_profiles(resolution, num_layers, base, most, z_dim, parameters):
    network = StyleganGenerator(
        resolution=resolution, num_layers=num_layers, channel_base=base, channel_max=most, z_dim=z_dim
    )
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_an_image_is_made_alone():
    torch.manual_seed(0)
    generator, numbers = settled(StyleganGenerator(**TINY)), torch.randn(4, 8)
    torch.testing.assert_close(generator(numbers[2:3]), generator(numbers)[2:3])
    assert generator(numbers, psi=0.0).std(0).max() < 1e-6
    assert generator(numbers).std(0).mean() > 0.01


def test_only_wide_layers_follow_autocast_and_none_up_to_64_px():
    torch.manual_seed(0)
    sizes = {"channel_base": 256, "channel_max": 4, "z_dim": 8, "margin": 4}
    small, large = (
        StyleganGenerator(resolution=64, num_layers=8, **sizes),
        StyleganGenerator(resolution=512, num_layers=14, **sizes),
    )
    assert not any(layer._may_reduce for layer in small.layers)
    reduced = [layer._may_reduce for layer in large.layers]
    assert reduced == [layer.rate * 16 > 512 for layer in layer_schedule(512, num_layers=14)]
    assert any(reduced)
    assert not all(reduced)
    numbers = torch.randn(1, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = small(numbers)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, small(numbers))


def test_reduced_convolutions_change_little():
    layer = new_layer(may_reduce=True)
    torch.manual_seed(1)
    maps, styles = torch.randn(2, 64, 52, 52), torch.randn(2, 16)
    exact, reduced = layer(maps, styles), layer(maps, styles, None, torch.bfloat16)
    assert reduced.dtype == torch.float32
    assert 0 < (exact - reduced).abs().mean() < 0.01


def test_gradients_of_gradients():
    torch.manual_seed(0)
    bands = layer_schedule(8, num_layers=3, channels=1, channel_base=8, channel_max=2, margin=2)
    layer = SynthesisLayer(bands[0], bands[-1], 3, to_image=False, may_reduce=False).double()
    maps = torch.randn(1, 2, bands[0].size, bands[0].size, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    check = {"atol": 1e-5, "fast_mode": True}
    torch.autograd.gradcheck(layer, (maps, styles), **check)
    torch.autograd.gradgradcheck(layer, (maps, styles), **check)


# Equivariance


class Aliased(torch.nn.Module):
    """The leaky ReLU before the filters instead of between them."""

    def __init__(self, filtered):
        super().__init__()
        self.filtered = filtered

    def forward(self, maps):
        bent = F.leaky_relu(maps, 0.2)
        return resample(resample(bent, self.filtered.enlarge_mn), self.filtered.reduce_nm)


def with_aliases(generator):
    for layer in generator.layers:
        if isinstance(layer.bend, FilteredLeakyReLU):
            layer.bend = Aliased(layer.bend)
    return generator


@torch.no_grad()
def equivariance(generator, numbers, shifts):
    """Decibels of what a shift by whole pixels (x, y) leaves of the range, over the squared difference."""
    still, errors = generator(numbers), []
    resolution = still.shape[-1]
    for x, y in shifts:
        moved = generator(numbers, shift_2=torch.tensor([-x, -y]) / resolution)
        expected = still.roll((y, x), (2, 3))
        inside = (slice(max(y, 0), resolution + min(y, 0)), slice(max(x, 0), resolution + min(x, 0)))
        errors.append((moved - expected)[:, :, *inside].square().mean())
    return 20 * log10(2) - 10 * log10(torch.stack(errors).mean())


def lanczos(shift):
    """Weights of the pixels from three before to two after that move a signal right by a part of a pixel."""
    distance = torch.arange(-3, 3) + shift
    weights = torch.sinc(distance) * torch.sinc(distance / 3)
    return weights / weights.sum()


@torch.no_grad()
def test_images_move_by_parts_of_a_pixel():
    torch.manual_seed(0)
    generator = settled(
        StyleganGenerator(resolution=32, num_layers=4, channels=1, channel_base=256, channel_max=16, z_dim=32)
    )
    numbers, (x, y) = torch.randn(4, 32), (0.4, 0.7)
    moved = generator(numbers, shift_2=torch.tensor([-x, -y]) / 32)
    kernel = torch.outer(lanczos(y), lanczos(x))
    expected = F.conv2d(generator(numbers), kernel[None, None])
    error = (moved[:, :, 3:-2, 3:-2] - expected).square().mean()
    assert 20 * log10(2) - 10 * log10(error) > 60


@pytest.mark.parametrize(("resolution", "num_layers", "at_least"), [(32, 4, 100), (32, 6, 90), (64, 8, 80)])
def test_images_move_in_one_piece_and_aliased_ones_less_so(resolution, num_layers, at_least):
    torch.manual_seed(0)
    generator = StyleganGenerator(
        resolution=resolution, num_layers=num_layers, channels=1, channel_base=256, channel_max=16, z_dim=32
    )
    settled(generator)
    numbers, shifts = torch.randn(4, 32), [(3, -2), (-4, 1), (2, 4)]
    clean = equivariance(generator, numbers, shifts)
    aliased = equivariance(settled(with_aliases(generator)), numbers, shifts)
    assert clean > at_least
    assert clean > aliased + 6
