"""Pictures of any size whose lesions are marked pixel by pixel: two classes, healthy and lesion.

Labelled pictures are counted in all, not class by class; a test part is fixed by the content hash, and what is left is
drawn anew for each label set (`splits.drawn_split`). Pixels come from `resize_cache`.

Shapes: N pictures, C channels, S pixels of a side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from trainables.core.kind import Kind
from trainables.data.partition import Indices, Split
from trainables.data.readers.files import File, digest_of
from trainables.data.readers.mask_pixels import words_about_shares
from trainables.data.readers.mask_rules import Picture
from trainables.data.readers.picture_files import words_about_levels
from trainables.data.readers.reader import ImageShape, MarkedReader

CLASS_NAMES = ("healthy", "lesion")
"""In the order of their labels."""


@dataclass(frozen=True)
class LesionFolder:
    """Files of such a dataset: listed, not yet read."""

    folder: Path
    pictures: tuple[Picture, ...]
    files: tuple[File, ...]
    """Everything that counts: pictures, masks, tables."""

    test_share: float
    """Share of every class, fixed by the content hash."""

    val_share: float
    """Share of what is no test picture, of every class, drawn anew for each label set."""

    others: tuple[str, ...] = ()
    """Places of pictures that are known to be neither healthy nor marked."""

    notes: tuple[str, ...] = ()
    """Words about files that were passed over."""

    pool: tuple[Picture, ...] = ()
    """Pictures that nobody has looked at."""

    @property
    def digest(self) -> str:
        """MD5 over places and bytes of all files, 32 hex digits."""
        return digest_of(self.folder, self.files)


@final
@dataclass(frozen=True)
class Prepared:
    """Pictures and masks as they lie in the cache, mapped from its files; those of the test split are the last, after
    those of the pool."""

    images_NCSS: NDArray[np.uint8]
    masks_NSb: NDArray[np.uint8]
    """Lesions (N, S, ceil(S / 8)), eight pixels a byte."""

    labels_N: NDArray[np.int64]
    num_train: int
    places: tuple[str, ...]
    left_out: dict[str, str]
    """Pictures that do not count, and the one each is equal to."""

    shares: Sequence[float | None] = ()
    """Marked share of each picture; None where it has no mask."""


@final
@dataclass(frozen=True)
class LesionReader(MarkedReader):
    """Folder whose pictures were prepared. `images` are mapped from a file: only what is indexed is read."""

    listed: LesionFolder
    prepared: Prepared
    kind: Kind = "classification"
    class_names: tuple[str, ...] = CLASS_NAMES

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about what was passed over, or looks odd."""
        shares = [share for share in self.prepared.shares if share is not None]
        repeated = len(self.prepared.left_out)
        told = (f"{repeated} pictures left out as they repeat others",) if repeated else ()
        trained = [self.listed.folder / place for place in self.prepared.places[self._part("train")]]
        return (*self.listed.notes, *told, *words_about_shares(shares), *words_about_levels(trained))

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train, and test where there is no pool."""
        return ("train",) if self.listed.pool else ("train", "test")

    @property
    def val_share(self) -> float:
        """Share of the train split that each label set draws to validate."""
        return self.listed.val_share

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Labels (N,): 1 for a picture with any lesion pixel, else 0; -1 in the pool."""
        return self.prepared.labels_N[self._part(split)]

    def image_shape(self, split: Split) -> ImageShape:
        """Sizes N, C, S, S."""
        count, channels, height, width = self.images(split).shape
        return count, channels, height, width

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, S, S), read-only."""
        return self.prepared.images_NCSS[self._part(split)]

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_]:
        """Lesions (N, S, S) of the chosen pictures, in their order."""
        packed = self.prepared.masks_NSb[self._part(split)][chosen]
        side = self.prepared.images_NCSS.shape[-1]
        return np.unpackbits(packed, axis=-1, count=side).view(np.bool_)

    def contents(self, split: Split) -> Iterator[bytes]:
        """Places of the pictures in turn: of equal ones only one was kept when they were prepared."""
        return (place.encode() for place in self.prepared.places[self._part(split)])

    def digest(self) -> str:
        """MD5 over places and bytes of all files."""
        return self.listed.digest

    def _part(self, split: Split) -> slice:
        bounds = {"train": (0, self.prepared.num_train), "test": (self.prepared.num_train, None)}
        return slice(*bounds[split])
