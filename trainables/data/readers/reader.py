"""What a kind of storage must offer to be a dataset: an npz file, a folder of images, bundled arrays.

Shapes: N images, C channels, H W pixels.
"""

from functools import lru_cache
from hashlib import file_digest, md5
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.data.partition import Split

ImageShape: TypeAlias = tuple[int, int, int, int]
"""N, C, H, W."""


class Reader(Protocol):
    """Raw arrays of one dataset, read one at a time: asking for one split never touches another."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """What is there, in the order train, val, test."""

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Class labels (N,)."""

    def image_shape(self, split: Split) -> ImageShape:
        """Shape of `images(split)`, without decoding a pixel."""

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, H, W), C-contiguous."""

    def digest(self) -> str:
        """MD5 of the whole content, 32 hex digits."""


def md5_of_file(path: Path) -> str:
    """MD5 of a file's bytes, 32 hex digits; computed once per process while the file stays as it is."""
    stat = path.stat()
    return _md5_of_file(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _md5_of_file(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as stream:
        # Not for security: MedMNIST publishes MD5, and machines in FIPS mode refuse it otherwise.
        return file_digest(stream, lambda: md5(usedforsecurity=False)).hexdigest()
