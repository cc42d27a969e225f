"""Roles that are left to pictures of which some are equal: pure functions of what tells them apart.

Of pictures that are equal and of one label the first may be labelled or validate, and the others play no role. Where
equal pictures bear different labels nobody knows which is right: the first stays unlabelled at most. With `official`
validation the pictures of val come first, so that one of train that is also in val plays no role. A picture of
the pool, which nobody has labelled, comes after its equals that have a label and contradicts none of them.

Shapes: N pictures of train, V of val.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.partition import UNLABELLED, Indices


class Roles(NamedTuple):
    """Roles that are left to the pictures of a dataset."""

    present_N: NDArray[np.bool_]
    """True where a picture may play a role."""

    teaching_N: NDArray[np.bool_]
    """True where it may be labelled, or validate."""

    validating_V: NDArray[np.bool_]
    """True where a picture of val may validate; empty where val was not asked for."""

    num_conflicting: int
    """Pictures whose equals have another label."""

    @classmethod
    def all(cls, num_train: int, num_val: int = 0) -> "Roles":
        """Roles of pictures of which no two are equal."""
        train_N, val_V = np.ones(num_train, dtype=np.bool_), np.ones(num_val, dtype=np.bool_)
        return cls(train_N, train_N.copy(), val_V, 0)


class Pictures(NamedTuple):
    """Pictures of a split: what tells that two are equal, and what was said of each."""

    contents: Sequence[bytes]
    labels: Sequence[Hashable]


def left_to(train: Pictures, val: Pictures | None = None) -> Roles:
    """The roles that are left to the pictures of train, and of val where it validates."""
    num_val = len(val.contents) if val else 0
    present, teaching = (np.ones(num_val + len(train.contents), dtype=np.bool_) for _ in range(2))
    labels = [*(val.labels if val else ()), *train.labels]
    teaching[[label == UNLABELLED for label in labels]] = False
    num_conflicting = 0
    for members in equal_among((*(val.contents if val else ()), *train.contents)):
        known = [member for member in members if labels[member] != UNLABELLED]
        first, *others = (*known, *(member for member in members if labels[member] == UNLABELLED))
        present[others] = teaching[others] = False
        if len({labels[member] for member in known}) > 1:
            teaching[first] = False
            num_conflicting += len(known)
    return Roles(present[num_val:], teaching[num_val:], teaching[:num_val], num_conflicting)


def equal_among(contents: Iterable[bytes]) -> Iterator[list[int]]:
    """Positions of equal pictures, ascending: of each that is there more than once."""
    groups: dict[bytes, list[int]] = {}
    for position, content in enumerate(contents):
        groups.setdefault(content, []).append(position)
    return (members for members in groups.values() if len(members) > 1)


def usable(order: Indices, allowed_N: NDArray[np.bool_]) -> Indices:
    """Those of an order that are allowed, in their order."""
    return order[allowed_N[order]]
