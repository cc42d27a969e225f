"""Random orders and three-way splits that stay the same for ever.

An order is the sort of raw 64-bit draws: NumPy keeps the stream of a bit generator fixed across versions, but
not that of `Generator.permutation` (NEP 19).
"""

from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

UNLABELLED = -1
"""Label of an image that nobody has labelled."""

Indices = NDArray[np.int64]
Labels = NDArray[np.int64]


def random_order(count: int, *seed: object) -> Indices:
    """A uniformly random order of 0..count-1, fixed by the text of the seed words."""
    words = "/".join(str(word) for word in seed)
    bits = np.random.PCG64(int.from_bytes(sha256(words.encode()).digest()[:16], "big"))
    return np.argsort(bits.random_raw(count), kind="stable").astype(np.int64)


def shuffled_class(labels_N: Labels, label: int, *seed: object) -> Indices:
    """Indices of one class in random order, independent of every other class."""
    members = np.flatnonzero(labels_N == label)
    return members[random_order(len(members), *seed, label)]


def three_way_split(labels_N: Labels, seed: str, *, val_share: float, test_share: float) -> dict[Split, Indices]:
    """Train, val and test indices, ascending; every class is shared out alike, and a split may be empty."""
    parts: dict[Split, list[Indices]] = {"train": [], "val": [], "test": []}
    for label in np.unique(labels_N):
        order = shuffled_class(labels_N, int(label), seed)
        num_test, num_val = round(test_share * len(order)), round(val_share * len(order))
        parts["test"].append(order[:num_test])
        parts["val"].append(order[num_test : num_test + num_val])
        parts["train"].append(order[num_test + num_val :])
    return {split: np.sort(np.concatenate(chunks)) for split, chunks in parts.items()}
