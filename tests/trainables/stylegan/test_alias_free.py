from itertools import pairwise
from math import log10, pi

import pytest
import torch

from tests.trainables.naive_alias_free import stuffed, transposed
from trainables.stylegan.alias_free import FilteredLeakyReLU, Resampling, layer_schedule, resample

SMALL = layer_schedule(32, num_layers=6, channel_base=1024, channel_max=64)
PAIRS = list(pairwise((SMALL[0], *SMALL)))[:6]

TABLE_256 = """
2.000 4.287 16 6.000 36 512 2 2
2.828 5.789 16 5.172 36 512 2 2
4.000 7.817 16 4.000 36 512 2 2
5.657 10.556 32 10.343 52 512 4 2
8.000 14.254 32 8.000 52 512 2 2
11.314 19.248 64 20.686 84 512 4 2
16.000 25.992 64 16.000 84 512 2 2
22.627 35.098 128 41.373 148 512 4 2
32.000 47.395 128 32.000 148 512 2 2
45.255 64.000 128 18.745 148 362 2 2
64.000 86.422 256 64.000 276 256 4 2
90.510 116.700 256 37.490 276 181 2 2
128.000 157.586 256 29.586 276 128 2 2
128.000 157.586 256 29.586 256 128 2 2
128.000 157.586 256 29.586 256 3 2 2
"""
TABLE_32 = """
2.000 4.287 16 6.000 36 64 2 2
3.364 6.277 16 4.636 36 64 2 2
5.657 9.190 32 10.343 52 64 4 2
9.514 13.454 32 6.486 52 54 2 2
16.000 19.698 32 3.698 52 32 2 2
16.000 19.698 32 3.698 32 32 2 2
16.000 19.698 32 3.698 32 3 2 2
"""


@pytest.mark.parametrize(("bands", "table"), [(layer_schedule(256), TABLE_256), (SMALL, TABLE_32)])
def test_schedules_are_the_published_ones(bands, table):
    rows = [list(map(float, line.split())) for line in table.split("\n") if line]
    assert len(rows) == len(bands)
    for row, (source, band) in zip(rows, pairwise((bands[0], *bands)), strict=True):
        steps = Resampling(source, band, 2)
        found = [band.cutoff, band.stopband, band.rate, band.half_width, band.size, band.channels, steps.up, steps.down]
        assert [round(value, 3) for value in found] == row


def test_half_the_channel_base_halves_what_is_not_at_the_maximum():
    channels = [band.channels for band in layer_schedule(256, channel_base=16384)]
    assert channels == [512] * 7 + [362, 256, 181, 128, 91, 64, 64, 3]


@pytest.mark.parametrize(
    ("resolution", "num_layers", "cutoffs", "rates"),
    [
        (128, 14, [2, 2.670, 3.564, 4.757, 6.350, 8.476, 11.314, 15.102, 20.159, 26.909, 35.919, 47.946, 64, 64, 64],
         [16] * 3 + [32] * 3 + [64] * 3 + [128] * 6),
        (64, 14, [2, 2.520, 3.175, 4, 5.040, 6.350, 8, 10.079, 12.699, 16, 20.159, 25.398, 32, 32, 32],
         [16] * 4 + [32] * 4 + [64] * 7),
        (64, 8, [2, 3.175, 5.040, 8, 12.699, 20.159, 32, 32, 32], [16] * 2 + [32] * 2 + [64] * 5),
        (32, 14, [2, 2.378, 2.828, 3.364, 4, 4.757, 5.657, 6.727, 8, 9.514, 11.314, 13.454, 16, 16, 16],
         [16] * 5 + [32] * 10),
        (28, 6, None, [16] * 2 + [32] * 5),
    ],
)  # fmt: skip
def test_other_resolutions(resolution, num_layers, cutoffs, rates):
    bands = layer_schedule(resolution, num_layers=num_layers)
    assert [band.rate for band in bands] == rates
    assert [band.size for band in bands[-2:]] == [resolution] * 2
    assert cutoffs is None or [round(band.cutoff, 3) for band in bands] == cutoffs


def test_128_px_stop_bands_and_channels():
    bands = layer_schedule(128)
    found = [round(band.stopband, 3) for band in bands]
    assert found[:6] == [4.287, 5.464, 6.964, 8.877, 11.314, 14.420]
    assert found[6:] == [18.379, 23.425, 29.857, 38.055, 48.503, 61.820, 78.793, 78.793, 78.793]
    assert [band.channels for band in bands] == [512] * 10 + [456, 342, 256, 256, 3]


