"""Pictures cut into patches by a grid, and put together again: pure functions.

A picture of side S is divided into cells of S/rows x S/columns pixels. A patch is its cell, larger by the overlap, with
the cell in its middle; at the border it is shifted inwards, so that all patches are of one size. A picture's patches
follow one another, row by row.

Shapes: I pictures of P patches, C channels, H W pixels of a picture, h w of a patch.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.core.grid import Grid
from trainables.data.partition import Indices

Box = tuple[slice, slice]
"""Rows and columns of a patch in its picture."""


def check_grid(grid: Grid, side: int, dataset: str) -> int:
    """Side of the patches of square pictures, in pixels.

    Raises:
        DataError: the side does not divide evenly, patches would not be square or larger than the picture.
    """
    for count in (grid.rows, grid.columns):
        if side % count:
            raise DataError(
                f"dataset '{dataset}': a side of {side} pixels does not divide into {count}; "
                "expected a grid, or a side with @SIDE, that divides evenly"
            )
    if grid.rows != grid.columns:
        sizes = f"{side // grid.rows}x{side // grid.columns}"
        raise DataError(
            f"dataset '{dataset}': patches of grid {grid} would be {sizes} pixels; expected squares: "
            f"use :{grid.rows}x{grid.rows} or :{grid.columns}x{grid.columns}"
        )
    patch = side // grid.rows + grid.overlap
    if patch > side:
        raise DataError(
            f"dataset '{dataset}': patches of {patch} pixels are larger than the pictures of {side}; lower the overlap"
        )
    return patch


def boxes(grid: Grid, height: int, width: int) -> list[Box]:
    """Boxes of the patches, row by row."""
    rows, columns = _spans(height, grid.rows, grid.overlap), _spans(width, grid.columns, grid.overlap)
    return list(product(rows, columns))


def cut(pictures_ICHW: NDArray[Any], grid: Grid, chosen: Indices | None = None) -> NDArray[Any]:
    """Patches (I*P, C, h, w) of all pictures, or of the chosen ones in their order.

    Only these are read, one at a time: `pictures_ICHW` may be mapped from a file.
    """
    _, channels, height, width = pictures_ICHW.shape
    places = boxes(grid, height, width)
    rows, columns = places[0]
    chosen = np.arange(len(pictures_ICHW)) if chosen is None else chosen
    form = (len(chosen), len(places), channels, rows.stop - rows.start, columns.stop - columns.start)
    patches_IPChw = np.empty(form, dtype=pictures_ICHW.dtype)
    for patches_PChw, index in zip(patches_IPChw, chosen, strict=True):
        for patch_Chw, place in zip(patches_PChw, places, strict=True):
            patch_Chw[:] = pictures_ICHW[index][:, *place]
    return patches_IPChw.reshape(-1, *form[2:])


def reassemble(patches_NChw: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Pictures (I, C, H, W) from their patches: the inverse of `cut`. Where patches overlap, the later one is seen."""
    num_patches, (channels, height, width) = grid.num_patches, patches_NChw.shape[1:]
    size = (height - grid.overlap) * grid.rows, (width - grid.overlap) * grid.columns
    patches_IPChw = patches_NChw.reshape(-1, num_patches, channels, height, width)
    pictures_ICHW = np.empty((len(patches_IPChw), channels, *size), dtype=patches_NChw.dtype)
    for number, place in enumerate(boxes(grid, *size)):
        pictures_ICHW[:, :, *place] = patches_IPChw[:, number]
    return pictures_ICHW


def marked_patches(masks_IHW: NDArray[np.bool_], grid: Grid) -> NDArray[np.int64]:
    """Labels (I*P,): 1 for a patch with any marked pixel, else 0."""
    places = boxes(grid, *masks_IHW.shape[1:])
    labels_PI = [masks_IHW[:, *place].any(axis=(1, 2)) for place in places]
    return np.stack(labels_PI, axis=1).reshape(-1).astype(np.int64)


def inherited_labels(labels_I: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
    """Labels (I*P,): every patch has that of its picture."""
    return np.repeat(labels_I, grid.num_patches)


def _spans(length: int, count: int, overlap: int) -> Iterator[slice]:
    cell = length // count
    for number in range(count):
        start = min(max(number * cell - overlap // 2, 0), length - cell - overlap)
        yield slice(start, start + cell + overlap)
