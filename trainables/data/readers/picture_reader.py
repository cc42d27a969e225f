"""Base of readers of a folder's picture files with a class each, decoded when they are asked for.

Shapes: N pictures, C channels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.partition import SPLITS, Split
from trainables.data.readers.files import File
from trainables.data.readers.picture_files import content_of, read_picture
from trainables.data.readers.reader import ImageShape, PlainReader


@dataclass(frozen=True)
class PictureReader(PlainReader):
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

    def image_shape(self, split: Split) -> ImageShape:
        """Sizes N, C, side, side."""
        return len(self.members[split]), self.channels, self.side, self.side

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, side, side).

        Raises:
            DataError: a picture cannot be read.
        """
        images_NCHW = np.empty(self.image_shape(split), dtype=np.uint8)
        for index, place in enumerate(self.members[split]):
            images_NCHW[index] = read_picture(self.folder / place, self.channels, self.side)
        return images_NCHW

    def contents(self, split: Split) -> Iterator[bytes]:
        """Size and pixels of each picture in turn, as it lies in its file.

        Raises:
            DataError: a picture cannot be read.
        """
        return (content_of(self.folder / place, self.channels) for place in self.members[split])
