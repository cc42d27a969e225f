"""Rules for pictures with masks that all their readers share: names, files, splits.

A mask belongs to the picture whose name it bears, as `Names` says. What is marked in it says
`mask_pixels`.

Shapes: N pictures.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple, final
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.partition import Indices, Split, three_way_split
from trainables.data.readers.picture_files import SUFFIXES

FOREGROUND = "foreground"
"""Name of what is marked, where nobody has named it."""

TEST_SHARE = 0.2
"""Share of the pictures of a folder of one's own, fixed by the content hash."""

VAL_SHARE = 0.25
"""Share of what is no test picture, drawn anew for each label set."""

_ENDINGS = ("mask", "masks", "segmentation", "seg", "annotation", "anno", "lesion", "label", "gt")
_SUFFIX = re.compile(rf"(?:{'|'.join(map(re.escape, SUFFIXES))})$")
_SPLIT_DIGITS = 16  # hex digits of the content's MD5 that fix the test split


class Picture(NamedTuple):
    """Places of a picture and of its masks, below one folder."""

    place: str
    masks: tuple[str, ...] = ()


def has_masks(folder: Path) -> bool:
    """True if a folder is laid out as `images/` and `masks/`."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def stem_of(place: str) -> str:
    """Name of a file without folder and suffix."""
    return PurePosixPath(place).stem


def name_of(place: str) -> str:
    """Name of a file without folder and suffix, or `.nii.gz` and the like."""
    return stem_of(stem_of(place)) if place.lower().endswith(".gz") else stem_of(place)


@final
class Names:
    """Names of pictures, by which masks find them.

    A mask bears its picture's name, and may add to it the picture's own suffix (`x.jpg.png`), an ending (`x_mask`,
    `x_Segmentation`), which a number may follow (`x_mask_1`), or both. Capitals, and whether an accented letter is
    written as one character or as two, make no difference where that leaves one picture only.
    """

    def __init__(self, names: Sequence[str], endings: Sequence[str] = ()) -> None:
        """Take the names of pictures, without folder and suffix, and endings besides the usual ones."""
        self._exact = frozenset(names)
        self._names: dict[str, list[str]] = {}
        for name in self._exact:
            self._names.setdefault(_normal(name), []).append(name)
        words = "|".join(map(re.escape, (*_ENDINGS, *map(_normal, endings))))
        self._ending = re.compile(rf"[_-](?:{words})(?:_?\d+)?$")

    def find(self, mask: str) -> str | None:
        """The name of the picture to which a mask of that name, without folder and suffix, belongs."""
        if mask in self._exact:
            return mask
        known = (self._names.get(name, ()) for name in self._stripped(_normal(mask)))
        return next((names[0] for names in known if len(names) == 1), None)

    def is_mask(self, name: str) -> bool:
        """True if it is the name of a picture with an ending."""
        bare = self._ending.sub("", _normal(name))
        return bare != _normal(name) and bare in self._names

    def bare(self, mask: str) -> str:
        """The name of a mask without its ending."""
        found = self._ending.search(_normal(mask))
        return mask[: found.start() - len(_normal(mask))] if found else mask

    def nearest(self, mask: str) -> str | None:
        """The name of a picture that is much like it."""
        return next(iter(get_close_matches(self.bare(mask), sorted(self._exact), n=1)), None)

    def _stripped(self, mask: str) -> Iterator[str]:
        """The name, then the name without what a mask may add."""
        short = _SUFFIX.sub("", mask)
        yield from (mask, short)
        yield from (self._ending.sub("", mask), self._ending.sub("", short))
        yield _SUFFIX.sub("", self._ending.sub("", mask))


def with_masks(
    folder: Path, images: Sequence[str], masks: Sequence[str], endings: Sequence[str] = ()
) -> tuple[Picture, ...]:
    """Give each picture its masks, in the order of the pictures and, of each, of the masks.

    Args:
        folder: What all places lie below.
        images: Places of the pictures.
        masks: Places of the masks.
        endings: What may follow a picture's name and `_` in the name of its mask, besides the usual words; an ending
            that is part of a picture's own name is none, as in `12_OD` and `12_OS` of two eyes.

    Raises:
        DataError: two pictures of one name, a mask without a picture.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for place in images:
        same, _ = found.setdefault(stem_of(place), (place, []))
        if same != place:
            raise DataError(f"{folder / same} and {folder / place} have the same name before the dot: rename one")
    names = Names(list(found), endings)
    for mask in masks:
        name = names.find(stem_of(mask))
        if name is None:
            wanted, near = names.bare(stem_of(mask)), names.nearest(stem_of(mask))
            nearest = f" (the nearest is {near})" if near else ""
            raise DataError(
                f"mask {folder / mask} is of no picture; expected one named {wanted}{nearest}: "
                "add it, or remove the mask"
            )
        found[name][1].append(mask)
    return tuple(Picture(place, tuple(own)) for place, own in found.values())


def train_and_test(labels_N: NDArray[np.int64], digest: str, test_share: float) -> dict[Split, Indices]:
    """Ascending indices of the train and test splits, every class shared out alike.

    Args:
        labels_N: Labels of the pictures.
        digest: MD5 of the content; fixes the splits.
        test_share: Share of every class.
    """
    parts = three_way_split(labels_N, digest[:_SPLIT_DIGITS], val_share=0.0, test_share=test_share)
    return {"train": parts["train"], "test": parts["test"]}


def _normal(name: str) -> str:
    return normalize("NFC", name).casefold()
