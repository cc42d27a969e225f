"""Batches of bytes to batches of pixels that a network takes, on the device where they lie.

Shapes: B batch, C channels, H W pixels; 23 two rows of three, 2 along the columns and along the rows.
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

_MAX_BYTE = 255.0


def to_unit(images_BCHW: Tensor, side: int) -> Tensor:
    """Float32 images (B, C, side, side) in [0, 1], resized bilinearly, antialiased, where the side differs.

    Args:
        images_BCHW: uint8, any device.
        side: Pixels.
    """
    unit_BCHW = images_BCHW.float().div_(_MAX_BYTE)
    if unit_BCHW.shape[-2:] == (side, side):
        return unit_BCHW
    resized_BCHW = interpolate(unit_BCHW, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return resized_BCHW.clamp_(0.0, 1.0)  # the weights of a pixel add up to 1 only within rounding


def to_signed(unit_BCHW: Tensor) -> Tensor:
    """Images in [-1, 1] from images in [0, 1]: the range of a generator that ends in tanh."""
    return unit_BCHW * 2 - 1


def random_flip(images_BCHW: Tensor, axis: int = -1) -> Tensor:
    """The images, each mirrored along an axis with probability one half; left to right where none is given.

    Draws from torch's global CPU generator: every device flips the same images, and the host does not wait.
    """
    coins_B = torch.rand(len(images_BCHW)) < 0.5
    mirrored_B111 = coins_B.to(images_BCHW.device, non_blocking=True)[:, None, None, None]
    return torch.where(mirrored_B111, images_BCHW.flip(axis), images_BCHW)


def affine_maps(degrees_B: Tensor, shifts_B2: Tensor, mirrored_B2: Tensor, zooms_B: Tensor | None = None) -> Tensor:
    """Origins of the pixels: maps (B, 2, 3) of positions in -1 … 1 after a motion to those before it.

    An image is mirrored left to right and upside down where told to, then turned counter-clockwise, then moved right
    and down by shares of its side. Where told to it is enlarged so many times beside.
    """
    angles_B = degrees_B.deg2rad()
    cos_B, sin_B = angles_B.cos(), angles_B.sin()
    back_B22 = torch.stack([torch.stack([cos_B, -sin_B], 1), torch.stack([sin_B, cos_B], 1)], 1)
    back_B22 = torch.where(mirrored_B2[:, :, None], -back_B22, back_B22)
    if zooms_B is not None:
        back_B22 = back_B22 / zooms_B[:, None, None]
    return torch.cat([back_B22, -back_B22 @ (2 * shifts_B2[:, :, None])], 2)


def affine(images_BCHW: Tensor, maps_B23: Tensor) -> Tensor:
    """The images moved by maps as from `affine_maps`, bilinearly, mirrored where nothing is left to show.

    Mirrored at the edge of the last pixel, which is so repeated once.
    """
    maps_B23 = maps_B23.to(images_BCHW, non_blocking=True)
    grid_BHW2 = affine_grid(maps_B23, list(images_BCHW.shape), align_corners=False)
    return grid_sample(images_BCHW, grid_BHW2, mode="bilinear", padding_mode="reflection", align_corners=False)
