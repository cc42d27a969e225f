"""Means of what several configurations say of the same images. Loads without torch."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.metrics.classes import ClassScores, score
from trainables.metrics.decisions import named

AVERAGE = "average"
"""Name that an average has where others have a method or a predictor, and key below which a file has its members."""


def weighted_mean(each: Iterable[NDArray[np.float64]], weights: Iterable[float]) -> NDArray[np.float64]:
    """Return the sum of arrays times weights that add up to 1.

    They are added one after the other, in the order given, so that the same members give the same digits wherever they
    are averaged; one member of weight 1 is itself.

    Raises:
        ValueError: no member, or other numbers of arrays and weights.
    """
    terms = [weight * array for array, weight in zip(each, weights, strict=True)]
    if not terms:
        raise ValueError("an average needs a member")
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def score_average(
    each: Sequence[NDArray[np.float64]],
    weights: Sequence[float],
    labels_N: NDArray[np.int64],
    *,
    decision: str = "argmax",
    pool_means: Sequence[NDArray[np.float64]] = (),
) -> ClassScores:
    """All metrics of the weighted mean of probabilities (N, K) of members.

    Args:
        decision: how a class is named, one of `DECISIONS`.
        pool_means: what each member says of unlabelled images in the mean (K,); none where there are no such images.
    """
    probs_NK = weighted_mean(each, weights)
    pool_mean_K = weighted_mean(pool_means, weights) if pool_means else None
    return score(probs_NK, labels_N, named(decision, probs_NK, pool_mean_K))
