"""Scores to expect on new images when the same images chose and judged: bootstrap bias-corrected cross-validation.

Images are drawn again within each class, the best configuration on those drawn is scored on those left out, and the
mean over draws is the estimate: of the whole procedure, its choice included. It costs no training, as predictions are
kept. It leans to the low side where the models of folds learn from fewer images than the one that is used.

What a search ended early cannot be chosen here, so a little of its optimism stays (`bench/honest_estimate.py`).

Shapes: C configurations, N judged images (an image once in every label set that it judges), U images, G groups,
B draws, K classes.

Source: Tsamardinos, Greasidou & Borboudakis, Machine Learning 107 (2018) 1895; intervals: Paraschakis et al. 2024,
arXiv:2406.08099.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.image_intervals import area_interval, wilson_interval
from sparse_search.analysis.weighted_scores import SharedPredictions, weighted_scores
from trainables.metrics.table import METRICS

NUM_DRAWS = 500

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]

_MAX_REDRAWN = 1000
"""Times that draws are repeated which leave a class without images on one side."""

_TIE = 1e-9
"""Weight of the log-loss beside a metric: it orders equal scores and changes no others."""

_SPREAD = 0.8
"""Width of an interval as a share of that between the percentiles of draws.

What a draw leaves out is .37 of the images, and another draw's is other ones: for one configuration the scores of
draws spread 1.31 times (the root of 1 / .37 - 1) as widely as those of new sets of as many images. What varies besides,
the choice and who was labelled, takes back a part of that: `bench/honest_estimate.py` measures how much.
"""


@dataclass(frozen=True)
class Expected:
    """Score to expect on new images, with its 95 % interval; or a difference of two such scores."""

    score: float
    low: float
    high: float


def expected(scores_B: _Array, metric: str = "", counts_K: Sequence[float] = ()) -> Expected | None:
    """Mean of the scores of draws with its interval; None where none has a score.

    Args:
        scores_B: NaN where a draw has none.
        metric: Of the scores, whose range no interval leaves; nothing for differences.
        counts_K: Images of each class that judge. The interval of a share or of AUROC is then not narrower than so few
            images allow: where nothing is wrong on any, the draws do not differ.
    """
    known = scores_B[np.isfinite(scores_B)]
    if not len(known):
        return None
    mean = float(known.mean())
    low, high = (mean + _SPREAD * (float(end) - mean) for end in np.quantile(known, [0.025, 0.975]))
    if metric:
        ends = _from_counts(mean, metric, counts_K) if len(counts_K) else None
        low, high = (min(low, ends[0]), max(high, ends[1])) if ends else (low, high)
        low, high = (max(low, least), high) if (least := METRICS[metric].low) is not None else (low, high)
        low, high = (low, min(high, most)) if (most := METRICS[metric].high) is not None else (low, high)
    return Expected(mean, low, high)


def _from_counts(score: float, metric: str, counts_K: Sequence[float]) -> tuple[float, float] | None:
    """Interval of a score on so many images of each class, of metrics that these suffice for."""
    present_K = np.array([count for count in counts_K if count], np.float64)
    if METRICS[metric].share_of == "classes":
        return wilson_interval(score, len(present_K) ** 2 / float((1 / present_K).sum()))
    if METRICS[metric].share_of == "images":
        return wilson_interval(score, float(present_K.sum()))
    return area_interval(score, present_K[None]) if metric == "auroc" else None


def draw_images(
    labels_N: _Indices,
    images_N: _Indices,
    *,
    groups_N: _Indices | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> _Array | None:
    """Draw images again, as many of each class as there are; return how often each was drawn (B, N).

    An image that judges in several label sets is drawn with all of its places, and a group with all of its images.
    Every draw has images of each class among those drawn and among those left out: None where a class has one image, or
    one group, alone.

    Args:
        labels_N: Class of each.
        images_N: Image, equal where it is the same.
        groups_N: Group, such as a patient; every image is its own when not given.
        num_draws: B.
        seed: Of the draws.
    """
    images_U, first_U, place_N = np.unique(images_N, return_index=True, return_inverse=True)
    group_U = np.unique(images_U if groups_N is None else groups_N[first_U], return_inverse=True)[1]
    times_BU = _times(labels_N[first_U], group_U, np.random.default_rng(seed), num_draws)
    return None if times_BU is None else times_BU[:, place_N].astype(np.float64)


def _times(labels_U: _Indices, group_U: _Indices, rng: np.random.Generator, num_draws: int) -> _Indices | None:
    of_class_KU = labels_U == np.unique(labels_U)[:, None]
    if any(len(np.unique(group_U[own_U])) < 2 for own_U in of_class_KU):
        return None
    strata_G = _strata(labels_U, group_U)
    times_BU = _drawn(strata_G, rng, num_draws)[:, group_U]
    for _ in range(_MAX_REDRAWN):
        lacking_B = _lacks_a_class(times_BU > 0, of_class_KU)
        if not lacking_B.any():
            return times_BU
        times_BU[lacking_B] = _drawn(strata_G, rng, int(lacking_B.sum()))[:, group_U]
    return None


def _strata(labels_U: _Indices, group_U: _Indices) -> _Indices:
    """The class (G,) that most images of a group are of, the first of equals."""
    counts_GK = np.zeros((group_U.max() + 1, labels_U.max() + 1), np.int64)
    np.add.at(counts_GK, (group_U, labels_U), 1)
    return np.asarray(counts_GK.argmax(1))


def _drawn(strata_G: _Indices, rng: np.random.Generator, num_draws: int) -> _Indices:
    """Times (B, G) that each group is drawn, as many of a class as it has; some of each class are left out."""
    times_BG = np.zeros((num_draws, len(strata_G)), np.int64)
    for stratum in np.unique(strata_G):
        own = np.flatnonzero(strata_G == stratum)
        times_BG[:, own] = _with_some_left_out(len(own), rng, num_draws)
    return times_BG


def _with_some_left_out(size: int, rng: np.random.Generator, num_draws: int) -> _Indices:
    times_BS = rng.multinomial(size, np.full(size, 1 / size), num_draws)
    while size > 1 and (whole_B := times_BS.all(1)).any():
        times_BS[whole_B] = rng.multinomial(size, np.full(size, 1 / size), int(whole_B.sum()))
    return np.asarray(times_BS)


def _lacks_a_class(is_drawn_BU: NDArray[np.bool_], of_class_KU: NDArray[np.bool_]) -> NDArray[np.bool_]:
    sides = [side_BU[:, own_U].any(1) for own_U in of_class_KU for side_BU in (is_drawn_BU, ~is_drawn_BU)]
    return np.asarray(~np.all(sides, axis=0))


def choices(predictions: SharedPredictions, times_BN: _Array, metric: str) -> _Indices:
    """The configuration (B,) that is best on the images of each draw."""
    return np.asarray(rated(predictions, times_BN, metric).argmax(1))


def rated(predictions: SharedPredictions, times_BN: _Array, metric: str) -> _Array:
    """Return how good (B, C) each configuration is on each draw: more is better, equals go by the balanced log-loss."""
    scores_BC = METRICS[metric].sign * weighted_scores(metric, predictions, times_BN)
    losses_BC = weighted_scores("balanced_log_loss", predictions, times_BN)
    return np.asarray(np.where(np.isnan(scores_BC), -np.inf, scores_BC) - _TIE * losses_BC)


def chosen_scores(predictions: SharedPredictions, times_BN: _Array, metric: str) -> _Array:
    """Scores (B,), on the images left out, of what the images drawn choose; NaN where they are not defined."""
    left_out_BN = (times_BN == 0).astype(np.float64)
    if len(predictions) == 1:
        return np.asarray(weighted_scores(metric, predictions, left_out_BN)[:, 0])
    used, place_B = np.unique(choices(predictions, times_BN, metric), return_inverse=True)
    scores_BC = weighted_scores(metric, predictions.take(used), left_out_BN)
    return np.asarray(scores_BC[np.arange(len(place_B)), place_B])
