"""The contract of a reader: one way in which images are stored, be it an npz file, a folder or bundled arrays.

A *picture* is a whole image file as a person took it; an *image* is what a method sees: a whole picture, or one patch
of it. Readers know no patches: their images are whole pictures, brought to one side.

Shapes: N images, C channels, H W pixels.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import file_digest, md5
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.core.kind import Kind
from trainables.data.partition import Indices, Split

ImageShape: TypeAlias = tuple[int, int, int, int]
"""N, C, H, W."""

PreparationCallback: TypeAlias = Callable[[int, int], None]
"""Called with the number of pictures that are prepared, and of how many."""


class Reader(Protocol):
    """Raw arrays of one dataset, read one at a time: asking for one split never touches another.

    Derive from `PlainReader` or `MarkedReader`, which say the usual answers.
    """

    @property
    def kind(self) -> Kind:
        """Kind of task that can be learned."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels; of a segmentation, what is marked.

        A row of the catalogue overrules them.
        """

    @property
    def shots_in_all(self) -> bool:
        """True if shots count labelled images in all, not of each class."""

    @property
    def val_share(self) -> float:
        """Share of the train split that each label set draws to validate; 0 where there is a val split for good."""

    @property
    def has_masks(self) -> bool:
        """True if something is marked pixel by pixel."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about what was passed over, or looks odd, each for one line at the start of a run."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """Splits with images, in the order train, val, test."""

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Class labels (N,); in train -1 where nobody has labelled an image."""

    def groups(self, split: Split) -> NDArray[np.int64] | None:
        """Number (N,) of each image's group, such as its patient; None where none are known."""

    def prepare(self, tell: PreparationCallback | None = None) -> None:
        """Do what takes long the first time and is kept; `tell` is told of every image."""

    def image_shape(self, split: Split) -> ImageShape:
        """Shape of `images(split)`, without decoding a pixel."""

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, H, W), C-contiguous."""

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_] | None:
        """Marked pixels (N, H, W) of the chosen images, in their order; None where nobody marked anything."""

    def contents(self, split: Split) -> Iterator[bytes]:
        """Bytes of each picture in turn, one in memory at a time: equal of equal pictures."""

    def digest(self) -> str:
        """MD5 of the whole content, 32 hex digits."""


class PlainReader:
    """Base of readers of images with a class each: shots count per class, and nothing is marked."""

    kind: Kind = "classification"
    shots_in_all = False
    val_share = 0.0
    has_masks = False

    @property
    def notes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def groups(self, split: Split) -> NDArray[np.int64] | None:
        """None: no groups are known."""

    def prepare(self, tell: PreparationCallback | None = None) -> None:
        """Nothing is kept."""

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_] | None:
        """None: nobody marked anything."""

    def contents(self: Reader, split: Split) -> Iterator[bytes]:
        """Pixels of each picture in turn."""
        return _rows(self, split)


class MarkedReader:
    """Base of readers of pictures with masks: shots count in all, and each label set draws its own val split.

    What a subclass adds besides arrays: `kind`, `val_share`, `class_names`.
    """

    shots_in_all = True
    has_masks = True

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train and test."""
        return ("train", "test")

    @property
    def notes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def groups(self, split: Split) -> NDArray[np.int64] | None:
        """None: no groups are known."""

    def prepare(self, tell: PreparationCallback | None = None) -> None:
        """Nothing is kept."""

    def contents(self: Reader, split: Split) -> Iterator[bytes]:
        """Pixels of each picture in turn."""
        return _rows(self, split)


def _rows(reader: Reader, split: Split) -> Iterator[bytes]:
    return (image_CHW.tobytes() for image_CHW in reader.images(split))


def with_pool(digest: str) -> str:
    """MD5 of content of which some is a pool, apart from that of the same bytes as they were read before pools."""
    return md5(f"{digest}/pool".encode(), usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    """MD5 of a file's bytes, 32 hex digits; computed once per process while the file stays as it is."""
    stat = path.stat()
    return _md5_of_file(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _md5_of_file(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as stream:
        # Not for security: MedMNIST publishes MD5, and machines in FIPS mode refuse it otherwise.
        return file_digest(stream, lambda: md5(usedforsecurity=False)).hexdigest()
