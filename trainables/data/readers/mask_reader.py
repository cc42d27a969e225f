"""Datasets to learn masks from: procedural shapes, and pictures with a mask each.

Pictures are counted in all; a test part is fixed, and what is left is drawn anew for each label set
(`splits.drawn_split`). Pictures and masks of the test part are read when somebody asks for them, not before.

Shapes: N pictures, C channels, S pixels of a side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import md5
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError
from trainables.data.cache import Facts, cached_folder
from trainables.data.partition import Indices, Split, three_way_split
from trainables.data.readers.lesion_reader import ProgressCallback
from trainables.data.readers.mask_files import MaskedPictures, find_masked_folder, find_optic_discs
from trainables.data.readers.reader import ImageShape
from trainables.data.readers.shapes import shapes

SHAPES_SIZES: Mapping[Split, int] = {"train": 240, "test": 100}
"""Of the procedural pictures; a quarter of the first validates."""

VAL_SHARE = 0.25
"""Of what is no test picture."""

TEST_SHARE = 0.2
"""Of a folder of one's own."""

DEFAULT_SIDE = 256
"""Pixels, of pictures that come in any size. Source: SSGNet, arXiv:2510.06123."""

VERSION = 1
"""Of everything that is done to pixels and splits here; another one is another cache."""

_SPLIT_WORDS = 16  # hex digits of the digest that fix the test split


class Pixels(NamedTuple):
    """The pictures of a split with their masks."""

    images_NCSS: NDArray[np.uint8]
    masks_NSS: NDArray[np.bool_]


@final
@dataclass(frozen=True)
class MaskedReader:
    """Such a dataset. What is not asked for is not read."""

    sizes: Mapping[Split, int]
    channels: int
    side: int
    read: Callable[[Split], Pixels]
    md5: Callable[[], str]
    """Of the whole content, 32 hex digits."""

    val_share: float = VAL_SHARE
    """Of the train split, what each label set draws to validate."""

    splits: tuple[Split, ...] = ("train", "test")

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Zeros (N,): all pictures are of one kind."""
        return np.zeros(self.sizes[split], dtype=np.int64)

    def image_shape(self, split: Split) -> ImageShape:
        """N, C, S, S."""
        return self.sizes[split], self.channels, self.side, self.side

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, S, S), read-only."""
        return self.read(split).images_NCSS

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_]:
        """What is marked (N, S, S) in the chosen pictures, in their order."""
        return self.read(split).masks_NSS[chosen]

    def digest(self) -> str:
        """MD5 of the whole content."""
        return self.md5()


def open_shapes(side: int) -> MaskedReader:
    """Procedural pictures of a side in pixels, made on the spot."""
    return MaskedReader(SHAPES_SIZES, 3, side, partial(_shapes, side), partial(_digest_of_shapes, side))


def open_masked_folder(folder: Path, side: int | None, tell: ProgressCallback | None = None) -> MaskedReader:
    """A folder of one's own, of which a fifth is the test part.

    Raises:
        ConfigError: no `images/` with `masks/`.
        DataError: pictures and masks that do not match or cannot be read.
    """
    if not all((folder / part).is_dir() for part in ("images", "masks")):
        raise ConfigError(
            f"{folder} has no masks, which segmentation needs: expected images/NAME.png with masks/NAME.png in it"
        )
    found = find_masked_folder(folder)
    order = three_way_split(
        np.zeros(len(found), dtype=np.int64), found.digest[:_SPLIT_WORDS], val_share=0.0, test_share=TEST_SHARE
    )
    parts: dict[Split, MaskedPictures] = {
        split: replace(found, pictures=tuple(found.pictures[index] for index in order[split]))
        for split in ("train", "test")
    }
    return _prepared(parts, found.digest, side or DEFAULT_SIDE, tell)


def open_optic_discs(root: Path, side: int, tell: ProgressCallback | None = None) -> MaskedReader:
    """The optic discs of IDRiD in its official splits.

    Raises:
        DataError: files are missing or cannot be read.
    """
    parts: dict[Split, MaskedPictures] = {
        "train": find_optic_discs(root, "train"),
        "test": find_optic_discs(root, "test"),
    }
    digests = "".join(part.digest for part in parts.values())
    return _prepared(parts, md5(digests.encode(), usedforsecurity=False).hexdigest(), side, tell)


def _prepared(
    parts: Mapping[Split, MaskedPictures], digest: str, side: int, tell: ProgressCallback | None
) -> MaskedReader:
    """With the train split in the cache."""

    def read(split: Split) -> Pixels:
        key = f"masks-{digest}-{side}-{split}-v{VERSION}"
        folder, _ = cached_folder(key, partial(_prepare, parts[split], side, tell))
        images_NCSS, masks_NSS = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in ("images.npy", "masks.npy")
        )
        return Pixels(images_NCSS, masks_NSS)

    read("train")
    return MaskedReader({split: len(part) for split, part in parts.items()}, 3, side, read, lambda: digest)


def _prepare(pictures: MaskedPictures, side: int, tell: ProgressCallback | None, folder: Path) -> Facts:
    images_NSS3, masks_NSS = pictures.read(side, tell)
    np.save(folder / "images.npy", np.ascontiguousarray(images_NSS3.transpose(0, 3, 1, 2)))
    np.save(folder / "masks.npy", masks_NSS.astype(np.bool_))
    return {}


@lru_cache(maxsize=4)
def _shapes(side: int, split: Split) -> Pixels:
    images_NSS3, masks_NSS = shapes(SHAPES_SIZES[split], side, seed=int(split == "test"))
    images_NCSS = np.ascontiguousarray(images_NSS3.transpose(0, 3, 1, 2))
    images_NCSS.flags.writeable = False
    return Pixels(images_NCSS, masks_NSS.astype(np.bool_))


def _digest_of_shapes(side: int) -> str:
    """Of the train split: the test part follows from the same few lines."""
    content = b"".join(array.tobytes() for array in _shapes(side, "train"))
    return md5(content, usedforsecurity=False).hexdigest()
