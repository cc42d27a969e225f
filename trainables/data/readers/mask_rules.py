"""Rules for pictures with masks that all their readers share: names, files, splits.

A mask belongs to the picture whose name before the dot it bears, with or without an ending. What is marked in it says
`mask_pixels`.

Shapes: N pictures.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.partition import Indices, Split, three_way_split

TEST_SHARE = 0.2
"""Share of the pictures of a folder of one's own, fixed by the content hash."""

VAL_SHARE = 0.25
"""Share of what is no test picture, drawn anew for each label set."""

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


def with_masks(
    folder: Path, images: Sequence[str], masks: Sequence[str], endings: Sequence[str] = ()
) -> tuple[Picture, ...]:
    """Give each picture its masks, in the order of the pictures and, of each, of the masks.

    Args:
        folder: What all places lie below.
        images: Places of the pictures.
        masks: Places of the masks.
        endings: What may follow a picture's name and `_` in the name of its mask; an ending that is part of a picture's
            own name is none, as in `12_OD` and `12_OS` of two eyes.

    Raises:
        DataError: two pictures of one name, a mask without a picture.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for place in images:
        same, _ = found.setdefault(stem_of(place), (place, []))
        if same != place:
            raise DataError(f"{folder / same} and {folder / place} have the same name before the dot: rename one")
    for mask in masks:
        name = stem_of(mask)
        if name not in found:
            name = _without_ending(name, endings)
        if name not in found:
            raise DataError(
                f"mask {folder / mask} is of no picture; expected one named {name}: add it, or remove the mask"
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


def _without_ending(name: str, endings: Sequence[str]) -> str:
    """The name, without the one ending that it has."""
    return next((name.removesuffix(f"_{ending}") for ending in endings if name.endswith(f"_{ending}")), name)
