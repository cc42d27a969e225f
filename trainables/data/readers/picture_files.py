"""One picture file as pixels, as a viewer shows them; `docs/pixels.md` says how a value becomes a byte.

Only four formats are ever decoded by Pillow, which knows others whose readers start programs; DICOM is by pydicom.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.dicom import DICOM_SUFFIXES, dicom_header, read_dicom
from trainables.data.readers.shown import num_bits, num_pages, shown, shown_size

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", *DICOM_SUFFIXES)
FORMATS = "PNG, JPEG, BMP, TIFF or DICOM"
"""Words for what is read."""

DEFAULT_SIDE = 224
"""Side in pixels of networks that were pretrained on ImageNet."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF")
_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV")
_DEEP = ("I", "F")
_DAMAGE = (OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, MemoryError)
_NUM_LOOKED_AT, _FEW_LEVELS = 16, 32


class Header(NamedTuple):
    """What a file says of its picture before the pixels."""

    is_grey: bool
    size: tuple[int, int]
    """Width and height in pixels, as it is shown."""

    bits: int
    """Bits of a value."""


def header_of(path: Path) -> Header:
    """Form of a picture, from its header.

    Raises:
        DataError: it cannot be read, or is of a kind that is not.
    """
    if _is_dicom(path):
        return Header(*dicom_header(path))
    with opened(path) as picture:
        bits = num_bits(picture)
        return Header(picture.mode in _GREY or bits > 8, shown_size(picture), bits)


def shared_format(paths: Sequence[Path]) -> tuple[int, int]:
    """Channels and side that suit all pictures, from their headers.

    Returns:
        1 channel when all are grey, else 3; the common side in pixels when all are squares of it, else 224.

    Raises:
        DataError: a header cannot be read, or is of a kind that is not.
    """
    channels, sizes = channels_and_sizes(paths)
    width, height = next(iter(sizes))
    same_square = len(sizes) == 1 and width == height
    return channels, width if same_square else DEFAULT_SIDE


def channels_and_sizes(paths: Sequence[Path]) -> tuple[int, set[tuple[int, int]]]:
    """Channels that suit all pictures, and every shown width and height in pixels that occurs, from their headers.

    Raises:
        DataError: a header cannot be read, or is of a kind that is not.
    """
    grey, sizes = True, set()
    for path in paths:
        header = header_of(path)
        grey = grey and header.is_grey
        sizes.add(header.size)
    return 1 if grey else 3, sizes


def words_about_levels(paths: Sequence[Path]) -> tuple[str, ...]:
    """Words about pictures of more than 8 bits that are shown in few grey levels; looks at some of them.

    Raises:
        DataError: one cannot be read.
    """
    some = paths[:: -(-len(paths) // _NUM_LOOKED_AT) or 1]
    deep = [read_picture(path, 1) for path in some if header_of(path).bits > 8]
    if not deep:
        return ()
    levels = int(max(pixels.max() for pixels in deep)) - int(min(pixels.min() for pixels in deep)) + 1
    if levels > _FEW_LEVELS:
        return ()
    return (f"pictures of more than 8 bits are shown in {levels} of 256 grey levels: stretch their values to all bits",)


def read_picture(path: Path, channels: int, side: int | None = None) -> NDArray[np.uint8]:
    """Pixels (channels, side, side), resized bilinearly with antialiasing where the size differs; or as large as it is.

    Raises:
        DataError: the file cannot be decoded, or is of a kind that is not read.
    """
    with opened(path) as picture:
        return resized_picture(picture, channels, side)


def resized_picture(picture: Image.Image, channels: int, side: int | None = None) -> NDArray[np.uint8]:
    """Pixels (channels, side, side) of a picture as it is shown, resized as `read_picture` does."""
    pixels = shown(picture, channels)
    width, height = size = (side, side) if side else pixels.size
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(pixels, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def content_of(path: Path, channels: int) -> bytes:
    """Size and pixels of a picture, grey with one channel and else RGB.

    Raises:
        DataError: the file cannot be decoded, or is of a kind that is not read.
    """
    with opened(path) as picture:
        pixels = shown(picture, channels)
        return f"{pixels.size}".encode() + pixels.tobytes()


@contextmanager
def opened(path: Path, *, as_stored: bool = False) -> Iterator[Image.Image]:
    """The picture in a file, its header read; a failure to decode it within the context is told as well.

    Args:
        path: The file.
        as_stored: Grey values of any depth will do, and stay as they are.

    Raises:
        DataError: it cannot be decoded, has several pages, or values of another kind than is read.
    """
    if _is_dicom(path):
        yield read_dicom(path, as_stored=as_stored)
        return
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if (pages := num_pages(picture)) > 1:
                raise DataError(f"{path} has {pages} pages; expected one picture: save the pages as files of their own")
            if num_bits(picture) == 8 and picture.mode not in _GREY + _COLOUR + (_DEEP if as_stored else ()):
                # Pillow would clip such values at 255 without a word.
                raise DataError(
                    f"{path} has mode {picture.mode}; expected 8 bits a channel, or 16 without sign: convert it to such"
                )
            yield picture
    except Image.DecompressionBombError as problem:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise DataError(f"{path} has more than {limit} million pixels; expected fewer: make it smaller") from problem
    except _DAMAGE as problem:
        raise DataError(f"{path} cannot be read as a picture; expected {FORMATS}: repair or remove it") from problem


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES
