"""From predictions to metrics: pure functions, every image counted exactly once.

Shapes: N images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from trainables.core.grid import Grid
from trainables.core.scores import AnyScores
from trainables.metrics.generated import GENERATOR_METRICS, GeneratorScores
from trainables.metrics.masks import MASK_METRICS, MaskScores, count_pixels, score_masks
from trainables.metrics.pictures import PictureRule, localisation, patch_localisation, probabilities

CLASS_METRICS = (
    "balanced_accuracy", "accuracy", "macro_f1", "auroc", "calibration_error", "log_loss",
    "localisation", "patch_localisation",
)  # fmt: skip
"""Metrics of a classification, the default objective first. Calibration error and log-loss are better when smaller."""

METRICS = (*CLASS_METRICS, *MASK_METRICS, *GENERATOR_METRICS)
"""Of every kind: each has none of the others'."""

SELECTIONS: Mapping[str, int] = {"last": 1, "mean3": 3}
"""Rules that say which scores a run is judged by: the mean over so many of its last evaluations."""

FOREGROUND = 0.5
"""From this probability on a pixel is foreground."""

NUM_BINS = 15
"""Confidence bins of the expected calibration error. Source: Guo et al. 2017, arXiv:1706.04599."""


S = TypeVar("S", bound=AnyScores)


@dataclass(frozen=True)
class Scores(AnyScores):
    """Metrics of one predictor on one set of images. A metric that is not defined there is None, never NaN."""

    num_images: int
    accuracy: float
    balanced_accuracy: float
    """Mean recall over the classes that occur."""

    macro_f1: float
    """Mean F1 over all K classes; 0 for a class neither present nor predicted."""

    auroc: float | None
    """Mean one-against-rest area under the ROC curve; None unless every present class has a counter-example."""

    calibration_error: float
    """Expected calibration error of the most likely class."""

    log_loss: float
    """Mean negative log-likelihood in nats."""

    confusion: tuple[tuple[float, ...], ...]
    """Counts, K × K: rows are true classes, columns predicted ones. Whole numbers, or means over evaluations."""

    localisation: float | None = None
    """Of pictures judged by patches: area under the ROC curve of heat-map pixels against the masks of the findings."""

    patch_localisation: float | None = None
    """The same of patches against their labels, within pictures that hold both kinds."""

    threshold: float | None = None
    """The score above which a picture is named class 1, chosen on all of these pictures."""


def read_scores(values: dict[str, Any]) -> AnyScores:
    """The scores that `as_dict` wrote, of any kind."""
    if GENERATOR_METRICS[0] in values:
        return GeneratorScores.from_dict(values)
    return (MaskScores if MASK_METRICS[0] in values else Scores).from_dict(values)


def score(
    probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64], named_N: NDArray[np.int64] | None = None
) -> Scores:
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
    hits_K, true_K, predicted_K = np.diag(confusion_KK), confusion_KK.sum(1), confusion_KK.sum(0)
    present_K = true_K > 0
    f1_K = 2 * hits_K / np.maximum(true_K + predicted_K, 1)
    true_probs_N = probs_NK[np.arange(len(labels_N)), labels_N]
    return Scores(
        num_images=len(labels_N),
        accuracy=float(hits_K.sum() / len(labels_N)),
        balanced_accuracy=float((hits_K[present_K] / true_K[present_K]).mean()),
        macro_f1=float(f1_K.mean()),
        auroc=_auroc(probs_NK, labels_N),
        calibration_error=_calibration_error(probs_NK, labels_N),
        log_loss=float(-np.log(np.clip(true_probs_N, np.finfo(np.float64).tiny, None)).mean()),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion_KK),
    )


def score_patches(
    probs_NK: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    grid: Grid,
    rule: PictureRule,
    *,
    masks_IHW: NDArray[np.bool_] | None = None,
    threshold: float | None = None,
) -> Scores:
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
    return replace(
        score(probabilities(scores_IK, threshold), labels_I, named_I),
        threshold=threshold,
        localisation=None if masks_IHW is None else localisation(probs_IPK[:, :, 1], masks_IHW, grid),
        patch_localisation=patch_localisation(probs_IPK[:, :, 1], labels_IP),
    )


def score_foreground(probs_NHW: NDArray[np.float64], masks_NHW: NDArray[np.bool_]) -> MaskScores:
    """All metrics of probabilities of the foreground against masks; from 0.5 on a pixel is named foreground.

    Raises:
        ValueError: no image, or other shapes.
    """
    counts_N4 = count_pixels(torch.from_numpy(probs_NHW >= FOREGROUND), torch.from_numpy(masks_NHW))
    return score_masks(counts_N4.numpy())


def mean_scores(scores: Sequence[S]) -> S:
    """The mean of each metric over evaluations on the same images; None where any is None.

    The confusion is the mean of the counts, so no image counts twice, and (balanced) accuracy is still what the
    confusion gives. A single evaluation is its own mean.
    """
    first, *more = scores
    if not more:
        return first
    means = {name: _mean([each.metric(name) for each in scores]) for name in METRICS}
    confusion_KK = np.mean([each.confusion for each in scores], axis=0)
    rest = {"num_images": first.num_images, "confusion": confusion_KK.tolist(), "threshold": scores[-1].threshold}
    return type(first).from_dict({name: value for name, value in (means | rest).items() if name in first.as_dict()})


def select(history: Sequence[Mapping[str, AnyScores]], rule: str) -> dict[str, AnyScores]:
    """Scores by predictor that a run is judged by after these evaluations.

    Args:
        history: Scores of each evaluation so far, at least one; the newest last.
        rule: One of `SELECTIONS`; with fewer evaluations than it averages, the mean of those there are.
    """
    recent = history[-SELECTIONS[rule] :]
    return {name: mean_scores([scores[name] for scores in recent]) for name in recent[-1]}


def collapse(scores: AnyScores) -> str:
    """The reason why these predictions are worthless: `names class 1 for all 10 validation images`.

    Of masks, whose class 0 is the background: that it is named for all pixels. Empty when at least
    two classes are named, or when the labels hold fewer than two.
    """
    confusion_KK = np.array(scores.confusion)
    named, present = np.flatnonzero(confusion_KK.sum(0)), np.flatnonzero(confusion_KK.sum(1))
    if len(named) > 1 or len(present) < 2:
        return ""
    what = "all pixels of all" if isinstance(scores, MaskScores) else "all"
    return f"names class {named[0]} for {what} {scores.num_images} validation images"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _auroc(probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float | None:
    """Macro average over the P classes that occur, each against all others, by the Mann-Whitney statistic.

    Scikit-learn's function checks its input for each class anew: a tiny run spent more time there than on training.
    """
    present = np.unique(labels_N)
    if len(present) < 2:
        return None
    positive_NP = labels_N[:, None] == present
    counts_P = positive_NP.sum(0)
    ranks_P = (rankdata(probs_NK[:, present], axis=0) * positive_NP).sum(0)  # ties get the mean of their ranks
    areas_P = (ranks_P - counts_P * (counts_P + 1) / 2) / (counts_P * (len(labels_N) - counts_P))
    return float(areas_P.mean())


def _calibration_error(probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    confidence_N = probs_NK.max(1)
    gap_N = (probs_NK.argmax(1) == labels_N) - confidence_N
    bin_N = np.minimum((confidence_N * NUM_BINS).astype(int), NUM_BINS - 1)
    return float(np.abs(np.bincount(bin_N, weights=gap_N, minlength=NUM_BINS)).sum() / len(labels_N))
