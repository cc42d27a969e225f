"""Batches of bytes to batches of pixels that a network takes, on the device where they lie.

Shapes: B batch, C channels, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

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


def random_flip(images_BCHW: Tensor) -> Tensor:
    """The images, each mirrored left to right with probability one half.

    Draws from torch's global CPU generator: every device flips the same images, and the host does not wait.
    """
    coins_B = torch.rand(len(images_BCHW)) < 0.5
    mirrored_B111 = coins_B.to(images_BCHW.device, non_blocking=True)[:, None, None, None]
    return torch.where(mirrored_B111, images_BCHW.flip(-1), images_BCHW)
