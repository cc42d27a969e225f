"""Adaptive discriminator augmentation: images are disturbed before they are judged, as often as D overfits.

Each operation befalls an image with probability p. D sees real and generated images only so, and as long as p is well
below 1 the generator still learns the undisturbed ones. D's verdicts on real images steer p: where nearly all of them
say "real", D knows the images by heart, and p rises.

The geometric operations of an image are one matrix, from places in the result to places in the original, and the
image is resampled once: reflected at its borders, at twice the rate, between an orthogonal wavelet's low pass and the
same backwards, so that the identity is the identity. The colour operations are another matrix.

Departures: p stays below 0.9, and a batch at p = 0 is not touched. Random numbers come from a generator on the CPU, so
that every device and every process disturbs alike. Not here: filtering, noise and cut-out, off by default there too.

Source: Karras et al., arXiv:2006.06676 (2020), sections 2 and 3 and appendix B.
Shapes: B batch, C channels, H W n pixels of a side (H = W), m samples of a side at twice the rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, pi, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.core.errors import ConfigError

HIGHEST = 0.9
"""p stays below; near 1 the generator learns the disturbances themselves."""

INTERVAL = 4
"""Steps of D from one adjustment of p to the next."""

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""Low pass of the least asymmetric orthogonal wavelet with six vanishing moments (Daubechies 1992, table 6.3)."""

_CENTRE = 5
"""Its tap about which low frequencies are symmetric, to a tenth of a sample."""

_OVERHANG = len(SYM6) - 2
"""Samples at twice the rate that a side has beyond twice its pixels, where its low pass reaches over both ends."""


class AugmentRandom:
    """Random numbers (B,) for the operations on a batch, drawn on the CPU.

    Args:
        p: of an operation; what it does not befall gets the number that changes nothing.
    """

    def __init__(self, batch: int, p: float, random: torch.Generator) -> None:
        self.batch, self.p, self._random = batch, p, random

    def with_probability(self, *values_B: Tensor, neutral: float = 0.0, p: float | None = None) -> list[Tensor]:
        """The values, or all of them neutral."""
        befalls_B = torch.rand(self.batch, generator=self._random) < (self.p if p is None else p)
        return [torch.where(befalls_B, value_B, neutral) for value_B in values_B]

    def options(self, number: int) -> Tensor:
        """Draw from 0, 1, ..., each as likely."""
        return torch.randint(number, (self.batch,), generator=self._random).to(torch.get_default_dtype())

    def uniform(self, bound: float) -> Tensor:
        """Draw uniformly from [-bound, bound)."""
        return bound * (2 * torch.rand(self.batch, generator=self._random) - 1)

    def normal(self, spread: float) -> Tensor:
        """Draw normally, with mean 0."""
        return spread * torch.randn(self.batch, generator=self._random)

    def factor(self, spread: float) -> Tensor:
        """2 to the power of a normal number."""
        return self.normal(spread).exp2()


# Geometric operations, each as the way back: from a place in the result to one in the original, in pixels from the
# centre.


def _scaled(x_B: Tensor, y_B: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x_B, y_B, torch.ones_like(x_B)], 1))


def _moved(x_B: Tensor, y_B: Tensor) -> Tensor:
    one, zero = torch.ones_like(x_B), torch.zeros_like(x_B)
    return torch.stack([one, zero, x_B, zero, one, y_B, zero, zero, one], 1).view(-1, 3, 3)


def _turned(angle_B: Tensor) -> Tensor:
    sine, cosine, zero = angle_B.sin(), angle_B.cos(), torch.zeros_like(angle_B)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, torch.ones_like(angle_B)]
    return torch.stack(rows, 1).view(-1, 3, 3)


def _x_flip(dice: AugmentRandom, side: int) -> Tensor:
    (flips_B,) = dice.with_probability(dice.options(2))
    return _scaled(1 - 2 * flips_B, torch.ones_like(flips_B))


def _quarter_turn(dice: AugmentRandom, side: int) -> Tensor:
    (turns_B,) = dice.with_probability(dice.options(4))
    return _turned(turns_B * (pi / 2)).round()


