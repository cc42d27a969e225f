"""Base of readers of a folder's picture files with a class each, decoded when they are asked for.

Shapes: N pictures, C channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.partition import SPLITS, Split
from trainables.data.readers.files import File
from trainables.data.readers.kept_pixels import in_memory, kept_pixels
from trainables.data.readers.picture_files import content_of, read_picture
from trainables.data.readers.reader import ImageShape, PlainReader, PreparationCallback

KEPT_FROM_PICTURES = 1_000
"""Pictures of a split from which on their pixels are kept, so that they are decoded once."""

KEPT_FROM_BYTES = 16 * 2**20
"""Bytes of pixels from which on as well."""


@dataclass(frozen=True)
class PictureReader(PlainReader, ABC):
    """Folder whose files were listed."""

    folder: Path
    class_names: tuple[str, ...]
    channels: int
    side: int
    files: tuple[File, ...]
    members: Mapping[Split, tuple[str, ...]]
    """Places of the pictures of each split."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """Splits that hold a picture."""
        return tuple(split for split in SPLITS if self.members[split])

    @abstractmethod
    def digest(self) -> str:
        """MD5 of everything that decides about pixels and splits."""

    def image_shape(self, split: Split) -> ImageShape:
        """Sizes N, C, side, side."""
        return len(self.members[split]), self.channels, self.side, self.side

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, side, side), mapped from a file where they are kept.

        Raises:
            DataError: a picture cannot be read.
        """
        return self._pixels(split)

    def prepare(self, tell: PreparationCallback | None = None) -> None:
        """Decode what is kept of train and val.

        Raises:
            DataError: a picture cannot be read.
        """
        for split in self.splits:
            if split != "test" and self._is_kept(split):
                self._pixels(split, tell)

    def _pixels(self, split: Split, tell: PreparationCallback | None = None) -> NDArray[np.uint8]:
        def rows() -> Iterator[NDArray[np.uint8]]:
            return (read_picture(self.folder / place, self.channels, self.side) for place in self.members[split])

        shape = self.image_shape(split)
        if not self._is_kept(split):
            return in_memory(shape, rows())
        return kept_pixels(f"{self.digest()}-{self.channels}x{self.side}-{split}", shape, rows, tell)

    def _is_kept(self, split: Split) -> bool:
        shape = self.image_shape(split)
        return shape[0] >= KEPT_FROM_PICTURES or prod(shape) >= KEPT_FROM_BYTES

    def contents(self, split: Split) -> Iterator[bytes]:
        """Size and pixels of each picture in turn, as it lies in its file.

        Raises:
            DataError: a picture cannot be read.
        """
        return (content_of(self.folder / place, self.channels) for place in self.members[split])
