"""From the probabilities of patches to their picture: its score, the threshold of a score, and where the findings lie.

Pure functions. Scores and heat maps are of two-class problems, with class 1 the finding; pictures of more classes get
mean probabilities.

Source: Lecouat et al., arXiv:1812.07832 (2018), which adds up the patches' scores and gives neither rule for the
threshold nor width of the blur.
Shapes: I pictures, P patches of each, K classes, H W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from search_spaces.core.errors import ConfigError, suggestion
from trainables.core.grid import Grid

_Floats = NDArray[np.float64]
_Labels = NDArray[np.int64]
_Bools = NDArray[np.bool_]

NUM_FOLDS = 10
"""Parts of the pictures; the threshold that a picture is judged by comes from the others."""

BLUR = 0.5
"""Width (standard deviation) of a heat map's Gaussian blur, in patches. Ours; the paper gives none."""


def _mean(probs_IPK: _Floats) -> _Floats:
    means_IK: _Floats = np.mean(probs_IPK, axis=1)
    return means_IK


def _top(share: float) -> Callable[[_Floats], _Floats]:
    def mean_of_highest(probs_IPK: _Floats) -> _Floats:
        count = max(1, round(share * probs_IPK.shape[1]))
        means_IK: _Floats = np.mean(np.sort(probs_IPK, axis=1)[:, -count:], axis=1)
        return means_IK

    return mean_of_highest


def _noisy_or(probs_IPK: _Floats) -> _Floats:
    """Ordered as 1 - Π(1 - p), which rounds to 1 where patches are many."""
    evidence_IK: _Floats = -np.log1p(-np.clip(probs_IPK, 0.0, 1.0 - 1e-12)).sum(1)
    return evidence_IK / (1.0 + evidence_IK)


AGGREGATES: Mapping[str, Callable[[_Floats], _Floats]] = {
    "mean": _mean, "top25": _top(0.25), "top10": _top(0.1), "max": _top(0.0), "noisy_or": _noisy_or,
}  # fmt: skip
"""Rules that make a picture's score of its patches: their mean (the paper's sum, per patch), the mean of the highest
quarter or tenth, the highest, or the probability that any of them shows a finding, were they independent."""


@dataclass(frozen=True)
class PictureRule:
    """Rule by which pictures are judged by their patches. Changing it needs no training."""

    aggregate: str = "mean"
    """One of `AGGREGATES`."""

    threshold: str = "youden"
    """Which score separates two classes, one of `THRESHOLDS`."""

    def __post_init__(self) -> None:
        for name, known in (("aggregate", AGGREGATES), ("threshold", THRESHOLDS)):
            if getattr(self, name) not in known:
                given = getattr(self, name)
                raise ConfigError(f"{name} '{given}' is unknown{suggestion(given, known)}")

    def scores(self, probs_IPK: _Floats) -> _Floats:
        """Scores (I, K) of pictures; of two classes in [0, 1] and adding up to 1, as class 1 alone is aggregated."""
        aggregate = AGGREGATES[self.aggregate]
        if probs_IPK.shape[2] == 2:
            finding_I = aggregate(probs_IPK[:, :, 1:])[:, 0]
            return np.stack([1 - finding_I, finding_I], axis=1)
        scores_IK = aggregate(probs_IPK)
        shares_IK: _Floats = scores_IK / np.maximum(scores_IK.sum(1, keepdims=True), np.finfo(np.float64).tiny)
        return shares_IK

    def best_threshold(self, scores_I: _Floats, labels_I: _Labels) -> float:
        """The score above which a picture is of class 1; one half where not both classes are there."""
        if len(np.unique(labels_I)) < 2:
            return 0.5
        return THRESHOLDS[self.threshold](scores_I, labels_I == 1)

    def held_out_thresholds(self, scores_I: _Floats, labels_I: _Labels) -> _Floats:
        """For each picture (I,) the threshold that the others choose, in `NUM_FOLDS` parts with both classes alike.

        A threshold that is chosen on the pictures which it then judges flatters itself: with ten pictures, chance
        looks like 0.7.
        """
        parts_I = np.empty(len(labels_I), np.int64)
        for label in np.unique(labels_I):
            members = np.flatnonzero(labels_I == label)
            parts_I[members] = np.arange(len(members)) % NUM_FOLDS
        thresholds_I = np.empty(len(labels_I))
        for part in np.unique(parts_I):
            others_I = parts_I != part
            thresholds_I[~others_I] = self.best_threshold(scores_I[others_I], labels_I[others_I])
        return thresholds_I


def probabilities(scores_IK: _Floats, threshold: float | _Floats) -> _Floats:
    """Probabilities (I, 2) in the order of the scores, one half at the threshold, so that the likelier class is named.

    Linear below and above it: no calibration, but the extremes stay where they are.
    """
    score_I = scores_IK[:, 1]
    below_I = score_I / np.maximum(2 * threshold, np.finfo(np.float64).tiny)
    above_I = 1 - (1 - score_I) / np.maximum(2 * (1 - threshold), np.finfo(np.float64).tiny)
    finding_I = np.clip(np.where(score_I <= threshold, below_I, above_I), 0.0, 1.0)
    return np.stack([1 - finding_I, finding_I], axis=1)