def _pixel_shift(dice: AugmentRandom, side: int) -> Tensor:
    shifts = [(dice.uniform(0.125) * side).round() for _ in range(2)]
    return _moved(*dice.with_probability(*shifts))


def _scale(dice: AugmentRandom, side: int) -> Tensor:
    (factor_B,) = dice.with_probability(dice.factor(0.2), neutral=1.0)
    return _scaled(factor_B, factor_B)


def _turn(dice: AugmentRandom, side: int) -> Tensor:
    """Two of them befall an image, one or both, with probability p."""
    (angle_B,) = dice.with_probability(dice.uniform(pi), p=1 - sqrt(1 - dice.p))
    return _turned(angle_B)


def _stretch(dice: AugmentRandom, side: int) -> Tensor:
    (factor_B,) = dice.with_probability(dice.factor(0.2), neutral=1.0)
    return _scaled(factor_B, 1 / factor_B)


def _shift(dice: AugmentRandom, side: int) -> Tensor:
    return _moved(*dice.with_probability(*(dice.normal(0.125) * side for _ in range(2))))


# Colour operations, on (red, green, blue, 1).


def _blended(on_grey_B: Tensor, across_B: Tensor) -> Tensor:
    """Colours (B, 4, 4) scaled along the axis of greys, and across it."""
    grey_33 = torch.full((3, 3), 1 / 3)
    blend_B33 = on_grey_B[:, None, None] * grey_33 + across_B[:, None, None] * (torch.eye(3) - grey_33)
    return _affine(blend_B33)


def _affine(colours_B33: Tensor, offset_B: Tensor | None = None) -> Tensor:
    matrix_B44 = F.pad(colours_B33, (0, 1, 0, 1))
    matrix_B44[:, 3, 3] = 1.0
    if offset_B is not None:
        matrix_B44[:, :3, 3] = offset_B[:, None]
    return matrix_B44


def _brightness(dice: AugmentRandom) -> Tensor:
    (offset_B,) = dice.with_probability(dice.normal(0.2))
    return _affine(torch.eye(3).repeat(dice.batch, 1, 1), offset_B)


def _contrast(dice: AugmentRandom) -> Tensor:
    (factor_B,) = dice.with_probability(dice.factor(0.5), neutral=1.0)
    return _blended(factor_B, factor_B)


def _luma_flip(dice: AugmentRandom) -> Tensor:
    (flips_B,) = dice.with_probability(dice.options(2))
    return _blended(1 - 2 * flips_B, torch.ones_like(flips_B))


def _hue(dice: AugmentRandom) -> Tensor:
    """Rotation about the axis of greys, by Rodrigues' formula."""
    (angle_B,) = dice.with_probability(dice.uniform(pi))
    grey_33 = torch.full((3, 3), 1 / 3)
    across_33 = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / sqrt(3)
    cosine_B11, sine_B11 = angle_B.cos()[:, None, None], angle_B.sin()[:, None, None]
    return _affine(grey_33 + cosine_B11 * (torch.eye(3) - grey_33) + sine_B11 * across_33)


def _saturation(dice: AugmentRandom) -> Tensor:
    (factor_B,) = dice.with_probability(dice.factor(1.0), neutral=1.0)
    return _blended(torch.ones_like(factor_B), factor_B)


GEOMETRIC: Mapping[str, Mapping[str, Callable[[AugmentRandom, int], Tensor]]] = {
    "b": {"x_flip": _x_flip, "quarter_turn": _quarter_turn, "pixel_shift": _pixel_shift},
    "g": {"scale": _scale, "first_turn": _turn, "stretch": _stretch, "last_turn": _turn, "shift": _shift},
}
"""By group, in the order in which they befall an image: given the batch and n, matrices (B, 3, 3)."""

COLOUR: Mapping[str, Mapping[str, Callable[[AugmentRandom], Tensor]]] = {
    "c": {"brightness": _brightness, "contrast": _contrast, "luma_flip": _luma_flip, "hue": _hue,
          "saturation": _saturation},
}  # fmt: skip
"""The same: matrices (B, 4, 4)."""

