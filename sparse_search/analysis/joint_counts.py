"""Counts of what two trials name together, image by image, from their kept predictions.

Two trials that judge the same images are right and wrong on much the same ones, so their difference is surer than
either score. How much surer two tables of counts do not say, and one joint table does.

Shapes: K classes; true class, named by the first, named by the second.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.image_intervals import Confusion
from sparse_search.analysis.kept_predictions import kept_predictions
from sparse_search.results.trials import RankedRow

JointCounts = NDArray[np.int64]


def joint_counts(
    results: Path | str, row_a: RankedRow, row_b: RankedRow, tables: Sequence[tuple[int, Confusion, Confusion]]
) -> tuple[JointCounts, ...]:
    """Joint tables (K, K, K) of two rows of a ranking, one per label set.

    Args:
        results: The results folder, or its URI.
        row_a: The first of them.
        row_b: The second.
        tables: Label sets with the tables of counts of both, which the joint ones must add up to.

    Returns:
        Nothing where predictions are not kept, are of different images, or do not give the tables.
    """
    kept = kept_predictions(results, (row_a, row_b)).predictions
    if kept is None or len(kept.named_CN) < 2:
        return ()
    label_set_R = np.array(sorted(row_a["label_set_list"]))
    found = []
    for label_set, confusion_a, confusion_b in tables:
        own_N = label_set_R[kept.runs_N] == label_set
        joint_KKK = np.zeros((len(confusion_a),) * 3, np.int64)
        np.add.at(joint_KKK, (kept.labels_N[own_N], kept.named_CN[0, own_N], kept.named_CN[1, own_N]), 1)
        if not _adds_up(joint_KKK, confusion_a, confusion_b):
            return ()
        found.append(joint_KKK)
    return tuple(found)


def _adds_up(joint_KKK: JointCounts, confusion_a: Confusion, confusion_b: Confusion) -> bool:
    return np.array_equal(joint_KKK.sum(2), confusion_a) and np.array_equal(joint_KKK.sum(1), confusion_b)
