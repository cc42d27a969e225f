"""Metrics of probabilities that sort images: one class against all others, at every threshold there is.

Images may have weights, the number of times that each was drawn: an image of weight 2 counts as two, one of weight 0 is
not there. With equal weights these are the metrics of the table.

Shapes: N images, K classes, B sets of weights, T thresholds.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

GUARANTEED = 0.95
"""Share of a class that must be named rightly where the other's share is asked for."""

_ROUNDING = 1e-9
"""Images by which a share may be missed: counts are whole, their products with shares are not."""


class Above(NamedTuple):
    """Images above each threshold, the highest threshold first; the last of them lets all pass."""

    hits_BT: _Array
    """Of the class."""

    false_BT: _Array
    """Of all others."""


def above_thresholds(probs_N: _Array, is_class_N: NDArray[np.bool_], weights_BN: _Array) -> Above:
    """Count images above each threshold; those of equal probability pass together."""
    order = np.argsort(-probs_N, kind="stable")
    last_T = np.flatnonzero(np.append(np.diff(probs_N[order]) != 0, True))
    ordered_BN, is_class = weights_BN[:, order], is_class_N[order]
    hits_BN, false_BN = np.cumsum(ordered_BN * is_class, 1), np.cumsum(ordered_BN * ~is_class, 1)
    return Above(hits_BN[:, last_T], false_BN[:, last_T])


def _area(above: Above) -> _Array:
    """Area under the ROC curve: pairs in the right order, ties counting half."""
    before_BT = np.pad(above.hits_BT[:, :-1], ((0, 0), (1, 0)))
    passing_BT = np.diff(above.false_BT, axis=1, prepend=0)
    pairs_B = above.hits_BT[:, -1] * above.false_BT[:, -1]
    return np.asarray((passing_BT * (before_BT + above.hits_BT) / 2).sum(1) / pairs_B)


def _average_precision(above: Above) -> _Array:
    """Area under the steps of precision over recall, as scikit-learn's `average_precision_score`."""
    found_BT = np.diff(above.hits_BT, axis=1, prepend=0)
    precision_BT = above.hits_BT / np.maximum(above.hits_BT + above.false_BT, _ROUNDING)
    return np.asarray((found_BT * precision_BT).sum(1) / above.hits_BT[:, -1])


def _sensitivity_at(above: Above) -> _Array:
    """Most of the class that passes while at least the guaranteed share of the others does not."""
    is_allowed_BT = above.false_BT <= (1 - GUARANTEED) * above.false_BT[:, -1:] + _ROUNDING
    return np.asarray((above.hits_BT * is_allowed_BT).max(1) / above.hits_BT[:, -1])


def _specificity_at(above: Above) -> _Array:
    """Most of the others that does not pass while at least the guaranteed share of the class does."""
    is_allowed_BT = above.hits_BT >= GUARANTEED * above.hits_BT[:, -1:] - _ROUNDING
    others_B1 = above.false_BT[:, -1:]
    return np.asarray(((others_B1 - above.false_BT) * is_allowed_BT).max(1) / others_B1[:, 0])


SORTED: Mapping[str, Callable[[Above], _Array]] = {
    "auroc": _area,
    "average_precision": _average_precision,
    "sensitivity_at_95": _sensitivity_at,
    "specificity_at_95": _specificity_at,
}
"""From counts above thresholds to the metric of one class, for each that depends on how images are sorted."""

_OF_FINDINGS = ("sensitivity_at_95", "specificity_at_95")
"""Metrics that two classes have once, class 1 being what is to be found; the others are alike in both."""


def sorted_score(metric: str, probs_NK: _Array, labels_N: NDArray[np.int64], weights_BN: _Array) -> _Array:
    """Mean of a metric over the classes that occur, each against all others; NaN unless two classes occur."""
    num_classes = probs_NK.shape[1]
    classes = (1,) if metric in _OF_FINDINGS and num_classes == 2 else range(num_classes)
    each_KB = np.array([_of_class(metric, k, probs_NK, labels_N, weights_BN) for k in classes])
    known_KB = ~np.isnan(each_KB)
    sum_B, count_B = np.where(known_KB, each_KB, 0.0).sum(0), known_KB.sum(0)
    return np.where(count_B > 0, sum_B / np.maximum(count_B, 1), np.nan)


def _of_class(metric: str, k: int, probs_NK: _Array, labels_N: NDArray[np.int64], weights_BN: _Array) -> _Array:
    above = above_thresholds(probs_NK[:, k], labels_N == k, weights_BN)
    with np.errstate(invalid="ignore", divide="ignore"):
        values_B = SORTED[metric](above)
    return np.where((above.hits_BT[:, -1] > 0) & (above.false_BT[:, -1] > 0), values_B, np.nan)
