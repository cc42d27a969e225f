"""Statistics of scores: pure functions."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

Confusion = Sequence[Sequence[float]]


def score_interval(
    confusions: Sequence[Confusion], metric: str, *, same_images: bool = False, level: float = 0.95
) -> tuple[float, float] | None:
    """Wilson interval of a score: where it would lie with endless validation images; None for other metrics.

    The number of images is the effective one: for balanced accuracy, K² / Σ 1/n_k, so that a class with few
    images widens the interval as it should. Runs are averaged and their images added up. It holds the label sets
    fixed and knows nothing of how often the search looked: the least uncertainty there is, not all of it.

    Args:
        confusions: one K × K table of counts, or of their means over evaluations, per run; rows are true classes.
        metric: `balanced_accuracy` or `accuracy`.
        same_images: whether all runs are scored on the same images, which then count once.
        level: coverage.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if metric not in ("balanced_accuracy", "accuracy"):
        return None
    scores, sizes = zip(*(_score_and_size(confusion, metric) for confusion in confusions), strict=True)
    return wilson_interval(float(np.mean(scores)), float(np.mean(sizes) if same_images else np.sum(sizes)), level)


def wilson_interval(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share observed in `count` trials; inside [0, 1] and never of width 0."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = (z2 * (share * (1 - share) / count + z2 / (4 * count**2))) ** 0.5 / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def _score_and_size(confusion: Confusion, metric: str) -> tuple[float, float]:
    counts_KK = np.asarray(confusion, dtype=np.float64)
    true_K, hits_K = counts_KK.sum(1), np.diag(counts_KK)
    if metric == "accuracy":
        return float(hits_K.sum() / true_K.sum()), float(true_K.sum())
    present = true_K > 0
    recalls_K = hits_K[present] / true_K[present]
    return float(recalls_K.mean()), float(present.sum() ** 2 / (1 / true_K[present]).sum())
