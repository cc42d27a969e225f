"""RandAugment's operations on batches: each from images in [0, 1] and a magnitude for each, and the square cut out.

Magnitudes are shares in [0, 1] of the range of the operation: 0 its low end, 1 its high one. Sources: Cubuk et al.,
arXiv:1909.13719; Sohn et al., arXiv:2001.07685, for the pool and the ranges; the operations are those of Pillow.

Shapes: B batch, C channels, H W pixels; 23 two rows of three.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.data.augment import affine

NUM_LEVELS = 256
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.95
_MIN_BITS, _MAX_BITS = 4, 8
_MAX_DEGREES, _MAX_SHEAR, _MAX_SHIFT = 30.0, 0.3, 0.3
_LUMINANCE = (0.299, 0.587, 0.114)
_GREY = 0.5

Operation = Callable[[Tensor, Tensor], Tensor]


def _between(magnitude_B: Tensor, low: float, high: float, like: Tensor) -> Tensor:
    """Values (B, 1, 1, 1) at those shares of a range."""
    return (low + (high - low) * magnitude_B).to(like, non_blocking=True)[:, None, None, None]


def identity(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """The images as they are."""
    return images_BCHW


def auto_contrast(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Stretch each channel from its darkest to its brightest pixel over the whole range; an even one stays."""
    low_BC11, high_BC11 = images_BCHW.amin((2, 3), keepdim=True), images_BCHW.amax((2, 3), keepdim=True)
    width_BC11 = high_BC11 - low_BC11
    stretched_BCHW = (images_BCHW - low_BC11) / width_BC11.clamp(min=1.0 / NUM_LEVELS)
    return torch.where(width_BC11 > 0, stretched_BCHW, images_BCHW).clamp(0.0, 1.0)


