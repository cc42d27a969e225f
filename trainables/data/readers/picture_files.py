"""One picture file as pixels.

Only four formats are ever decoded: Pillow knows others whose readers start programs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
DEFAULT_SIDE = 224
"""Side in pixels of networks that were pretrained on ImageNet."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF")
_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError)


def shared_format(paths: Sequence[Path]) -> tuple[int, int]:
    """Channels and side that suit all pictures, from their headers.

    Returns:
        1 channel when all are grey, else 3; the common side in pixels when all are squares of it, else 224.

    Raises:
        DataError: a header cannot be read, or a picture has more than 8 bits a channel.
    """
    channels, sizes = channels_and_sizes(paths)
    width, height = next(iter(sizes))
    same_square = len(sizes) == 1 and width == height
    return channels, width if same_square else DEFAULT_SIDE


def channels_and_sizes(paths: Sequence[Path]) -> tuple[int, set[tuple[int, int]]]:
    """Channels that suit all pictures, and every width and height in pixels that occurs, from their headers.

    Raises:
        DataError: a header cannot be read, or a picture has more than 8 bits a channel.
    """
    grey, sizes = True, set()
    for path in paths:
        with opened(path) as picture:
            grey = grey and picture.mode in _GREY
            sizes.add(picture.size)
    return 1 if grey else 3, sizes


def read_picture(path: Path, channels: int, side: int) -> NDArray[np.uint8]:
    """Pixels (channels, side, side), resized bilinearly with antialiasing where the size differs.

    Raises:
        DataError: the file cannot be decoded, or has more than 8 bits a channel.
    """
    with opened(path) as picture:
        pixels = picture.convert("L" if channels == 1 else "RGB")
        if pixels.size != (side, side):
            pixels = pixels.resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(pixels, dtype=np.uint8).reshape(side, side, channels).transpose(2, 0, 1)


def content_of(path: Path, channels: int) -> bytes:
    """Size and pixels of a picture, grey with one channel and else RGB.

    Raises:
        DataError: the file cannot be decoded, or has more than 8 bits a channel.
    """
    with opened(path) as picture:
        pixels = picture.convert("L" if channels == 1 else "RGB")
        return f"{pixels.size}".encode() + pixels.tobytes()


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture in a file, its header read; a failure to decode it within the context is told as well.

    Raises:
        DataError: it cannot be decoded, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.mode not in _GREY + _COLOUR:
                # Pillow would clip such values at 255 without a word.
                raise DataError(f"{path} has mode {picture.mode}; expected 8 bits a channel: convert it to 8-bit first")
            yield picture
    except _DAMAGE as problem:
        raise DataError(
            f"{path} cannot be read as a picture; expected PNG, JPEG, BMP or TIFF: repair or remove it"
        ) from (problem)
