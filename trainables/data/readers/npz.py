"""One `.npz` file in MedMNIST's layout, read member by member.

Layout: `train_images`, `train_labels` and optionally the same of `val` and `test`; images (N, H, W) or
(N, H, W, 3) of uint8, labels (N,) or (N, 1) of whole numbers. Members are read from the zip archive as plain
arrays: pickled objects are refused.

Images of train without a label are the pool: they have the label -1, or lie in an array of their own,
`unlabelled_images` or `train_unlabelled`, and then come after the others.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.partition import SPLITS, UNLABELLED, Split
from trainables.data.readers.kept_pixels import kept_pixels
from trainables.data.readers.reader import ImageShape, PlainReader, PreparationCallback, Reader, md5_of_file, with_pool
from trainables.data.readers.request import ReaderRequest

LAYOUT = "train_images, train_labels and optionally val_* and test_*"

KEPT_FROM = 2**28
"""Bytes of pixels in a split from which on they are unpacked once, and mapped from the cache."""

_POOLS = ("unlabelled_images", "train_unlabelled")
_RGBA = 4  # channels

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    MemoryError,  # a damaged header may ask for any size
    NotImplementedError,  # a compression that this Python lacks
    OSError,
    RuntimeError,  # an encrypted member
    ValueError,
)
"""Errors that an archive of arrays can cause where it is damaged."""


@final
@dataclass(frozen=True)
class NpzReader(PlainReader):
    """Npz file whose list of members was read."""

    path: Path
    splits: tuple[Split, ...]
    """Splits whose images and labels are both there."""

    any_finding: bool
    """Labels are columns of findings: 1 when any is set."""

    pools: tuple[str, ...] = ()
    """Arrays of images without a label, which join train."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Numbers of the classes; reads the labels of the train split.

        Raises:
            DataError: damaged file, or train labels that are not all of 0..K-1.
        """
        labels_N = self.labels("train").astype(np.int64)
        num_images = int((labels_N != UNLABELLED).sum())
        num_classes = int(labels_N.max(initial=UNLABELLED)) + 1
        if not 2 <= num_classes <= num_images:
            raise DataError(
                f"train_labels of {self.path} go up to {num_classes - 1} in {num_images} images; "
                "expected classes 0..K-1, two or more, each with images: renumber them"
            )
        return tuple(str(label) for label in range(num_classes))

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Labels (N,); reads only this array. Those of the pool are -1.

        Raises:
            DataError: damaged file, or labels of another type or shape.
        """
        key = f"{split}_labels"
        labels: NDArray[Any] = self._array(key)
        if labels.dtype.kind not in "iu":
            raise DataError(f"{key} of {self.path} are {labels.dtype}; expected whole numbers: save them as int64")
        if self.any_finding and labels.ndim == 2:
            labels = (labels != 0).any(axis=1, keepdims=True).astype(np.int64)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise DataError(f"{key} of {self.path} have shape {labels.shape}; expected (N,) or (N, 1): one per image")
        if split != "train" or not self.pools:
            return labels
        num_pool = sum(self._shape_of(pool)[0] for pool in self.pools)
        return np.concatenate([labels.astype(np.int64), np.full(num_pool, UNLABELLED)])

    def image_shape(self, split: Split) -> ImageShape:
        """Sizes N, C, H, W from the headers of the arrays.

        Raises:
            DataError: damaged file, or images of another type or shape, or a pool of another form than train.
        """
        first, *pools = self._arrays(split)
        count, *form = self._shape_of(first)
        for pool in pools:
            more, *other = self._shape_of(pool)
            if other != form:
                given, wanted = ("x".join(map(str, sizes)) for sizes in (other, form))
                raise DataError(f"{pool} of {self.path} are {given}; expected {wanted} as {first}: resize them")
            count += more
        return count, form[0], form[1], form[2]

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, H, W); reads only the arrays of this split. They are mapped from a file where they are kept.

        Raises:
            DataError: damaged file, or images of another type or shape.
        """
        return self._pixels(split)

    def prepare(self, tell: PreparationCallback | None = None) -> None:
        """Unpack what is kept of train and val.

        Raises:
            DataError: damaged file, or images of another type or shape.
        """
        for split in self.splits:
            if split != "test" and prod(self.image_shape(split)) >= KEPT_FROM:
                self._pixels(split, tell)

    def _pixels(self, split: Split, tell: PreparationCallback | None = None) -> NDArray[np.uint8]:
        shape = self.image_shape(split)
        if prod(shape) >= KEPT_FROM:
            return kept_pixels(f"{self.digest()}-{split}", shape, partial(self._rows, split), tell)
        images_NHWC = np.concatenate([self._images_of(key) for key in self._arrays(split)])
        return np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))

    def _rows(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        """Pixels (C, H, W) of each image in turn."""
        _, channels, height, width = self.image_shape(split)
        for content in self.contents(split):
            yield np.frombuffer(content, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1)

    def _images_of(self, key: str) -> NDArray[np.uint8]:
        """Pixels (N, H, W, C) of one array."""
        count, channels, height, width = self._shape_of(key)
        images: NDArray[np.uint8] = self._array(key).reshape(count, height, width, channels)
        return images

    def contents(self, split: Split) -> Iterator[bytes]:
        """Pixels (H, W, C) of each picture in turn.

        Raises:
            DataError: damaged file, or images of another type or shape.
        """
        for key in self._arrays(split):
            yield from self._contents_of(key)

    def _contents_of(self, key: str) -> Iterator[bytes]:
        count, *form = self._shape_of(key)
        with self._member(key) as stream:
            _, is_fortran, _ = _whole_header(stream)
            if not is_fortran:
                yield from _pieces(stream, count, prod(form))
                return
        yield from (image_HWC.tobytes() for image_HWC in self._images_of(key))

    def digest(self) -> str:
        """MD5 of the file."""
        with _damage_told(self.path, "the file"):
            digest = md5_of_file(self.path)
        return with_pool(digest) if self.pools else digest

    def _arrays(self, split: Split) -> tuple[str, ...]:
        return f"{split}_images", *(self.pools if split == "train" else ())

    def _shape_of(self, key: str) -> ImageShape:
        with self._member(key) as stream:
            shape, dtype = _header(stream)
        return _nchw(shape, dtype, f"{key} of {self.path}")

    def _array(self, key: str) -> NDArray[Any]:
        with self._member(key) as stream:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            stream.read(1)  # only at a member's end does zipfile compare its checksum
        return array

    @contextmanager
    def _member(self, key: str) -> Iterator[IO[bytes]]:
        with (
            _damage_told(self.path, f"'{key}'"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{key}.npy") as stream,
        ):
            yield stream


def open_npz_file(request: ReaderRequest) -> Reader:
    """The reader of a file that lies on this machine.

    Raises:
        DataError: no such file, another side than its own, or no npz in this layout.
    """
    if request.side is not None and request.class_names is None:  # the catalogue has a file for each side
        raise DataError(f"{request.path} is an npz file and keeps the side of its images; leave out @{request.side}")
    return open_npz(request.existing())


def open_npz(path: Path, *, any_finding: bool = False) -> NpzReader:
    """Read the archive's list of members, and no array.

    Raises:
        DataError: the file is no npz, lacks the train split, or holds one half of a split.
    """
    with _damage_told(path, "the archive"), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy") for name in archive.namelist()}
    for split in SPLITS:
        pair = {f"{split}_images", f"{split}_labels"}
        if not pair <= members and (split == "train" or pair & members):
            missing = min(pair - members)
            raise DataError(f"{path} has no array '{missing}'; expected MedMNIST's layout, that is {LAYOUT}: add it")
    splits = tuple(split for split in SPLITS if f"{split}_images" in members)
    return NpzReader(path, splits, any_finding, tuple(pool for pool in _POOLS if pool in members))


@contextmanager
def _damage_told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as problem:
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise DataError(
            f"{path}: {what} cannot be read ({reason}); expected an undamaged npz: save it again"
        ) from problem


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape, _, dtype = _whole_header(stream)
    return shape, dtype


def _whole_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, True if the array lies in Fortran's order, and type."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(stream)


def _pieces(stream: IO[bytes], count: int, size: int) -> Iterator[bytes]:
    """The next pieces of one size in bytes.

    Raises:
        EOFError: there are not as many.
    """
    for _ in range(count):
        piece = stream.read(size)
        if len(piece) < size:
            raise EOFError("it ends within an image")
        yield piece
    stream.read(1)  # only at a member's end does zipfile compare its checksum


def _nchw(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> ImageShape:
    if dtype != np.uint8:
        raise DataError(f"{what} are {dtype}; expected uint8 in 0..255: scale and save them as uint8")
    if len(shape) == 5 or (len(shape) == 4 and shape[1] == shape[2] == shape[3] > _RGBA):
        raise DataError(f"{what} have shape {shape}, as volumes have; expected pictures: save slices as (N, H, W)")
    if len(shape) == 4 and shape[3] == _RGBA:
        raise DataError(f"{what} have 4 channels; expected grey or RGB: put them on black and save (N, H, W, 3)")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise DataError(f"{what} have shape {shape}; expected (N, H, W) or (N, H, W, 3): move the axes")
    count, height, width = shape[:3]
    if height != width:
        raise DataError(f"{what} are {height}x{width} pixels; expected squares: crop or resize them")
    if 0 in shape:
        raise DataError(f"{what} have shape {shape}; expected at least one image: add some or drop the array")
    return count, shape[3] if len(shape) == 4 else 1, height, width
