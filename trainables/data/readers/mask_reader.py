"""Datasets to learn masks from: procedural shapes, and pictures with a mask each.

Pictures are counted in all; a test part is fixed, and what is left is drawn anew for each label set
(`splits.drawn_split`). Pictures and masks of the test part are read when somebody asks for them, not before.

Shapes: N pictures, C channels, S pixels of a side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import md5
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from trainables.core.kind import Kind
from trainables.data.cache import CacheFacts, cached_folder
from trainables.data.groups import Groups
from trainables.data.partition import UNLABELLED, Indices, Split
from trainables.data.readers.mask_files import MaskFolder, find_optic_discs, list_mask_folder
from trainables.data.readers.mask_pixels import words_about_shares
from trainables.data.readers.mask_rules import FOREGROUND, TEST_SHARE, VAL_SHARE, train_and_test
from trainables.data.readers.picture_files import words_about_levels
from trainables.data.readers.reader import ImageShape, MarkedReader, PreparationCallback, Reader, md5_of_file
from trainables.data.readers.request import ReaderRequest, RowRequest
from trainables.data.readers.shapes import shapes

SHAPES_SIZES: Mapping[Split, int] = {"train": 240, "test": 100}
"""Numbers of procedural pictures; a quarter of the first validates."""

DEFAULT_SIDE = 256
"""Side in pixels of pictures that come in any size. Source: SSGNet, arXiv:2510.06123."""

VERSION = 2
"""Number of the rules by which pixels and splits are made here; another one is another cache."""


class Pixels(NamedTuple):
    """Pictures of a split with their masks."""

    images_NCSS: NDArray[np.uint8]
    masks_NSS: NDArray[np.bool_]
    shares_N: Sequence[float] = ()
    """Marked shares of the pictures."""


@final
@dataclass(frozen=True)
class MaskReader(MarkedReader):
    """Pictures with a mask each, of which a split is read when it is asked for."""

    sizes: Mapping[Split, int]
    channels: int
    side: int
    read: Callable[[Split], Pixels]
    md5: Callable[[], str]
    """MD5 of the whole content, 32 hex digits."""

    class_names: tuple[str, ...]
    """Name of what is marked."""

    told: Callable[[], tuple[str, ...]] = tuple
    """Words about what was passed over, or looks odd."""

    val_share: float = VAL_SHARE
    """Share of the train split that each label set draws to validate."""

    kind: Kind = "segmentation"
    num_pool: int = 0
    """Pictures without a mask, the last ones of train."""

    numbers: Mapping[Split, Groups] | None = None
    """Groups of the pictures."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train, and test where there is no pool."""
        return tuple(self.sizes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about what was passed over, or looks odd."""
        return self.told()

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Zeros (N,), as all pictures are of one kind, and -1 in the pool."""
        labels_N = np.zeros(self.sizes[split], dtype=np.int64)
        if split == "train" and self.num_pool:
            labels_N[-self.num_pool :] = UNLABELLED
        return labels_N

    def groups(self, split: Split) -> Groups | None:
        """Numbers (N,) of the pictures' groups; None where none are known."""
        return self.numbers[split] if self.numbers else None

    def image_shape(self, split: Split) -> ImageShape:
        """Sizes N, C, S, S."""
        return self.sizes[split], self.channels, self.side, self.side

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, S, S), read-only."""
        return self.read(split).images_NCSS

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_]:
        """Marked pixels (N, S, S) of the chosen pictures, in their order."""
        return self.read(split).masks_NSS[chosen]

    def digest(self) -> str:
        """MD5 of the whole content."""
        return self.md5()


def open_shapes(request: RowRequest) -> Reader:
    """The reader of procedural pictures, made on the spot."""
    side = request.side
    return MaskReader(SHAPES_SIZES, 3, side, partial(_shapes, side), partial(_digest_of_shapes, side), ("ellipse",))


def open_mask_folder(request: ReaderRequest) -> Reader:
    """The reader of a folder of one's own, of which a fifth is the test part unless some pictures have no mask.

    Raises:
        DataError: pictures and masks that are missing, do not match or cannot be read.
    """
    found = list_mask_folder(request.existing())
    side = request.side or DEFAULT_SIDE
    if not all(picture.masks for picture in found.pictures):
        return prepared_masks({"train": found}, found.digest, side, (FOREGROUND,), request.tell)
    order = train_and_test(np.zeros(len(found), dtype=np.int64), found.digest, TEST_SHARE)
    parts = {
        split: replace(found, pictures=tuple(found.pictures[index] for index in indices))
        for split, indices in order.items()
    }
    return prepared_masks(parts, found.digest, side, (FOREGROUND,), request.tell)


def open_optic_discs(request: RowRequest) -> Reader:
    """The reader of the optic discs of IDRiD, in its official splits.

    Raises:
        DataError: files are missing or cannot be read.
    """
    parts: dict[Split, MaskFolder] = {
        "train": find_optic_discs(request.path, "train"),
        "test": find_optic_discs(request.path, "test"),
    }
    digests = "".join(part.digest for part in parts.values())
    digest = md5(digests.encode(), usedforsecurity=False).hexdigest()
    return prepared_masks(parts, digest, request.side, request.class_names, request.tell)


def prepared_masks(
    parts: Mapping[Split, MaskFolder],
    digest: str,
    side: int,
    class_names: tuple[str, ...],
    tell: PreparationCallback | None,
    numbers: Mapping[Split, Groups] | None = None,
) -> MaskReader:
    """The reader of listed pictures, with the train split in the cache.

    Args:
        parts: Pictures of each split, those without a mask last.
        digest: MD5 of the whole content.
        side: S, in pixels.
        class_names: Name of what is marked.
        tell: Told of every picture that was prepared.
        numbers: Groups of the pictures; None where none are known.

    Raises:
        DataError: pictures or masks that cannot be read.
    """

    def read(split: Split) -> Pixels:
        key = f"masks-{digest}-{side}-{split}-v{VERSION}"
        folder, facts = cached_folder(key, partial(_prepare, parts[split], side, tell))
        images_NCSS, masks_NSS = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in ("images.npy", "masks.npy")
        )
        return Pixels(images_NCSS, masks_NSS, tuple(facts["marked"]))

    def told() -> tuple[str, ...]:
        train = parts["train"]
        shares_N = read("train").shares_N
        with_masks = [share for share, picture in zip(shares_N, train.pictures, strict=True) if picture.masks]
        levels = words_about_levels([train.folder / picture.place for picture in train.pictures])
        return (*train.notes, *words_about_shares(with_masks), *levels, *_in_both(parts))

    read("train")
    sizes = {split: len(part) for split, part in parts.items()}
    num_pool = sum(not picture.masks for picture in parts["train"].pictures)
    return MaskReader(sizes, 3, side, read, lambda: digest, class_names, told, num_pool=num_pool, numbers=numbers)


def _in_both(parts: Mapping[Split, MaskFolder]) -> tuple[str, ...]:
    """Words about pictures that are in train and in test, by the bytes of their files: no test picture is decoded."""
    digests = {
        split: [md5_of_file(part.folder / picture.place) for picture in part.pictures] for split, part in parts.items()
    }
    tested = frozenset(digests.get("test", ()))
    count = sum(digest in tested for digest in digests["train"])
    return (f"{count} of train are in test too, and remain in both",) if count else ()


def _prepare(pictures: MaskFolder, side: int, tell: PreparationCallback | None, folder: Path) -> CacheFacts:
    images_NSS3, masks_NSS = pictures.read(side, tell)
    np.save(folder / "images.npy", np.ascontiguousarray(images_NSS3.transpose(0, 3, 1, 2)))
    np.save(folder / "masks.npy", masks_NSS.astype(np.bool_))
    return {"marked": masks_NSS.mean((1, 2)).tolist()}


@lru_cache(maxsize=4)
def _shapes(side: int, split: Split) -> Pixels:
    images_NSS3, masks_NSS = shapes(SHAPES_SIZES[split], side, seed=int(split == "test"))
    images_NCSS = np.ascontiguousarray(images_NSS3.transpose(0, 3, 1, 2))
    images_NCSS.flags.writeable = False
    return Pixels(images_NCSS, masks_NSS.astype(np.bool_))


def _digest_of_shapes(side: int) -> str:
    """MD5 of the train split: the test part follows from the same few lines."""
    images_NCSS, masks_NSS, _ = _shapes(side, "train")
    content = images_NCSS.tobytes() + masks_NSS.tobytes()
    return md5(content, usedforsecurity=False).hexdigest()
