"""Signals that stay band-limited: the schedule of StyleGAN3-T's layers, its low-pass filters, its nonlinearity.

A leaky ReLU makes frequencies that a map's pixels cannot hold, and they come back as false ones. Here it is applied
at a higher rate, between two filters:

    map ─ enlarge: zeros between the pixels, low pass ─ leaky ReLU ─ reduce: low pass, every n-th pixel ─ map

Both resamplings are linear and separable, and maps are small, so each is one dense matrix R applied to both axes,
R x Rᵀ: a few matrix products, differentiable to any order, on any device. Padding, cropping and gains are in R.

Frequencies are in periods, rates in samples, per width of the image. A map shows the image and a margin around it.

Source: Karras et al., arXiv:2106.12423 (2021), section 3 and appendices B and C.
Shapes: B batch, C channels, T taps, n m pixels of a map's side before and after.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil, log2, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.stylegan.equalised import SLOPE

FIRST_CUTOFF = 2.0
FIRST_STOPBAND = 2.0**2.1
LAST_STOPBAND_RATIO = 2.0**0.3
"""Stop band of the last layers, relative to half the resolution."""

NUM_CRITICAL = 2
"""Layers before the last whose cut-off is half the resolution already."""

TAPS = 6
"""Taps of a filter for each sample of its lower rate."""

LIMIT = 256.0
"""Largest size of a feature after a nonlinearity."""


@dataclass(frozen=True)
class Band:
    """The maps that a layer gives."""

    cutoff: float
    """f_c: below it everything passes, in principle."""

    stopband: float
    """f_t: from here on nothing should be left."""

    rate: int
    """s."""

    half_width: float
    """f_h: half of the way from what passes to what does not, of the layer's filters."""

    size: int
    """Pixels of a side, the margins included."""

    channels: int


def layer_schedule(
    resolution: int,
    *,
    num_layers: int = 14,
    channels: int = 3,
    channel_base: int = 32768,
    channel_max: int = 512,
    margin: int = 10,
) -> tuple[Band, ...]:
    """Bands of what layers 0 to `num_layers` give, the last of which makes the image.

    Cut-off and stop band grow geometrically until two layers before the last; the rate is the next power of two
    that holds the stop band.

    Args:
        resolution: of the image, in pixels of a side.
        channel_base: twice the channels times the cut-off, which they are inverse to.
        margin: pixels around the image, until the last two layers.
    """
    highest = resolution / 2
    bands = []
    for index in range(num_layers + 1):
        share = min(index / (num_layers - NUM_CRITICAL), 1.0)
        cutoff = FIRST_CUTOFF * (highest / FIRST_CUTOFF) ** share
        stopband = FIRST_STOPBAND * (highest * LAST_STOPBAND_RATIO / FIRST_STOPBAND) ** share
        rate = 2 ** ceil(log2(min(2 * stopband, resolution)) - 1e-9)  # a stop band of 64, to rounding, is 64
        bands.append(
            Band(
                cutoff,
                stopband,
                rate,
                half_width=max(stopband, rate / 2) - cutoff,
                size=resolution if index >= num_layers - 1 else rate + 2 * margin,
                channels=channels if index == num_layers else round(min(channel_base / 2 / cutoff, channel_max)),
            )
        )
    return tuple(bands)


@dataclass(frozen=True)
class Resampling:
    """Way of a layer's nonlinearity from the band of its input, by a higher rate, to that of its output."""

    source: Band
    target: Band
    enlarged: int
    """Pixels that the convolution before it adds to a side."""

    @property
    def rate(self) -> int:
        """Sampling rate at which the leaky ReLU is applied."""
        return 2 * max(self.source.rate, self.target.rate)

    @property
    def up(self) -> int:
        """Factor by which the rate rises first."""
        return self.rate // self.source.rate

    @property
    def down(self) -> int:
        """Factor by which it then falls."""
        return self.rate // self.target.rate

    @property
    def size(self) -> int:
        """Pixels of a side before."""
        return self.source.size + self.enlarged

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after a side, between whose pixels there are zeros already; negative where it is cropped.

        The one choice that keeps the centre of the map in its place: an odd sum, as both factors are even.
        """
        taps = TAPS * (self.up + self.down)
        total = (self.target.size - 1) * self.down + 1 - self.size * self.up + taps - 2
        before = (total + self.up) // 2
        return before, total - before

    def filters(self) -> tuple[Tensor, Tensor]:
        """The low passes of both ways, float64 (T,), each of gain 1 at frequency 0."""
        return low_pass(self.source, self.up, self.rate), low_pass(self.target, self.down, self.rate)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Enlarging (m, n) and reducing, float64; a constant map keeps its value away from the borders."""
        filter_up, filter_down = self.filters()
        (before, after), wide = self.padding, self.size * self.up
        rows = wide + before + after - len(filter_up) + 1
        enlarge = self.up * _banded(filter_up, rows, self.size, step=-self.up, offset=before)
        return enlarge, _banded(filter_down, self.target.size, rows, step=self.down)


def low_pass(band: Band, factor: int, rate: int) -> Tensor:
    """A sinc in a Kaiser window (T,), float64, symmetric, at the given rate, `factor` times that of the band.

    Source: Kaiser's rule for the window, as in `scipy.signal.firwin`.
    """
    return torch.tensor(_taps(TAPS * factor, band.cutoff, 2 * band.half_width, rate), dtype=torch.float64)


@cache
def _taps(number: int, cutoff: float, width: float, rate: int) -> list[float]:
    from scipy.signal import firwin  # a quarter of a second

    taps: list[float] = firwin(number, cutoff, width=width, fs=rate).tolist()
    return taps


def _banded(filter_T: Tensor, rows: int, columns: int, *, step: int, offset: int = 0) -> Tensor:
    """Matrix (rows, columns) of a filter that moves by `step` columns a row or, where it is negative, rows a column."""
    row, column = torch.arange(rows)[:, None], torch.arange(columns)[None]
    tap = column - row * step if step > 0 else offset - column * step - row
    inside = (tap >= 0) & (tap < len(filter_T))
    return torch.where(inside, filter_T[tap.clamp(0, len(filter_T) - 1)], 0.0)


def resample(maps_BCnn: Tensor, matrix_mn: Tensor) -> Tensor:
    """The maps (B, C, m, m) with a matrix applied to both axes."""
    return matrix_mn @ F.linear(maps_BCnn, matrix_mn)


class FilteredLeakyReLU(nn.Module):
    """Leaky ReLU times √2 without aliasing, from the band of a layer's input to that of its output.

    Args:
        enlarged: pixels by which its input's side exceeds `source.size`.
    """

    def __init__(self, source: Band, target: Band, *, enlarged: int) -> None:
        super().__init__()
        enlarge, reduce = Resampling(source, target, enlarged).matrices()
        gain = sqrt(sqrt(2))  # of each axis; the leaky ReLU lets a positive factor through
        self.enlarge_mn: Tensor
        self.reduce_nm: Tensor
        self.register_buffer("enlarge_mn", (gain * enlarge).to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("reduce_nm", reduce.to(torch.get_default_dtype()), persistent=False)

    def forward(self, maps_BCnn: Tensor) -> Tensor:
        """Maps of the target's band; to be called in full precision."""
        # In place, as maps are largest at this rate; hardtanh goes back in one pass, where clamp takes three.
        wide_BCmm = F.leaky_relu(resample(maps_BCnn, self.enlarge_mn), SLOPE, inplace=True)
        return resample(F.hardtanh(wide_BCmm, -LIMIT, LIMIT), self.reduce_nm)
