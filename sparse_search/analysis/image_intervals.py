"""Intervals of scores over images: where a score would lie with endless validation images. Pure functions.

They hold the label sets fixed and know nothing of how often a search looked: the least uncertainty there is, not all
of it. No interval leaves the range of its metric, and none has width 0.

Shapes: R runs, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist, fmean

import numpy as np
from numpy.typing import NDArray

from trainables.metrics.counts import class_distances, score_of
from trainables.metrics.table import METRICS

Confusion = Sequence[Sequence[float]]
_Array = NDArray[np.float64]

_BISECTIONS = 40
"""Halvings of [0, 1]: far below any digit that is shown."""

_SMOOTHING = 2.0
"""Images added to each class, spread over all columns, before the noise of a table is computed: no table is certain.

Simulated with 10 to 200 images of 2 to 7 classes, less of it makes intervals too narrow where a class has few images.
"""


def has_image_interval(metric: str) -> bool:
    """Tell whether a metric has an interval over images."""
    return bool(METRICS[metric].share_of) or metric in (*_EFFECTIVE_SIZES, _AREA)


def score_interval(
    confusions: Sequence[Confusion],
    metric: str,
    *,
    score: float | None = None,
    same_images: bool = False,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Interval of a mean score over runs, from the number of images; None for metrics that have none.

    * A share of images, or a mean over classes of such shares: Wilson's, with the effective number of images. For
      balanced accuracy that is K² / Σ 1/n_k, so that a class with few images widens the interval as it should.
    * Macro F1, and kappa as a share of the way from -1 to 1: Wilson's, with the number of images that would make a
      share as noisy as the table makes it.
    * AUROC: `area_interval`.

    Args:
        confusions: one K × K table of counts, or of their means over evaluations, per run; rows are true classes.
        metric: name of the metric.
        score: mean over runs; needed where the tables do not determine it, as of AUROC.
        same_images: whether all runs are scored on the same images, which then count once.
        level: coverage.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    tables_RKK = np.asarray(confusions, np.float64)
    if metric == _AREA:
        return None if score is None else area_interval(score, tables_RKK.sum(2), same_images=same_images, level=level)
    size_of = _EFFECTIVE_SIZES.get(METRICS[metric].share_of or metric)
    if size_of is None:
        return None
    mean = fmean(float(score_of(table_KK, metric)) for table_KK in tables_RKK)
    if np.isnan(mean):
        return None
    sizes = [size_of(table_KK) for table_KK in tables_RKK]
    least = METRICS[metric].low or 0.0
    low, high = wilson_interval((mean - least) / (1 - least), fmean(sizes) if same_images else sum(sizes), level)
    return least + (1 - least) * low, least + (1 - least) * high


def wilson_interval(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share observed in `count` trials; inside [0, 1] and never of width 0."""
    z2 = _quantile(level) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = (z2 * (share * (1 - share) / count + z2 / (4 * count**2))) ** 0.5 / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def area_interval(
    area: float, counts_RK: _Array, *, same_images: bool = False, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of a mean AUROC, over the classes against all others and over runs; None without two classes.

    It holds every true value that is no more than z standard errors from the one observed, where the standard error is
    the one at the true value, as in Wilson's: so it is right near 1, where the observed one vanishes. Of K classes the
    variance of the mean is 1 / (K - 1) of the mean variance, as each image has a part in the areas of all.

    Args:
        area: mean over classes and runs.
        counts_RK: images of each class.
        same_images: whether all runs are scored on the same images.
        level: coverage.

    Source: method 5 of Newcombe, Stat. Med. 25 (2006) 559, after Hanley & McNeil, Radiology 143 (1982) 29.
    """
    known = [parts for counts_K in counts_RK if (parts := _variance_parts(counts_K[counts_K > 0]))]
    if len(known) < len(counts_RK):
        return None
    pairs, images = np.mean(known, axis=0) / (1 if same_images else len(known))
    z = _quantile(level)

    def is_inside(true: float) -> bool:
        alike = (1 - true) / (2 - true) + true / (1 + true)
        return bool(abs(true - area) <= z * (true * (1 - true) * (pairs + images * alike)) ** 0.5)

    return _last(is_inside, area, 0.0), _last(is_inside, area, 1.0)


def _variance_parts(counts_K: _Array) -> tuple[float, float] | None:
    """Return what the variance of a mean AUROC is a sum of, 1 / (positives × negatives) and what multiplies it."""
    if len(counts_K) < 2:
        return None
    pairs_K = counts_K * (counts_K.sum() - counts_K)
    share = 1 / (len(counts_K) - 1)
    return float((1 / pairs_K).mean() * share), float(((counts_K.sum() / 2 - 1) / pairs_K).mean() * share)


def _last(is_inside: Callable[[float], bool], start: float, end: float) -> float:
    """Return the value farthest from the start, towards the end, that is inside, by bisection."""
    inside, outside = start, end
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_inside(middle) else (inside, middle)
    return outside


def _size_of_share(counts_KK: _Array) -> float:
    return float(counts_KK.sum())


def _size_of_classes(counts_KK: _Array) -> float:
    """Images that a mean over classes is worth; classes without an image do not count."""
    true_K = counts_KK.sum(1)
    present_K = true_K[true_K > 0]
    return float(len(present_K) ** 2 / (1 / present_K).sum())


def _size_of_macro_f1(counts_KK: _Array) -> float:
    """Images whose share would be as noisy as the macro F1 is."""
    smooth_KK, num_classes = _smoothed(counts_KK), len(counts_KK)
    both_K, hits_K = np.maximum(smooth_KK.sum(1) + smooth_KK.sum(0), 1e-9), np.diagonal(smooth_KK)
    slopes_KK = np.tile(-2 * hits_K / both_K**2, (num_classes, 1)) + np.diag(2 / both_K)
    return _size_by(slopes_KK / num_classes, counts_KK, float(score_of(smooth_KK, "macro_f1")))


def _size_of_kappa(counts_KK: _Array) -> float:
    """Images whose share would be as noisy as (kappa + 1) / 2 is."""
    smooth_KK, weights_KK = _smoothed(counts_KK), class_distances(len(counts_KK))
    shares_K, named_K = smooth_KK.sum(1) / smooth_KK.sum(), smooth_KK.sum(0)
    by_chance_K = shares_K @ weights_KK
    wrong, expected = (weights_KK * smooth_KK).sum(), by_chance_K @ named_K
    slopes_KK = -weights_KK / expected + wrong / expected**2 * by_chance_K
    return _size_by(slopes_KK / 2, counts_KK, (float(score_of(smooth_KK, "kappa")) + 1) / 2)


def _smoothed(counts_KK: _Array) -> _Array:
    return np.asarray(counts_KK + _SMOOTHING / len(counts_KK) * (counts_KK.sum(1, keepdims=True) > 0))


def _size_by(slopes_KK: _Array, counts_KK: _Array, share: float) -> float:
    """Images whose share would be as noisy as what has such slopes in the cells of a table of multinomial rows.

    By the delta method, of the table smoothed.
    """
    smooth_KK = _smoothed(counts_KK)
    true_K = smooth_KK.sum(1)
    chances_KK = smooth_KK / np.where(true_K > 0, true_K, 1)[:, None]
    spread_K = (chances_KK * slopes_KK**2).sum(1) - (chances_KK * slopes_KK).sum(1) ** 2
    variance = float((true_K * spread_K).sum())
    return share * (1 - share) / variance * float(counts_KK.sum() / true_K.sum())


_AREA = "auroc"
_EFFECTIVE_SIZES: Mapping[str, Callable[[_Array], float]] = {
    "images": _size_of_share,
    "classes": _size_of_classes,
    "macro_f1": _size_of_macro_f1,
    "kappa": _size_of_kappa,
}
"""From a table of counts to the number of images that a share would need to be as noisy."""


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
