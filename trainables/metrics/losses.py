"""Losses of probabilities, image by image.

Shapes: `...` any number of predictors, N images, K classes.
"""

import numpy as np
from numpy.typing import NDArray

from trainables.metrics.table import LEAST_PROBABILITY

_Array = NDArray[np.float64]

NUM_BINS = 15
"""Confidence bins of the expected calibration error. Source: Guo et al. 2017, arXiv:1706.04599."""


def brier_losses(probs_NK: _Array, labels_N: NDArray[np.int64]) -> _Array:
    """Squared distance, `...NK` to `...N`, from the probabilities to those of the label, 0 to 2.

    Source: Brier, Mon. Weather Rev. 78 (1950) 1, in its first form, the sum over classes.
    """
    truth_NK = labels_N[:, None] == np.arange(probs_NK.shape[-1])
    return np.asarray(((probs_NK - truth_NK) ** 2).sum(-1))


def log_losses(probs_NK: _Array, labels_N: NDArray[np.int64]) -> _Array:
    """Negative log-likelihood, `...NK` to `...N`, in nats; finite."""
    return np.asarray(-np.log(np.clip(_of_label(probs_NK, labels_N), np.finfo(np.float64).tiny, None)))


def clipped_log_losses(probs_NK: _Array, labels_N: NDArray[np.int64]) -> _Array:
    """Negative log-likelihood of probabilities that are at least `LEAST_PROBABILITY`."""
    return np.asarray(-np.log(np.clip(_of_label(probs_NK, labels_N), LEAST_PROBABILITY, 1.0)))


def gap_bins(probs_NK: _Array, labels_N: NDArray[np.int64]) -> tuple[_Array, NDArray[np.int64]]:
    """Rightness less confidence of the likeliest class, and the bin of its confidence, `...NK` to `...N`."""
    confidence_N = probs_NK.max(-1)
    gap_N = (probs_NK.argmax(-1) == labels_N) - confidence_N
    return gap_N, np.minimum((confidence_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def _of_label(probs_NK: _Array, labels_N: NDArray[np.int64]) -> _Array:
    return probs_NK[..., np.arange(len(labels_N)), labels_N]
