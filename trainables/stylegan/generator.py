"""StyleGAN3-T: images from random numbers, details of which move with the objects that they are on.

    numbers BZ ─ mapping ─ style BZ ─┬─────────────┬──────────────┬───────────────┐
                                     │             │              │               │
                             Fourier input ─ layer 0 ─ ... ─ layer N-1 ─ layer N (to the image) ─ × 0.25 ─ images

    layer: ÷ running size of its input ─ 3 × 3 convolution, its inputs scaled by the style and its outputs back to unit
           size ─ + bias ─ filtered leaky ReLU

Every layer knows what frequencies its maps hold (`alias_free.layer_schedule`). The first maps are waves, placed by the
style; from there on nothing depends on the position of pixels but the borders, which a margin keeps away.

Departures: the style scales the inputs of one convolution, and what undoes it its outputs, instead of one set of
weights per image, which is the same; styles are normalised for each image alone, where the published code takes the
whole batch, which is the same to rounding. In reduced precision only the convolutions are, from 128 px up, and of
those the layers at more than a sixteenth of the resolution.

Source: Karras et al., arXiv:2106.12423 (2021), configuration T; modulation: arXiv:1912.04958, section 2.2.
Shapes: B batch, Z latent and style, I O channels into and out of a layer, C image channels, h w pixels of a map,
H W of the image (H = W), k kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.stylegan.alias_free import LIMIT, Band, FilteredLeakyReLU, layer_schedule
from trainables.stylegan.equalised import EqualisedLinear, leaky_relu, reduced_type

IMAGE_SCALE = 0.25
"""Factor of the last layer's maps."""

STYLE_DECAY = 0.998
"""Decay of the running mean of styles, per batch."""


def _as_it_is(sums: Tensor) -> Tensor:
    return sums


@dataclass(frozen=True)
class EmaStatistics:
    """Rule by which the running statistics take in a batch."""

    decay: float
    """Decay of the running sizes of maps, for this batch."""

    total: Callable[[Tensor], Tensor] = _as_it_is
    """Map from this process's sums to those of all that share the batch."""

    def mean(self, values_BZ: Tensor) -> Tensor:
        """Mean (Z,) over the whole batch."""
        sums = self.total(torch.cat([values_BZ.sum(0), values_BZ.new_full((1,), len(values_BZ))]))
        return sums[:-1] / sums[-1]


