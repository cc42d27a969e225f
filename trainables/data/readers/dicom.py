"""One DICOM picture as a viewer shows it first: rescaled, through its first window, black where the film is dark.

Values become bytes as `docs/pixels.md` says. Of a file only the elements in `_ELEMENTS` are kept: who is on the
picture, when and where it was taken is skipped while it is read, and so is in no row and no message.

Shapes: H W pixels.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from struct import error as StructError
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = (".dcm", ".dicom")
EXTRA = "sparse-search[dicom]"

_ELEMENTS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_INVERTED, _PALETTE = "MONOCHROME1", "PALETTE COLOR"
_GREY = (_INVERTED, "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", _PALETTE)
_DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
           MemoryError, StructError, ZlibError)  # fmt: skip
_WARNINGS = Lock()
"""Held while warnings are ignored, which Python can do for one thread at a time only."""


class DicomHeader(NamedTuple):
    """What the elements before the pixels say."""

    is_grey: bool
    size: tuple[int, int]
    """Width and height in pixels."""

    bits: int
    """Bits of a value that are used."""


def dicom_header(path: Path) -> DicomHeader:
    """Form of a picture; its pixels are not read.

    Raises:
        DataError: it is no single picture, or cannot be read; or pydicom is not installed.
    """
    with _read(path, header_only=True) as dataset:
        is_grey = dataset.PhotometricInterpretation in _GREY
        return DicomHeader(is_grey, (int(dataset.Columns), int(dataset.Rows)), int(dataset.BitsStored))


def read_dicom(path: Path, *, as_stored: bool = False) -> Image.Image:
    """The picture in a file, grey (L) or RGB.

    Args:
        path: The file.
        as_stored: Grey values as they lie in the file (I), neither rescaled nor windowed.

    Raises:
        DataError: it is no single picture, or cannot be read; or pydicom is not installed.
    """
    with _read(path, header_only=False) as dataset:
        if dataset.PhotometricInterpretation not in _GREY:
            return Image.fromarray(_colours(dataset))
        if as_stored:
            return Image.fromarray(_upturned(dataset.pixel_array.astype(np.int32), dataset))
        return Image.fromarray(_greys(dataset))


def _greys(dataset: "Dataset") -> NDArray[np.uint8]:
    """Bytes (H, W): rescaled, then through the first window or table, else of the full range of the values."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values_HW = apply_modality_lut(_within(dataset.pixel_array, dataset.get("ModalityLUTSequence")), dataset)
    table = dataset.get("VOILUTSequence")
    if not table and None in (dataset.get("WindowCenter"), dataset.get("WindowWidth")):
        return _inverted(_bytes(values_HW, *sorted(_full_range(dataset))), dataset)
    if table:
        values_HW = _within(np.rint(values_HW).astype(np.int64), table)
    low, high = (0.0, _greatest_of(table)) if table else _full_range(dataset)
    return _inverted(_bytes(apply_voi_lut(values_HW, dataset), low, high), dataset)


def _colours(dataset: "Dataset") -> NDArray[np.uint8]:
    """Bytes (H, W, 3), RGB."""
    from pydicom.pixels import apply_color_lut

    if dataset.PhotometricInterpretation == _PALETTE:
        colours_HW3 = apply_color_lut(dataset.pixel_array, dataset)
        return _bytes(colours_HW3, 0, int(np.iinfo(colours_HW3.dtype).max))
    return _bytes(dataset.pixel_array, 0, 2**dataset.BitsStored - 1)  # pydicom has made RGB of YBR


def _bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values, of which `low` becomes 0 and `high` 255; low is above high where a rescaling turns the order."""
    if not 0 < abs(high - low) < inf:
        raise ValueError("a range without a width")
    shares = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def _inverted(bytes_HW: NDArray[np.uint8], dataset: "Dataset") -> NDArray[np.uint8]:
    return 255 - bytes_HW if dataset.PhotometricInterpretation == _INVERTED else bytes_HW


def _upturned(values_HW: NDArray[np.int32], dataset: "Dataset") -> NDArray[np.int32]:
    """Stored values, the darkest 0 where the lowest is white."""
    is_inverted = dataset.PhotometricInterpretation == _INVERTED
    return np.asarray(values_HW.max() - values_HW, dtype=np.int32) if is_inverted else values_HW


def _full_range(dataset: "Dataset") -> tuple[float, float]:
    """The lowest and the highest value that can be stored, rescaled."""
    if table := dataset.get("ModalityLUTSequence"):
        return 0.0, _greatest_of(table)
    bits = dataset.BitsStored
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if None in (slope, intercept):
        return float(low), float(high)
    return float(low * slope + intercept), float(high * slope + intercept)


def _within(values_HW: NDArray[Any], table: Any) -> NDArray[Any]:
    """Values, those beyond the ends of a look-up table at its ends: pydicom would count them round."""
    if not table:
        return values_HW
    num_entries, first = (int(number) for number in table[0].LUTDescriptor[:2])
    return np.clip(values_HW.astype(np.int64), first, first + (num_entries or 2**16) - 1)


def _greatest_of(table: Any) -> float:
    return float(2 ** int(table[0].LUTDescriptor[2]) - 1)


@contextmanager
def _read(path: Path, *, header_only: bool) -> Iterator["Dataset"]:
    """The elements of a file that make its picture.

    Nothing is chained to what is raised: a message of the library may quote what lies in the file.
    """
    try:
        from pydicom import dcmread
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError:
        raise DataError(f"{path} is a DICOM file; to read it: pip install '{EXTRA}'") from None
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs its warnings besides
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, stop_before_pixels=header_only, specific_tags=list(_ELEMENTS))
            _check(path, dataset, header_only=header_only)
            yield dataset
    except (*_DAMAGE, BytesLengthException, InvalidDicomError):
        raise DataError(f"{path} cannot be read as a DICOM picture: repair or remove it") from None


def _check(path: Path, dataset: "Dataset", *, header_only: bool) -> None:
    if "Rows" not in dataset or not (header_only or "PixelData" in dataset):
        raise DataError(f"{path} holds no picture; expected DICOM with pixels of integers: remove it")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise DataError(f"{path} has {frames} frames; expected one picture: save the frames as files of their own")
    if dataset.PhotometricInterpretation not in _GREY + _COLOUR:
        raise DataError(f"{path} has colours of a kind that is not read; expected grey, RGB, YBR or a palette")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if limit and dataset.Rows * dataset.Columns > limit:
        raise DataError(f"{path} has more than {limit // 10**6} million pixels; expected fewer: make it smaller")
    if not header_only:
        _check_decoder(path, dataset)


def _check_decoder(path: Path, dataset: "Dataset") -> None:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        is_available = not syntax.is_encapsulated or get_decoder(syntax).is_available
    except NotImplementedError:
        is_available = False
    if not is_available:
        raise DataError(
            f"{path} is compressed as {syntax.name}, which no installed library reads: decompress it, "
            f"or pip install '{EXTRA}' pylibjpeg-libjpeg"
        )
