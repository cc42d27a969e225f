"""Groups of images that belong together, such as those of one patient: none lies on both sides of a split.

A group is known by its number; an image that belongs to nobody else is a group of its own.

Shapes: N images, D drawn ones, K classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.partition import Indices, Labels, Split, random_order, three_way_split

Groups = NDArray[np.int64]
"""Number of each image's group."""

_MAX_ATTEMPTS = 100


def numbered(names: Sequence[str]) -> Groups | None:
    """Numbers (N,) of groups by their names, an empty one being a group of its own; None where all are empty."""
    if not any(names):
        return None
    known = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
    lone = iter(range(len(known), len(known) + len(names)))
    return np.array([known[name] if name else next(lone) for name in names], dtype=np.int64)


def alone(count: int) -> Groups:
    """Groups of one image each."""
    return np.arange(count, dtype=np.int64)


def kin_of(groups_N: Groups, chosen: Indices) -> NDArray[np.bool_]:
    """True for the images (N,) that share a group with a chosen one, and for these."""
    return np.isin(groups_N, groups_N[chosen])


def share_out_groups(
    labels_N: Labels, groups_N: Groups, seed: str, *, val_share: float, test_share: float
) -> dict[Split, Indices]:
    """Train, val and test indices, ascending: `three_way_split` of groups, each counted to its rarest class.

    Where every image is a group of its own it is that of the images.
    """
    numbers, first, group_of_N = np.unique(groups_N, return_index=True, return_inverse=True)
    by_rarity = np.argsort(np.bincount(labels_N), kind="stable")
    rank_G = np.full(len(numbers), len(by_rarity))
    np.minimum.at(rank_G, group_of_N, np.argsort(by_rarity)[labels_N])
    by_place = np.argsort(first)  # numbers of groups say nothing, the places of their images do
    parts = three_way_split(by_rarity[rank_G][by_place], seed, val_share=val_share, test_share=test_share)
    return {split: np.flatnonzero(np.isin(group_of_N, by_place[chosen])) for split, chosen in parts.items()}


def deal_out_groups(labels_D: Labels, groups_D: Groups, num_folds: int, *seed: object) -> Indices:
    """Fold (D,) of every drawn image: whole groups, every class spread alike and in every fold.

    scikit-learn's `StratifiedGroupKFold` deals the groups, which come in an order fixed by the seed words; orders are
    drawn until every fold holds every class.

    Raises:
        DataError: no order was found that does.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and only groups need it

    splitter = StratifiedGroupKFold(num_folds)
    numbers, group_of_D = np.unique(groups_D, return_inverse=True)
    for attempt in range(_MAX_ATTEMPTS):
        shuffled_D = random_order(len(numbers), *seed, "groups", attempt)[group_of_D]
        folds_D = np.empty(len(labels_D), dtype=np.int64)
        for fold, (_, held_out) in enumerate(splitter.split(labels_D, labels_D, shuffled_D)):
            folds_D[held_out] = fold
        if _holds_all(labels_D, folds_D, num_folds):
            return folds_D
    raise DataError(
        f"the groups of {len(labels_D)} labelled images cannot be dealt out so that each of {num_folds} folds holds "
        "every class: lower folds, or label images of more groups"
    )


def _holds_all(labels_D: Labels, folds_D: Indices, num_folds: int) -> bool:
    num_classes = len(np.unique(labels_D))
    return all(len(np.unique(labels_D[folds_D == fold])) == num_classes for fold in range(num_folds))
