"""Metrics that a table of counts determines: of one table or of any number at once, without torch.

For images, rows are true classes and columns predicted ones. For masks, two conventions are in use, and papers compare
numbers of one with numbers of the other: those of the foreground alone (`iou_fg`, `dice_fg`) and means over foreground
and background (`miou_2`, `mdice_2`). Both are here.

Shapes: `…` any number of tables, K classes; tables of pixels have 2, the background first.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array = NDArray[np.float64]

_TINY = np.finfo(np.float64).tiny


def score_of(confusions: ArrayLike, metric: str) -> _Array:
    """A counted metric of tables, `...KK` to `...`; NaN where it is not defined."""
    return np.asarray(COUNTED[metric](np.asarray(confusions, np.float64)))


def score_known(confusion_KK: ArrayLike, metric: str) -> float | None:
    """A counted metric of one table; None where it is not defined."""
    value = float(score_of(confusion_KK, metric))
    return None if np.isnan(value) else value


def _accuracy(counts_KK: _Array) -> _Array:
    return np.asarray(_hits(counts_KK).sum(-1) / counts_KK.sum((-2, -1)))


def _balanced_accuracy(counts_KK: _Array) -> _Array:
    """Mean recall over the classes that occur."""
    hits_K, true_K = _hits(counts_KK), counts_KK.sum(-1)
    present_K = true_K > 0
    recalls_K = hits_K / np.where(present_K, true_K, 1)
    if recalls_K.ndim == 1:  # so that the sum has no other order than that of the recalls alone
        return np.asarray(recalls_K[present_K].mean())
    return np.asarray(recalls_K.sum(-1) / present_K.sum(-1))


def _macro_f1(counts_KK: _Array) -> _Array:
    """Mean F1 over all K classes; 0 for a class neither present nor predicted."""
    sizes_K = counts_KK.sum(-1) + counts_KK.sum(-2)
    return np.asarray((2 * _hits(counts_KK) / np.maximum(sizes_K, _TINY)).mean(-1))


def _kappa(counts_KK: _Array) -> _Array:
    """Agreement beyond chance, wrong by d classes weighing d²; not defined where one class occurs.

    Source: Cohen, Psychol. Bull. 70 (1968) 213.
    """
    weights_KK = class_distances(counts_KK.shape[-1])
    true_K1, named_1K = counts_KK.sum(-1)[..., :, None], counts_KK.sum(-2)[..., None, :]
    by_chance_KK = true_K1 * named_1K / counts_KK.sum((-2, -1))[..., None, None]
    wrong, expected = ((weights_KK * table_KK).sum((-2, -1)) for table_KK in (counts_KK, by_chance_KK))
    is_defined = (counts_KK.sum(-1) > 0).sum(-1) > 1
    return np.where(is_defined, 1 - wrong / np.maximum(expected, _TINY), np.nan)


def class_distances(num_classes: int) -> _Array:
    """Squared distances (K, K) between classes in their order."""
    order_K = np.arange(num_classes, dtype=np.float64)
    return np.asarray((order_K[:, None] - order_K) ** 2)


def _dice_fg(counts_22: _Array) -> _Array:
    """Dice of the foreground; 1 where it is neither marked nor predicted."""
    hits, wrong = counts_22[..., 1, 1], _wrong(counts_22)
    return _ratio(2 * hits, 2 * hits + wrong, empty=1.0)


def _iou_fg(counts_22: _Array) -> _Array:
    """IoU of the foreground; 1 where it is neither marked nor predicted."""
    hits, wrong = counts_22[..., 1, 1], _wrong(counts_22)
    return _ratio(hits, hits + wrong, empty=1.0)


def _pixel_accuracy(counts_22: _Array) -> _Array:
    return _ratio(_hits(counts_22).sum(-1), counts_22.sum((-2, -1)))


def _sensitivity(counts_22: _Array) -> _Array:
    """Share of the foreground that is found; not defined without a foreground pixel."""
    return _ratio(counts_22[..., 1, 1], counts_22[..., 1, :].sum(-1))


def _of_background(metric: Callable[[_Array], _Array]) -> Callable[[_Array], _Array]:
    """The metric with background and foreground interchanged."""
    return lambda counts_22: metric(counts_22[..., ::-1, ::-1])


def _of_both(metric: Callable[[_Array], _Array]) -> Callable[[_Array], _Array]:
    """Mean over background and foreground."""
    return lambda counts_22: (metric(counts_22) + _of_background(metric)(counts_22)) / 2


COUNTED: Mapping[str, Callable[[_Array], _Array]] = {
    "balanced_accuracy": _balanced_accuracy,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "kappa": _kappa,
    "dice_fg": _dice_fg,
    "iou_fg": _iou_fg,
    "mdice_2": _of_both(_dice_fg),
    "miou_2": _of_both(_iou_fg),
    "pixel_accuracy": _pixel_accuracy,
    "sensitivity": _sensitivity,
    "specificity": _of_background(_sensitivity),
}
"""From tables `...KK` to the metric `...`, for each that the table of metrics calls counted."""


def _hits(counts_KK: _Array) -> _Array:
    return np.diagonal(counts_KK, axis1=-2, axis2=-1)


def _wrong(counts_22: _Array) -> _Array:
    return np.asarray(counts_22[..., 0, 1] + counts_22[..., 1, 0])


def _ratio(part: _Array, whole: _Array, empty: float = np.nan) -> _Array:
    return np.where(whole > 0, part / np.maximum(whole, 1), empty)
