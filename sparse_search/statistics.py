"""Statistics of scores: pure functions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 4000
"""Posterior draws behind an interval: its ends are then steady to about 0.005."""

Confusion = Sequence[Sequence[int]]


def score_interval(confusions: Sequence[Confusion], metric: str, level: float = 0.95) -> tuple[float, float] | None:
    """Where the score would lie with endless validation images from the same source; None for other metrics.

    Every class's recall has a Beta posterior (Jeffreys prior), so ten images give the wide interval that they
    deserve. Runs are averaged. It holds the label sets fixed and knows nothing of how often the search looked:
    it is the least uncertainty there is, not all of it.

    Args:
        confusions: one K × K table of counts per run, rows are true classes.
        metric: `balanced_accuracy` or `accuracy`.
        level: share of the posterior inside.
    """
    if metric not in ("balanced_accuracy", "accuracy"):
        return None
    generator = np.random.default_rng(0)
    draws_RS = [_draws(np.asarray(confusion, dtype=np.int64), metric, generator) for confusion in confusions]
    low, high = np.quantile(np.mean(draws_RS, axis=0), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draws(confusion_KK: NDArray[np.int64], metric: str, generator: np.random.Generator) -> NDArray[np.float64]:
    true_K, hits_K = confusion_KK.sum(1), np.diag(confusion_KK)
    present = true_K > 0
    recalls_SK = generator.beta(
        hits_K[present] + 0.5, (true_K - hits_K)[present] + 0.5, size=(NUM_DRAWS, int(present.sum()))
    )
    weights_K = true_K[present] / true_K.sum() if metric == "accuracy" else np.full(present.sum(), 1 / present.sum())
    draws: NDArray[np.float64] = recalls_SK @ weights_K
    return draws