_COLOURED = {"hue", "saturation"}


@dataclass(frozen=True)
class Disturbance:
    """Random numbers of one batch's disturbances, on the CPU."""

    geometry_B33: Tensor
    colour_B44: Tensor
    margin: int | None
    """Reflected pixels around each image that it takes; None where no image is resampled."""


class Augmentation:
    """The operations on images of so many channels.

    Args:
        channels: C, 1 or 3. Grey images have no hue or saturation.
        groups: of operations: `b` flips, quarter turns and shifts by pixels; `g` the other geometric ones; `c` colours.
        luma_flip: whether light may become dark; not for radiographs, if in doubt.

    Raises:
        ConfigError: a group that is not there, or colour operations on other channels.
    """

    def __init__(self, channels: int, groups: str = "bgc", *, luma_flip: bool = True) -> None:
        unknown = set(groups) - {*GEOMETRIC, *COLOUR}
        if unknown:
            raise ConfigError(f"augmentation groups '{groups}': '{min(unknown)}' is unknown; there are b, g and c")
        if "c" in groups and channels not in (1, 3):
            raise ConfigError(f"augmentation of colours needs 1 or 3 channels, not {channels}; use groups 'bg'")
        left_out = (set() if luma_flip else {"luma_flip"}) | (_COLOURED if channels == 1 else set())
        self.geometric = {k: op for g, ops in GEOMETRIC.items() if g in groups for k, op in ops.items()}
        self.colour = {k: op for g, ops in COLOUR.items() if g in groups for k, op in ops.items() if k not in left_out}

    def draw(self, batch: int, side: int, p: float, random: torch.Generator) -> Disturbance | None:
        """Draw the disturbance of a batch of images of so many pixels; None at p = 0, when nothing is drawn."""
        if p == 0:
            return None
        dice = AugmentRandom(batch, p, random)
        geometry_B33, colour_B44 = torch.eye(3).repeat(batch, 1, 1), torch.eye(4).repeat(batch, 1, 1)
        for move in self.geometric.values():
            geometry_B33 = geometry_B33 @ move(dice, side)  # the last is the first on the way back
        for shade in self.colour.values():
            colour_B44 = shade(dice) @ colour_B44
        margin = margin_of(geometry_B33, side) if self.geometric else None
        return Disturbance(geometry_B33, colour_B44, margin)


