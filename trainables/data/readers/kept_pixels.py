"""Pixels of large splits, decoded or unpacked once, kept in the cache, and mapped from there from then on.

Who maps a file has in memory what is looked at, once for all processes of a machine.

Shapes: N images, C channels, H W pixels.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.cache import CacheFacts, cached_folder
from trainables.data.readers.reader import ImageShape, PreparationCallback

VERSION = 1
"""Number of the rules by which files become pixels; another one is another cache."""

_FILE = "pixels.npy"

ImageRows = Callable[[], Iterator[NDArray[np.uint8]]]
"""Gives pixels (C, H, W) of each image in turn."""


def kept_pixels(
    key: str, shape: ImageShape, rows: ImageRows, tell: PreparationCallback | None = None
) -> NDArray[np.uint8]:
    """Pixels (N, C, H, W) from the cache, where changes never arrive; in memory where there is no place to keep them.

    Args:
        key: Names the content.
        shape: N, C, H, W.
        rows: Gives the images, where they are not kept yet.
        tell: Told of every image that was made.

    Raises:
        DataError: an image that cannot be read.
    """
    try:
        folder, _ = cached_folder(f"pixels-{key}-v{VERSION}", partial(_write, shape, rows, tell))
        kept: NDArray[np.uint8] = np.load(folder / _FILE, mmap_mode="c", allow_pickle=False)
    except DataError:  # no place to keep it; an image that cannot be read is told again
        return in_memory(shape, rows())
    return kept


def in_memory(shape: ImageShape, rows: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pixels (N, C, H, W) of all images."""
    images_NCHW = np.empty(shape, dtype=np.uint8)
    for image_CHW, row_CHW in zip(images_NCHW, rows, strict=True):
        image_CHW[:] = row_CHW
    return images_NCHW


def _write(shape: ImageShape, rows: ImageRows, tell: PreparationCallback | None, folder: Path) -> CacheFacts:
    with (folder / _FILE).open("wb") as stream:
        npy.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": "|u1"})
        for done, row_CHW in enumerate(rows(), start=1):
            stream.write(row_CHW.tobytes())
            if tell:
                tell(done, shape[0])
    return {}