def normalised(values_BZ: Tensor) -> Tensor:
    """Each row at unit mean square."""
    return values_BZ * (values_BZ.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Mapping(nn.Module):
    """From numbers to styles, and the running mean of styles.

    Args:
        z_dim: Z.
    """

    _SPEED = 0.01

    def __init__(self, z_dim: int, num_layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EqualisedLinear(z_dim, z_dim, speed=self._SPEED) for _ in range(num_layers))
        self.mean_Z: Tensor
        self.register_buffer("mean_Z", torch.zeros(z_dim))

    def forward(self, numbers_BZ: Tensor, *, psi: float = 1.0, statistics: EmaStatistics | None = None) -> Tensor:
        """Styles (B, Z), the share `psi` of the way from their mean; the mean takes them in where asked to."""
        styles_BZ = normalised(numbers_BZ)
        for layer in self.layers:
            styles_BZ = leaky_relu(layer(styles_BZ))
        if statistics:
            self.mean_Z.lerp_(statistics.mean(styles_BZ.detach()), 1 - STYLE_DECAY)
        return styles_BZ if psi == 1.0 else self.mean_Z.lerp(styles_BZ, psi)


class FourierInput(nn.Module):
    """Waves on a disc of frequencies, turned and moved by the style, then mixed.

    Args:
        band: of the first layer: the waves fill it.
        z_dim: Z.
    """

    def __init__(self, band: Band, z_dim: int) -> None:
        super().__init__()
        self._band = band
        direction_O2 = torch.randn(band.channels, 2)
        radius_O1 = direction_O2.norm(dim=1, keepdim=True)
        # |direction| is Rayleigh: exp(-r² / 4) is the root of a uniform number, so the disc is filled evenly.
        frequencies_O2 = direction_O2 / radius_O1 * (-radius_O1.square() / 4).exp() * band.cutoff
        self.frequencies_O2: Tensor
        self.phases_O: Tensor
        self.register_buffer("frequencies_O2", frequencies_O2)
        self.register_buffer("phases_O", torch.rand(band.channels) - 0.5)
        self.place = EqualisedLinear(z_dim, 4, spread=0.0)
        with torch.no_grad():
            self.place.bias_O.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.weight_OI = nn.Parameter(torch.randn(band.channels, band.channels))

    def forward(self, styles_BZ: Tensor, shift_2: Tensor | None = None) -> Tensor:
        """Maps (B, O, h, w), shown `shift_2` (x right, y down, in image widths) further on: the image moves back."""
        turn_B22, offset_B21 = self._placing(styles_BZ, shift_2)
        phases_BO1 = self.phases_O[:, None] + self.frequencies_O2 @ offset_B21
        frequencies_BO2 = self.frequencies_O2 @ turn_B22
        band = self._band
        beyond_BO = (frequencies_BO2.norm(dim=2) - band.cutoff) / (band.rate / 2 - band.cutoff)
        heights_BO = (1 - beyond_BO).clamp(0, 1)
        index_n = torch.arange(band.size, dtype=styles_BZ.dtype, device=styles_BZ.device)
        position_n = (index_n + 0.5 - band.size / 2) / band.rate
        along_x, along_y = (frequencies_BO2[:, :, axis, None] * position_n for axis in (0, 1))
        angles_BOhw = along_x[:, :, None] + (along_y + phases_BO1)[:, :, :, None]
        waves_BOhw = torch.sin(2 * pi * angles_BOhw) * heights_BO[:, :, None, None]
        mix_OI = self.weight_OI / sqrt(band.channels)
        return torch.einsum("oi,bihw->bohw", mix_OI, waves_BOhw)

    def _placing(self, styles_BZ: Tensor, shift_2: Tensor | None) -> tuple[Tensor, Tensor]:
        """The rotation of frequencies (B, 2, 2), and what moves their phases (B, 2, 1)."""
        placed_B4 = self.place(styles_BZ)
        cosine_B, sine_B, x_B, y_B = (placed_B4 / placed_B4[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        turn_B22 = torch.stack([cosine_B, -sine_B, sine_B, cosine_B], 1).view(-1, 2, 2)
        offset_B2 = -torch.stack([x_B, y_B], 1)
        if shift_2 is not None:
            offset_B2 = offset_B2 + shift_2
        return turn_B22, turn_B22 @ offset_B2[:, :, None]


class SynthesisLayer(nn.Module):
    """A modulated convolution and its nonlinearity.

    Args:
        source: band of its input.
        target: band of its output.
        z_dim: Z.
        to_image: whether it is the last: 1 × 1, neither normalised nor bent.
        may_reduce: whether its convolution follows autocast.
    """

    def __init__(self, source: Band, target: Band, z_dim: int, *, to_image: bool, may_reduce: bool) -> None:
        super().__init__()
        kernel = 1 if to_image else 3
        self._to_image, self._may_reduce, self._padding = to_image, may_reduce, kernel - 1
        self.style = EqualisedLinear(z_dim, source.channels, bias=1.0)
        self.weight_OIkk = nn.Parameter(torch.randn(target.channels, source.channels, kernel, kernel))
        self.bias_O = nn.Parameter(torch.zeros(target.channels))
        self.bend = None if to_image else FilteredLeakyReLU(source, target, enlarged=kernel - 1)
        self.square: Tensor
        self.register_buffer("square", torch.ones(1))

    def forward(
        self,
        maps_BIhw: Tensor,
        styles_BZ: Tensor,
        statistics: EmaStatistics | None = None,
        reduced: torch.dtype | None = None,
    ) -> Tensor:
        """Maps (B, O, h', w'); the running mean square of the input takes it in first where asked to."""
        if statistics:
            squares_B1 = maps_BIhw.detach().square().mean((1, 2, 3))[:, None]
            self.square.lerp_(statistics.mean(squares_B1), 1 - statistics.decay)
        scales_BI, weight_OIkk, undo_BO = self._modulation(styles_BZ)
        kind = reduced if reduced and self._may_reduce else maps_BIhw.dtype
        modulated_BIhw = (maps_BIhw * scales_BI[:, :, None, None]).to(kind)
        convolved_BOhw = F.conv2d(modulated_BIhw, weight_OIkk.to(kind), padding=self._padding).to(maps_BIhw.dtype)
        biased_BOhw = torch.addcmul(self.bias_O[:, None, None], convolved_BOhw, undo_BO[:, :, None, None])
        bent_BOhw: Tensor = self.bend(biased_BOhw) if self.bend else biased_BOhw.clamp(-LIMIT, LIMIT)
        return bent_BOhw

    def _modulation(self, styles_BZ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scale of the inputs (B, I), weights, and factors (B, O) that bring unit inputs to unit outputs."""
        scales_BI, gain = self.style(styles_BZ), self.square.rsqrt()
        if self._to_image:
            scales_BI = scales_BI / sqrt(self.weight_OIkk[0].numel())
            return scales_BI, self.weight_OIkk, gain.expand(len(scales_BI), len(self.bias_O))
        scales_BI = normalised(scales_BI)
        weight_OIkk = self.weight_OIkk * self.weight_OIkk.square().mean((1, 2, 3), keepdim=True).rsqrt()
        power_BO = scales_BI.square() @ weight_OIkk.square().sum((2, 3)).T
        return scales_BI, weight_OIkk, gain * (power_BO + 1e-8).rsqrt()


class StyleganGenerator(nn.Module):
    """Images, nominally in [-1, 1] and not clamped, from normal numbers.

    Args:
        resolution: H, from 16 up; any size, though a discriminator may want a power of two.
        num_layers: N, the one to the image not counted. Below 256 px 14 are more than needed: 4 to 6 do for 32.
        channels: C.
        channel_base: twice the channels times the cut-off of a layer.
        channel_max: of any layer.
        z_dim: Z.
        margin: pixels around the image, in all layers but the last two.
        mapping_layers: from numbers to styles.
    """

    def __init__(
        self,
        *,
        resolution: int,
        num_layers: int = 14,
        channels: int = 3,
        channel_base: int = 32768,
        channel_max: int = 512,
        z_dim: int = 512,
        margin: int = 10,
        mapping_layers: int = 2,
    ) -> None:
        super().__init__()
        bands = layer_schedule(
            resolution,
            num_layers=num_layers,
            channels=channels,
            channel_base=channel_base,
            channel_max=channel_max,
            margin=margin,
        )
        self.z_dim = z_dim
        self.mapping = Mapping(z_dim, mapping_layers)
        self.waves = FourierInput(bands[0], z_dim)
        self.layers = nn.ModuleList(
            SynthesisLayer(
                source,
                target,
                z_dim,
                to_image=index == num_layers,
                may_reduce=resolution > 64 and target.rate * 16 > resolution,
            )
            for index, (source, target) in enumerate(pairwise((bands[0], *bands)))
        )

    def forward(
        self,
        numbers_BZ: Tensor,
        *,
        psi: float = 1.0,
        shift_2: Tensor | None = None,
        statistics: EmaStatistics | None = None,
    ) -> Tensor:
        """Images (B, C, H, W), in float32 or that of the weights.

        Args:
            psi: truncation: 1 is none, 0 gives the mean style's image.
            shift_2: what of the endless scene is shown: so many image widths further right and down.
            following: makes the running statistics take in this batch; None leaves them as they are.
        """
        reduced = reduced_type(numbers_BZ.device)
        with torch.autocast(numbers_BZ.device.type, enabled=False):
            styles_BZ = self.mapping(numbers_BZ, psi=psi, statistics=statistics)
            maps_BIhw: Tensor = self.waves(styles_BZ, shift_2)
            for layer in self.layers:
                maps_BIhw = layer(maps_BIhw, styles_BZ, statistics, reduced)
            return maps_BIhw * IMAGE_SCALE