def margin_of(geometry_B33: Tensor, side: int) -> int:
    """Reflected pixels that the farthest place of any image needs, n - 1 at most, in steps of an eighth of n."""
    farthest = side / 2 + _OVERHANG / 4 + 0.25  # which lies a quarter of a pixel aside
    reach = (geometry_B33[:, :2, :2].abs().sum(2) * farthest + geometry_B33[:, :2, 2].abs()).max().item()
    step = max(1, side // 8)
    needed = reach - side / 2 + len(SYM6) / 4
    return min(max(ceil(needed / step) * step, 0), side - 1)


def disturbed(images_BCHW: Tensor, what: Disturbance) -> Tensor:
    """The images as they look afterwards, differentiable twice."""
    if what.margin is not None:
        geometry_B33 = what.geometry_B33.to(images_BCHW, non_blocking=True)
        images_BCHW = _resampled(images_BCHW, geometry_B33, what.margin)
    return _coloured(images_BCHW, what.colour_B44.to(images_BCHW, non_blocking=True))


def _resampled(images_BCHW: Tensor, geometry_B33: Tensor, margin: int) -> Tensor:
    batch, channels, side, _ = images_BCHW.shape
    place = images_BCHW.device, images_BCHW.dtype
    enlarge_mn, reduce_nm = _doubling_at(side, margin, *place), _doubling_at(side, 0, *place).T / 2
    wide_BCmm = enlarge_mn @ F.linear(images_BCHW, enlarge_mn)
    before, after = wide_BCmm.shape[-1], reduce_nm.shape[-1]
    # Torch counts places from -1 to 1 over all samples, of which there are two a pixel, and from their middle; the
    # middle of the image lies elsewhere.
    turn_B22, shift_B21 = geometry_B33[:, :2, :2], geometry_B33[:, :2, 2:]
    aside_B21 = (1 - turn_B22.sum(2, keepdim=True)) * (2 * _CENTRE - (len(SYM6) - 1))
    places_B23 = torch.cat([turn_B22 * after, aside_B21 + 4 * shift_B21], 2) / before
    grid_Bmm2 = F.affine_grid(places_B23, [batch, channels, after, after], align_corners=False)
    moved_BCmm = F.grid_sample(wide_BCmm, grid_Bmm2, mode="bilinear", padding_mode="zeros", align_corners=False)
    return reduce_nm.matmul(F.linear(moved_BCmm, reduce_nm))


@lru_cache(maxsize=32)
def _doubling_at(side: int, margin: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return doubling(side, margin).to(device, dtype, non_blocking=True)


def doubling(side: int, margin: int) -> Tensor:
    """Matrix (m, n) that reflects a side and doubles its rate; without a margin, its transpose / 2 undoes it."""
    place = torch.arange(-margin, side + margin).abs()
    reflected = side - 1 - (side - 1 - place).abs()
    wide = side + 2 * margin
    tap = torch.arange(2 * wide + _OVERHANG)[:, None] - 2 * torch.arange(wide)
    low_pass = sqrt(2) * torch.tensor(SYM6, dtype=torch.float64)
    taps = torch.where((tap >= 0) & (tap < len(SYM6)), low_pass[tap.clamp(0, len(SYM6) - 1)], 0.0)
    return taps @ F.one_hot(reflected, side).to(torch.float64)


def _coloured(images_BCHW: Tensor, colour_B44: Tensor) -> Tensor:
    if images_BCHW.shape[1] == 1:
        grey_B4 = colour_B44[:, :3].mean(1)
        factor_B, offset_B = grey_B4[:, :3].sum(1), grey_B4[:, 3]
        return images_BCHW * factor_B[:, None, None, None] + offset_B[:, None, None, None]
    if images_BCHW.shape[1] != 3:
        return images_BCHW
    mixed_BCHW = torch.einsum("bij,bjhw->bihw", colour_B44[:, :3, :3], images_BCHW)
    return mixed_BCHW + colour_B44[:, :3, 3, None, None]


class Controller:
    """The probability p, steered by D's verdicts on real images or fixed.

    Args:
        mode: `ada`, `fixed` or `none`.
        kimg: thousands of real images in which p would go from 0 to 1.
        target: of the mean sign of D's logits for real images.
        p: where it is fixed.
    """

    def __init__(self, mode: str, *, kimg: float = 500.0, target: float = 0.6, p: float = 0.2) -> None:
        if mode not in ("ada", "fixed", "none"):
            raise ConfigError(f"augmentation mode '{mode}' is unknown; there are ada, fixed and none")
        self._adapts, self._kimg, self._target = mode == "ada", kimg, target
        self.p = p if mode == "fixed" else 0.0
        """Of every operation, from the next batch on."""

        self.overfitting = 0.0
        """The mean sign at the last adjustment: 0 is none, 1 is all."""

        self._signs: Tensor | float = 0.0
        self._images = self._steps = 0

    def observe(self, real_logits_B: Tensor) -> None:
        """Take in D's verdicts on the real images of a step; every few steps p follows."""
        self._signs = self._signs + real_logits_B.detach().sign().sum()
        self._images += len(real_logits_B)
        self._steps += 1
        if self._steps < INTERVAL:
            return
        self.overfitting = float(self._signs) / self._images
        if self._adapts:
            direction = (self.overfitting > self._target) - (self.overfitting < self._target)
            self.p = min(max(self.p + direction * self._images / (self._kimg * 1000), 0.0), HIGHEST)
        self._signs, self._images, self._steps = 0.0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """p and the verdicts since it was last adjusted."""
        counted = {"signs": float(self._signs), "images": self._images, "steps": self._steps}
        return {"p": self.p, "overfitting": self.overfitting, **counted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.p, self.overfitting = state["p"], state["overfitting"]
        self._signs, self._images, self._steps = state["signs"], state["images"], state["steps"]