def equalise(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Replace each pixel by the share of pixels that are not brighter, of those of its channel that are not darkest."""
    levels_BCN = (images_BCHW * (NUM_LEVELS - 1)).round().long().flatten(2)
    counts_BCL = torch.zeros(*levels_BCN.shape[:2], NUM_LEVELS, device=images_BCHW.device)
    counts_BCL.scatter_add_(2, levels_BCN, torch.ones_like(levels_BCN, dtype=counts_BCL.dtype))
    upto_BCL = counts_BCL.cumsum(2)
    darkest_BC1 = upto_BCL.gather(2, levels_BCN.amin(2, keepdim=True))
    others_BC1 = levels_BCN.shape[2] - darkest_BC1
    shares_BCL = (upto_BCL - darkest_BC1) / others_BC1.clamp(min=1.0)
    equal_BCHW = shares_BCL.gather(2, levels_BCN).view_as(images_BCHW)
    return torch.where(others_BC1[..., None] > 0, equal_BCHW, images_BCHW)


def brightness(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Blend with black: that share of the image remains."""
    return images_BCHW * _between(magnitude_B, _LEAST_SHARE, _MOST_SHARE, images_BCHW)


def contrast(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Blend with the mean luminance: that share of the image remains."""
    means_B111 = _luminance(images_BCHW).mean((1, 2, 3), keepdim=True)
    return means_B111 + (images_BCHW - means_B111) * _between(magnitude_B, _LEAST_SHARE, _MOST_SHARE, images_BCHW)


def colour(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Blend with the grey image: that share of the colours remains."""
    grey_B1HW = _luminance(images_BCHW)
    return grey_B1HW + (images_BCHW - grey_B1HW) * _between(magnitude_B, _LEAST_SHARE, _MOST_SHARE, images_BCHW)


def sharpness(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Blend with the smoothed image, whose edge pixels are the image's own: that share of the image remains."""
    channels = images_BCHW.shape[1]
    kernel_33 = torch.ones(3, 3).to(images_BCHW)
    kernel_33[1, 1] = 5.0
    smooth_BCHW = images_BCHW.clone()
    weights_C133 = (kernel_33 / kernel_33.sum()).expand(channels, 1, 3, 3)
    smooth_BCHW[:, :, 1:-1, 1:-1] = F.conv2d(images_BCHW, weights_C133, groups=channels)
    return smooth_BCHW + (images_BCHW - smooth_BCHW) * _between(magnitude_B, _LEAST_SHARE, _MOST_SHARE, images_BCHW)


def posterise(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Keep the highest 4 to 8 bits of each byte."""
    bits_B111 = _between(magnitude_B, _MIN_BITS, _MAX_BITS, images_BCHW).round()
    step_B111 = 2 ** (_MAX_BITS - bits_B111)
    return (images_BCHW * (NUM_LEVELS - 1) / step_B111).floor() * step_B111 / (NUM_LEVELS - 1)


def solarise(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Invert the pixels at or above a threshold, from 0 to one above the brightest."""
    threshold_B111 = _between(magnitude_B, 0.0, NUM_LEVELS / (NUM_LEVELS - 1), images_BCHW)
    return torch.where(images_BCHW >= threshold_B111, 1 - images_BCHW, images_BCHW)


def rotate(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Turn by up to 30 degrees to either side."""
    angle_B = ((2 * magnitude_B - 1) * _MAX_DEGREES).deg2rad()
    return _mapped(images_BCHW, angle_B.cos(), -angle_B.sin(), angle_B.sin(), angle_B.cos())


def shear_x(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Shift rows by up to 0.3 of their distance from the middle."""
    return _mapped(images_BCHW, 1.0, (2 * magnitude_B - 1) * _MAX_SHEAR, 0.0, 1.0)


def shear_y(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Shift columns by up to 0.3 of their distance from the middle."""
    return _mapped(images_BCHW, 1.0, 0.0, (2 * magnitude_B - 1) * _MAX_SHEAR, 1.0)


def translate_x(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Move right or left by up to 0.3 of the side."""
    return _mapped(images_BCHW, 1.0, 0.0, 0.0, 1.0, right=(2 * magnitude_B - 1) * _MAX_SHIFT)


def translate_y(images_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    """Move down or up by up to 0.3 of the side."""
    return _mapped(images_BCHW, 1.0, 0.0, 0.0, 1.0, down=(2 * magnitude_B - 1) * _MAX_SHIFT)


OPERATIONS: Mapping[str, Operation] = {
    each.__name__: each
    for each in (
        identity, auto_contrast, equalise, brightness, contrast, sharpness, posterise, solarise, rotate, shear_x,
        shear_y, translate_x, translate_y, colour,
    )
}  # fmt: skip
"""The pool, by name."""

NO_COLOUR = ("colour", "posterise", "solarise")
"""Operations that grey images, and whoever asks for it, do without."""


def cut_out(images_BCHW: Tensor, most: float) -> Tensor:
    """Paint a grey square at random over each image, of a side of up to that share of the image's."""
    batch, _, height, width = images_BCHW.shape
    side_B, down_B, right_B = torch.rand(3, batch)
    rows_BH = _covered(height, down_B, side_B * most)
    columns_BW = _covered(width, right_B, side_B * most)
    covered_B1HW = (rows_BH[:, None, :, None] & columns_BW[:, None, None, :]).to(images_BCHW.device, non_blocking=True)
    return torch.where(covered_B1HW, images_BCHW.new_full((), _GREY), images_BCHW)


def _covered(size: int, centre_B: Tensor, share_B: Tensor) -> Tensor:
    """True (B, size) for the pixels whose middle lies within half of that share of the size from a centre."""
    middle_S = (torch.arange(size) + 0.5) / size
    return (middle_S - centre_B[:, None]).abs() < share_B[:, None] / 2


def _luminance(images_BCHW: Tensor) -> Tensor:
    if images_BCHW.shape[1] != len(_LUMINANCE):
        return images_BCHW.mean(1, keepdim=True)
    return (images_BCHW * torch.tensor(_LUMINANCE).to(images_BCHW)[:, None, None]).sum(1, keepdim=True)


def _mapped(
    images_BCHW: Tensor,
    xx: Tensor | float,
    xy: Tensor | float,
    yx: Tensor | float,
    yy: Tensor | float,
    *,
    right: Tensor | float = 0.0,
    down: Tensor | float = 0.0,
) -> Tensor:
    """The images, where each position shows what lay at its image under a matrix, then moved by shares of the side."""
    batch = len(images_BCHW)
    values = [torch.as_tensor(each, dtype=torch.float32).expand(batch) for each in (xx, xy, yx, yy)]
    matrix_B22 = torch.stack(values, 1).view(batch, 2, 2)
    moved_B2 = torch.stack([torch.as_tensor(each, dtype=torch.float32).expand(batch) for each in (right, down)], 1)
    return affine(images_BCHW, torch.cat([matrix_B22, -2 * moved_B2[:, :, None]], 2))
