"""From the probabilities of classes to scores, every image counted exactly once.

Shapes: N images or patches, I pictures, P patches of each, K classes, H W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.core.grid import Grid
from trainables.core.scores import AnyScores
from trainables.metrics.counts import score_known
from trainables.metrics.losses import NUM_BINS, brier_losses, clipped_log_losses, gap_bins, log_losses
from trainables.metrics.pictures import PictureRule, localisation, patch_localisation, probabilities
from trainables.metrics.table import CLASSES
from trainables.metrics.thresholds import sorted_score


@dataclass(frozen=True)
class ClassScores(AnyScores):
    """Scores of named classes: of images, of patches, or of pictures that are judged by their patches."""

    names: ClassVar[tuple[str, ...]] = CLASSES.names

    threshold: float | None = None
    """The score above which a picture is named class 1, chosen on all of these pictures."""


def score(
    probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64], named_N: NDArray[np.int64] | None = None
) -> ClassScores:
    """All metrics of class probabilities against labels.

    Args:
        probs_NK: each row adds up to 1.
        labels_N: in 0..K-1.
        named_N: the classes that are named; by default the likeliest ones.

    Raises:
        ValueError: no image, unequal lengths, or probabilities that are not finite.
    """
    if len(labels_N) == 0 or len(probs_NK) != len(labels_N):
        raise ValueError(f"{len(probs_NK)} predictions for {len(labels_N)} labels")
    if not np.isfinite(probs_NK).all():
        raise ValueError("predicted probabilities are not finite")
    num_classes = probs_NK.shape[1]
    cells_N = labels_N * num_classes + (probs_NK.argmax(1) if named_N is None else named_N)
    confusion_KK = np.bincount(cells_N, minlength=num_classes**2).reshape(num_classes, num_classes)
    counted = {name: score_known(confusion_KK, name) for name in CLASSES.counted()}
    predicted = {name: compute(probs_NK, labels_N) for name, compute in PREDICTED.items()}
    return ClassScores(len(labels_N), counted | predicted, tuple(map(tuple, confusion_KK.tolist())))


def score_patches(
    probs_NK: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    grid: Grid,
    rule: PictureRule,
    *,
    masks_IHW: NDArray[np.bool_] | None = None,
    threshold: float | None = None,
) -> ClassScores:
    """All metrics of pictures that are judged by their patches; a picture is of the highest class of its patches.

    Args:
        probs_NK: of the patches of I pictures, one picture after the other.
        labels_N: of the patches.
        grid: how pictures were divided.
        rule: how patches make a picture's score.
        masks_IHW: where findings are.
        threshold: of another set of pictures. By default it is chosen here, each picture judged by that of others.
    """
    patches = grid.num_patches
    probs_IPK, labels_IP = probs_NK.reshape(-1, patches, probs_NK.shape[1]), labels_N.reshape(-1, patches)
    labels_I, scores_IK = labels_IP.max(1), rule.scores(probs_IPK)
    if probs_NK.shape[1] != 2:
        return score(scores_IK, labels_I)
    judged_by = rule.held_out_thresholds(scores_IK[:, 1], labels_I) if threshold is None else threshold
    threshold = rule.best_threshold(scores_IK[:, 1], labels_I) if threshold is None else threshold
    named_I = (scores_IK[:, 1] > judged_by).astype(np.int64)
    found = score(probabilities(scores_IK, threshold), labels_I, named_I)
    located = {
        "localisation": None if masks_IHW is None else localisation(probs_IPK[:, :, 1], masks_IHW, grid),
        "patch_localisation": patch_localisation(probs_IPK[:, :, 1], labels_IP),
    }
    return replace(found, values={**found.values, **located}, threshold=threshold)


def _auroc(probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float | None:
    """Mean over the P classes that occur of the area under the ROC curve against all others (Mann-Whitney statistic).

    None unless two classes occur. Scikit-learn's function checks its input for each class anew: a tiny run spent more
    time there than on training.
    """
    present = np.unique(labels_N)
    if len(present) < 2:
        return None
    positive_NP = labels_N[:, None] == present
    counts_P = positive_NP.sum(0)
    ranks_P = (_mean_ranks(probs_NK[:, present]) * positive_NP).sum(0)
    areas_P = (ranks_P - counts_P * (counts_P + 1) / 2) / (counts_P * (len(labels_N) - counts_P))
    return float(areas_P.mean())


def _mean_ranks(values_NP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks in each column, from 1; equals get the mean of theirs. Loading `scipy.stats` for it takes half a second."""
    ranks = [
        (np.searchsorted(ordered_N, values_N, "left") + np.searchsorted(ordered_N, values_N, "right") + 1) / 2
        for values_N, ordered_N in zip(values_NP.T, np.sort(values_NP, axis=0).T, strict=True)
    ]
    return np.stack(ranks, 1)


def _calibration_error(probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Expected calibration error of the most likely class."""
    gap_N, bin_N = gap_bins(probs_NK, labels_N)
    return float(np.abs(np.bincount(bin_N, weights=gap_N, minlength=NUM_BINS)).sum() / len(labels_N))


def _over_images(losses: Callable[..., NDArray[np.float64]]) -> Callable[..., float]:
    """Mean loss of the images."""
    return lambda probs_NK, labels_N: float(losses(probs_NK, labels_N).mean())


def _over_classes(losses: Callable[..., NDArray[np.float64]]) -> Callable[..., float]:
    """Mean over the classes that occur of the mean loss of their images."""

    def mean(probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
        each_N = losses(probs_NK, labels_N)
        return float(np.mean([each_N[labels_N == k].mean() for k in np.unique(labels_N)]))

    return mean


def _sorted(metric: str) -> Callable[..., float | None]:
    """The metric of images that all count once; None unless two classes occur."""

    def value(probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float | None:
        found = float(sorted_score(metric, probs_NK, labels_N, np.ones((1, len(labels_N))))[0])
        return None if np.isnan(found) else found

    return value


PREDICTED: Mapping[str, Callable[[NDArray[np.float64], NDArray[np.int64]], float | None]] = {
    "auroc": _auroc,
    "calibration_error": _calibration_error,
    "log_loss": _over_images(log_losses),
    "balanced_brier": _over_classes(brier_losses),
    "balanced_log_loss": _over_classes(clipped_log_losses),
    "brier": _over_images(brier_losses),
    "average_precision": _sorted("average_precision"),
    "sensitivity_at_95": _sorted("sensitivity_at_95"),
    "specificity_at_95": _sorted("specificity_at_95"),
}
"""From probabilities (N, K) and labels (N,) to the metric, for each that the table says comes from predictions."""
