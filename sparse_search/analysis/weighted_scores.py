"""Scores of many predictors on images that are drawn again, all at once: pure functions.

An image's weight is the number of times that it was drawn. What counts decisions (accuracy, F1, kappa) and what is a
mean over images (the losses) is computed from all images together, whichever model predicted them; what sorts images
(AUROC, average precision) is the mean over runs, since probabilities of different models must not share one order.

Shapes: C predictors, N judged images (each once in every run that judges it), K classes, B sets of weights, R runs.

Source: Forman & Scholz, SIGKDD Explor. 12 (2010) 49.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainables.metrics.counts import score_of
from trainables.metrics.losses import NUM_BINS, brier_losses, clipped_log_losses, gap_bins, log_losses
from trainables.metrics.table import CLASSES, METRICS
from trainables.metrics.thresholds import SORTED, sorted_score

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]

_MAX_CELLS = 4_000_000
"""Counts of tables that are held at a time."""


@dataclass(frozen=True, kw_only=True)
class SharedPredictions:
    """Predictions of several predictors for the same images."""

    probs_CNK: _Array
    named_CN: _Indices
    """Classes by the rule of the ranking; the likeliest ones, or others."""

    labels_N: _Indices
    runs_N: _Indices
    """Run that predicted an image, from 0: a label set and fold, the same for every predictor."""

    images_N: _Indices
    """Image, from 0: the same number in every run that judges it."""

    groups_N: _Indices | None = None
    """Group of an image, such as its patient; None where every image is its own."""

    pool_means_CRK: _Array | None = None
    """Mean probabilities of unlabelled images, by run; None where a run has none."""

    def __len__(self) -> int:
        return len(self.probs_CNK)

    @property
    def num_images(self) -> int:
        """Images that judge, each once."""
        return len(np.unique(self.images_N))

    def take(self, predictors: _Indices) -> "SharedPredictions":
        """Some of the predictors, in the order given."""
        pool_means = None if self.pool_means_CRK is None else self.pool_means_CRK[predictors]
        probs_CNK, named_CN = self.probs_CNK[predictors], self.named_CN[predictors]
        return replace(self, probs_CNK=probs_CNK, named_CN=named_CN, pool_means_CRK=pool_means)


def weighted_scores(metric: str, predictions: SharedPredictions, weights_BN: _Array) -> _Array:
    """Scores (B, C) of a metric of classes; NaN where it is not defined, as where a set of weights lacks a class.

    Raises:
        KeyError: a metric that predictions do not determine.
    """
    if METRICS[metric].is_counted:
        return _counted(metric, predictions, weights_BN)
    return _BY_METRIC[metric](predictions, weights_BN)


def has_weighted_score(metric: str) -> bool:
    """Tell whether predictions of classes determine a metric."""
    return metric in _BY_METRIC or metric in CLASSES.counted()


def _counted(metric: str, predictions: SharedPredictions, weights_BN: _Array) -> _Array:
    num_classes = predictions.probs_CNK.shape[2]
    step = max(1, _MAX_CELLS // (len(predictions) * num_classes**2))
    parts = [
        score_of(_tables(predictions, weights_BN[start : start + step]), metric)
        for start in range(0, len(weights_BN), step)
    ]
    return np.concatenate(parts)


def _tables(predictions: SharedPredictions, weights_BN: _Array) -> _Array:
    """Confusion tables (B, C, K, K): rows are true classes."""
    num_classes = predictions.probs_CNK.shape[2]
    tables_BCKK = np.zeros((len(weights_BN), len(predictions), num_classes, num_classes))
    for true in range(num_classes):
        of_class = predictions.labels_N == true
        for named in range(num_classes):
            is_named_CM = (predictions.named_CN[:, of_class] == named).astype(np.float64)
            tables_BCKK[:, :, true, named] = weights_BN[:, of_class] @ is_named_CM.T
    return tables_BCKK


_Losses = Callable[[_Array, _Indices], _Array]


def _mean_loss(losses: _Losses) -> Callable[[SharedPredictions, _Array], _Array]:
    """Mean over images."""

    def mean(predictions: SharedPredictions, weights_BN: _Array) -> _Array:
        losses_CN = losses(predictions.probs_CNK, predictions.labels_N)
        return np.asarray(_over_images(weights_BN, losses_CN))

    return mean


def _class_loss(losses: _Losses) -> Callable[[SharedPredictions, _Array], _Array]:
    """Mean over the classes that have weight of the mean over their images."""

    def mean(predictions: SharedPredictions, weights_BN: _Array) -> _Array:
        losses_CN, labels_N = losses(predictions.probs_CNK, predictions.labels_N), predictions.labels_N
        each = [_over_images(weights_BN[:, labels_N == k], losses_CN[:, labels_N == k]) for k in np.unique(labels_N)]
        return _nan_mean(np.array(each))

    return mean


def _over_images(weights_BN: _Array, values_CN: _Array) -> _Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(weights_BN @ values_CN.T / weights_BN.sum(1, keepdims=True))


def _sorted(metric: str) -> Callable[[SharedPredictions, _Array], _Array]:
    """Mean over the runs in which it is defined."""

    def mean(predictions: SharedPredictions, weights_BN: _Array) -> _Array:
        return _nan_mean(
            np.array([_of_run(metric, predictions, weights_BN, run) for run in np.unique(predictions.runs_N)])
        )

    return mean


def _of_run(metric: str, predictions: SharedPredictions, weights_BN: _Array, run: int) -> _Array:
    own = predictions.runs_N == run
    probs_CMK, labels_M, weights_BM = predictions.probs_CNK[:, own], predictions.labels_N[own], weights_BN[:, own]
    return np.array([sorted_score(metric, probs_MK, labels_M, weights_BM) for probs_MK in probs_CMK]).T


def _calibration_error(predictions: SharedPredictions, weights_BN: _Array) -> _Array:
    """Expected calibration error of the likeliest class, of all images together."""
    gap_CN, bin_CN = gap_bins(predictions.probs_CNK, predictions.labels_N)
    gaps = [np.abs(weights_BN @ (gap_CN * (bin_CN == each)).T) for each in range(NUM_BINS)]
    return np.asarray(np.sum(gaps, axis=0) / weights_BN.sum(1, keepdims=True))


def _nan_mean(values_RBC: _Array) -> _Array:
    known_RBC = ~np.isnan(values_RBC)
    count_BC = known_RBC.sum(0)
    sum_BC = np.where(known_RBC, values_RBC, 0.0).sum(0)
    return np.where(count_BC > 0, sum_BC / np.maximum(count_BC, 1), np.nan)


_BY_METRIC: Mapping[str, Callable[[SharedPredictions, _Array], _Array]] = {
    "balanced_brier": _class_loss(brier_losses),
    "balanced_log_loss": _class_loss(clipped_log_losses),
    "brier": _mean_loss(brier_losses),
    "log_loss": _mean_loss(log_losses),
    "calibration_error": _calibration_error,
    **{metric: _sorted(metric) for metric in SORTED},
}
