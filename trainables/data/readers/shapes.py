"""Procedural pictures with masks, to try segmentation on: an ellipse on a textured background.

Shapes: N pictures, H = W = S pixels.
"""

import numpy as np
from numpy.typing import NDArray

_CONTRAST = (40.0, 90.0)  # of 255, between ellipse and background
_BACKGROUND = (60.0, 130.0)
_TEXTURE = 25.0
_NOISE = 6.0
_RADII = (0.12, 0.3)  # of the side
_WAVES = 6


def shapes(num_images: int, side: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures (N, S, S, 3) in 0..255, and masks (N, S, S): 1 in the ellipse, 0 around it.

    The ellipse is brighter than what is around it, lies wholly inside the picture, and is of any tint. Picture n
    depends on `seed`, the side and n alone.

    Raises:
        ValueError: a negative number of pictures, a side below 8 pixels.
    """
    if num_images < 0 or side < 8:
        raise ValueError(f"{num_images} pictures of {side} pixels: expected none or more, of 8 pixels or more")
    images_NSS3 = np.empty((num_images, side, side, 3), dtype=np.uint8)
    masks_NSS = np.empty((num_images, side, side), dtype=np.uint8)
    for index in range(num_images):
        images_NSS3[index], masks_NSS[index] = _picture(side, np.random.default_rng([seed, index]))
    return images_NSS3, masks_NSS


def _picture(side: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rows_SS, columns_SS = (np.mgrid[:side, :side] + 0.5) / side
    mask_SS = _ellipse(rows_SS, columns_SS, rng)
    grey_SS = rng.uniform(*_BACKGROUND) + _TEXTURE * _texture(rows_SS, columns_SS, rng)
    grey_SS = grey_SS + rng.uniform(*_CONTRAST) * mask_SS
    image_SS3 = grey_SS[..., None] * rng.uniform(0.85, 1.15, 3) + rng.normal(0, _NOISE, (side, side, 3))
    return np.clip(np.rint(image_SS3), 0, 255).astype(np.uint8), mask_SS.astype(np.uint8)


def _ellipse(
    rows_SS: NDArray[np.float64], columns_SS: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    first, second = rng.uniform(*_RADII, 2)
    row, column = rng.uniform(_RADII[1], 1 - _RADII[1], 2)
    angle = rng.uniform(0, np.pi)
    down_SS, right_SS = rows_SS - row, columns_SS - column
    along_SS = np.cos(angle) * right_SS + np.sin(angle) * down_SS
    across_SS = np.cos(angle) * down_SS - np.sin(angle) * right_SS
    inside_SS: NDArray[np.bool_] = (along_SS / first) ** 2 + (across_SS / second) ** 2 <= 1
    return inside_SS


def _texture(
    rows_SS: NDArray[np.float64], columns_SS: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean of waves in all directions, in [-1, 1]."""
    total_SS = np.zeros_like(rows_SS)
    for down, right, phase in rng.uniform((-8, -8, 0), (8, 8, 1), (_WAVES, 3)):
        total_SS += np.sin(2 * np.pi * (down * rows_SS + right * columns_SS + phase))
    return total_SS / _WAVES
