"""One picture file as pixels, as a viewer shows them.

Only four formats are ever decoded: Pillow knows others whose readers start programs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.shown import num_pages, shown, shown_size

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
DEFAULT_SIDE = 224
"""Side in pixels of networks that were pretrained on ImageNet."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF")
_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV")
_DEEP = ("I;16", "I;16L", "I;16B", "I", "F")
_DAMAGE = (OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, MemoryError)


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
    """Channels that suit all pictures, and every shown width and height in pixels that occurs, from their headers.

    Raises:
        DataError: a header cannot be read, or a picture has more than 8 bits a channel.
    """
    grey, sizes = True, set()
    for path in paths:
        with opened(path) as picture:
            grey = grey and picture.mode in _GREY
            sizes.add(shown_size(picture))
    return 1 if grey else 3, sizes


def read_picture(path: Path, channels: int, side: int) -> NDArray[np.uint8]:
    """Pixels (channels, side, side), resized bilinearly with antialiasing where the size differs.

    Raises:
        DataError: the file cannot be decoded, or has more than 8 bits a channel.
    """
    with opened(path) as picture:
        return resized_picture(picture, channels, side)


def resized_picture(picture: Image.Image, channels: int, side: int) -> NDArray[np.uint8]:
    """Pixels (channels, side, side) of a picture as it is shown, resized as `read_picture` does."""
    pixels = shown(picture, channels)
    if pixels.size != (side, side):
        pixels = pixels.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(pixels, dtype=np.uint8).reshape(side, side, channels).transpose(2, 0, 1)


def content_of(path: Path, channels: int) -> bytes:
    """Size and pixels of a picture, grey with one channel and else RGB.

    Raises:
        DataError: the file cannot be decoded, or has more than 8 bits a channel.
    """
    with opened(path) as picture:
        pixels = shown(picture, channels)
        return f"{pixels.size}".encode() + pixels.tobytes()


@contextmanager
def opened(path: Path, *, any_depth: bool = False) -> Iterator[Image.Image]:
    """The picture in a file, its header read; a failure to decode it within the context is told as well.

    Args:
        path: The file.
        any_depth: Grey values of more than 8 bits will do.

    Raises:
        DataError: it cannot be decoded, has several pages, or more than 8 bits a channel where these will not do.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if (pages := num_pages(picture)) > 1:
                raise DataError(f"{path} has {pages} pages; expected one picture: save the pages as files of their own")
            if picture.mode not in _GREY + _COLOUR + (_DEEP if any_depth else ()):
                # Pillow would clip such values at 255 without a word.
                raise DataError(f"{path} has mode {picture.mode}; expected 8 bits a channel: convert it to 8-bit first")
            yield picture
    except Image.DecompressionBombError as problem:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise DataError(f"{path} has more than {limit} million pixels; expected fewer: make it smaller") from problem
    except _DAMAGE as problem:
        raise DataError(
            f"{path} cannot be read as a picture; expected PNG, JPEG, BMP or TIFF: repair or remove it"
        ) from problem