def heat_maps(probs_IP: _Floats, grid: Grid, height: int, width: int) -> _Floats:
    """Maps (I, H, W) of where findings are likely: the patches' probabilities, blurred by half a patch."""
    rows_HR, columns_WC = _spread(height, grid.rows), _spread(width, grid.columns)
    return rows_HR @ probs_IP.reshape(-1, grid.rows, grid.columns) @ columns_WC.T


def localisation(probs_IP: _Floats, masks_IHW: _Bools, grid: Grid) -> float | None:
    """Area under the ROC curve of heat-map pixels against masks, mean over the pictures in which both kinds occur.

    None where there is no such picture.
    """
    share_I = masks_IHW.mean((1, 2))
    counted_I = (share_I > 0) & (share_I < 1)
    maps_IHW = heat_maps(probs_IP[counted_I], grid, *masks_IHW.shape[1:]).round(9)  # what is equal stays equal
    areas = [
        _area(map_HW[mask_HW], map_HW[~mask_HW]) for map_HW, mask_HW in zip(maps_IHW, masks_IHW[counted_I], strict=True)
    ]
    return float(np.mean(areas)) if areas else None


def patch_localisation(probs_IP: _Floats, labels_IP: _Labels) -> float | None:
    """Area under the ROC curve of patches against their labels, mean over the pictures in which both kinds occur."""
    areas = [
        _area(probs_P[labels_P == 1], probs_P[labels_P == 0])
        for probs_P, labels_P in zip(probs_IP, labels_IP, strict=True)
        if len(np.unique(labels_P)) > 1
    ]
    return float(np.mean(areas)) if areas else None


def _youden(scores_I: _Floats, is_finding_I: _Bools) -> float:
    """Most sensitivity plus specificity."""
    candidates_J, sensitivity_J, specificity_J, _ = _rates(scores_I, is_finding_I)
    return _widest_best(candidates_J, sensitivity_J + specificity_J, scores_I)


def _f1(scores_I: _Floats, is_finding_I: _Bools) -> float:
    candidates_J, sensitivity_J, _, named_J = _rates(scores_I, is_finding_I)
    positives = is_finding_I.sum()
    return _widest_best(candidates_J, 2 * sensitivity_J * positives / (named_J + positives), scores_I)


def _sensitivity90(scores_I: _Floats, is_finding_I: _Bools) -> float:
    """The highest at which nine of ten findings are named."""
    candidates_J, sensitivity_J, *_ = _rates(scores_I, is_finding_I)
    return float(candidates_J[sensitivity_J >= 0.9].max())


def _half(scores_I: _Floats, is_finding_I: _Bools) -> float:
    return 0.5


THRESHOLDS: Mapping[str, Callable[[_Floats, _Bools], float]] = {
    "youden": _youden, "f1": _f1, "sensitivity90": _sensitivity90, "half": _half,
}  # fmt: skip
"""Rules for the threshold: most sensitivity plus specificity, most F1 of class 1, 90 % sensitivity, or one half."""


def _rates(scores_I: _Floats, is_finding_I: _Bools) -> tuple[_Floats, _Floats, _Floats, NDArray[np.int64]]:
    """Midpoints between neighbouring scores, and 0 before them; sensitivity, specificity and the number named there."""
    distinct = np.unique(scores_I)
    candidates_J = np.concatenate([[0.0], (distinct[:-1] + distinct[1:]) / 2])
    findings, others = np.sort(scores_I[is_finding_I]), np.sort(scores_I[~is_finding_I])
    missed_J = np.searchsorted(findings, candidates_J, side="right")
    spared_J = np.searchsorted(others, candidates_J, side="right")
    return candidates_J, 1 - missed_J / len(findings), spared_J / len(others), len(scores_I) - missed_J - spared_J


def _widest_best(candidates_J: _Floats, quality_J: _Floats, scores_I: _Floats) -> float:
    """Return, of equally good candidates, that in the widest gap between scores."""
    gaps_J = np.concatenate([[0.0], np.diff(np.unique(scores_I))])
    best = quality_J >= quality_J.max() - 1e-12
    return float(candidates_J[np.where(best, gaps_J, -1.0).argmax()])


def _spread(size: int, cells: int) -> _Floats:
    """Weights (size, cells) that enlarge a row of cells and blur it; each row adds up to 1."""
    members = np.arange(size) * cells // size
    plain = np.eye(cells)[members]
    blurred: _Floats = gaussian_filter1d(plain, BLUR * size / cells, axis=0, mode="nearest")
    return blurred


def _area(positives: _Floats, negatives: _Floats) -> float:
    """Area under the ROC curve by the Mann-Whitney statistic, which counts ties half."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left").sum(dtype=np.float64)
    not_above = np.searchsorted(ordered, positives, side="right").sum(dtype=np.float64)
    return float((below + not_above) / 2 / (len(positives) * len(negatives)))