def gain(filter_T, frequencies, rate):
    tap = torch.arange(len(filter_T), dtype=torch.float64)
    waves = torch.exp(-2j * pi * torch.as_tensor(frequencies, dtype=torch.float64)[:, None] * tap / rate)
    return (waves @ filter_T.to(waves)).abs()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_filters_are_symmetric_low_passes(source, target):
    steps = Resampling(source, target, 2)
    for band, factor, filter_T in zip((source, target), (steps.up, steps.down), steps.filters(), strict=True):
        assert len(filter_T) == 6 * factor
        torch.testing.assert_close(filter_T, filter_T.flip(0), rtol=0, atol=1e-15)
        assert abs(float(filter_T.sum()) - 1) < 1e-6
        stop = torch.linspace(band.cutoff + band.half_width, steps.rate / 2, 500)
        kaiser = 2.285 * (len(filter_T) - 1) * pi * 2 * band.half_width / (steps.rate / 2) + 7.95
        assert 20 * log10(gain(filter_T, stop, steps.rate).max()) <= -(kaiser - 5)


@pytest.mark.parametrize(
    ("layer", "way", "at_cutoff", "worst"),
    [(0, 1, 0.768, -62.4), (2, 0, 0.542, -53.4), (3, 1, 0.496, -37.9), (5, 1, 0.468, -27.5)],
)
def test_measured_responses(layer, way, at_cutoff, worst):
    steps = Resampling(*PAIRS[layer], 2)
    band, filter_T = PAIRS[layer][way], steps.filters()[way]
    stop = torch.linspace(band.cutoff + band.half_width, steps.rate / 2, 500)
    assert round(float(gain(filter_T, [band.cutoff], steps.rate)), 3) == at_cutoff
    assert round(20 * log10(gain(filter_T, stop, steps.rate).max()), 1) == worst


@pytest.mark.parametrize(
    ("source", "target", "padding"),
    [(3, 3, (9, 8)), (1, 2, (-6, -9)), (4, 5, (-11, -12)), (0, 0, (9, 8))],
)
def test_paddings(source, target, padding):
    assert Resampling(SMALL[source], SMALL[target], 2).padding == padding


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_resampling_keeps_the_centre_and_constants(source, target):
    enlarge, reduce = Resampling(source, target, 2).matrices()
    for matrix in (enlarge, reduce):
        torch.testing.assert_close(matrix.flip(0), matrix.flip(1), rtol=0, atol=1e-14)
    middle = slice(8, -8)
    sums = (reduce @ enlarge).sum(1)[middle]
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=0.02)


@pytest.mark.parametrize("form", [stuffed, transposed])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_all_forms_agree_with_their_gradients(source, target, form):
    torch.manual_seed(0)
    steps = Resampling(source, target, 2)
    maps = torch.randn(2, 3, steps.size, steps.size, requires_grad=True)
    weights = torch.randn(2, 3, target.size, target.size)
    ours = FilteredLeakyReLU(source, target, enlarged=2)(maps)
    theirs = form(maps, steps)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad((each * weights).sum(), maps)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=0, atol=2e-5)


def test_large_values_are_limited_at_the_high_rate():
    steps = Resampling(SMALL[3], SMALL[3], 2)
    maps = torch.full((1, 1, steps.size, steps.size), 1000.0)
    found = FilteredLeakyReLU(SMALL[3], SMALL[3], enlarged=2)(maps)
    torch.testing.assert_close(found, stuffed(maps, steps), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found[0, 0, 20:30, 20:30], torch.full((10, 10), 256.0), rtol=1e-3, atol=0)


def wave(steps, frequency):
    """Across the input's pixels, and where it should arrive on the output's."""
    positions = [
        (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / rate
        for size, rate in ((steps.size, steps.source.rate), (steps.target.size, steps.target.rate))
    ]
    before, after = (torch.cos(2 * pi * frequency * position + 0.3) for position in positions)
    return before.expand(1, 1, len(before), -1), after.expand(len(after), -1)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_slow_waves_stay_in_their_place(source, target):
    steps, frequency = Resampling(source, target, 2), 1.5
    maps, expected = wave(steps, frequency)
    enlarge, reduce = steps.matrices()
    found = resample(resample(maps, enlarge), reduce)[0, 0]
    passed = gain(steps.filters()[0], [frequency], steps.rate) * gain(steps.filters()[1], [frequency], steps.rate)
    assert passed > 0.7
    inside = slice(8, -8)
    torch.testing.assert_close(found[inside, inside], passed * expected[inside, inside], rtol=0, atol=0.02)


@pytest.mark.parametrize(("layer", "decibels"), [(3, 37), (4, 25)])
def test_fast_waves_do_not_pass(layer, decibels):
    band = SMALL[layer]
    enlarge, reduce = Resampling(band, band, 2).matrices()
    fine = torch.arange(len(enlarge), dtype=torch.float64) / (2 * band.rate)
    left = reduce @ torch.cos(2 * pi * (band.cutoff + band.half_width) * fine)
    assert 20 * log10(left[8:-8].abs().max()) <= -decibels


def test_equal_rates_and_no_bend_are_a_linear_low_pass():
    steps = Resampling(SMALL[3], SMALL[3], 2)
    enlarge, reduce = steps.matrices()
    maps = torch.randn(1, 2, steps.size, steps.size, dtype=torch.float64)
    low = resample(resample(maps, enlarge), reduce)
    straight = stuffed(maps, steps, slope=1.0, limit=float("inf")) / 2**0.5
    torch.testing.assert_close(low, straight, rtol=0, atol=1e-12)
