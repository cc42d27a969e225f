"""Statistics of scores: pure functions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparse_search.analysis.image_intervals import Confusion
from trainables.metrics.counts import score_of
from trainables.metrics.table import METRICS, Origin

MANY_DATASETS = 6
"""Datasets whose spread tells enough of the whole uncertainty."""

_PAIRED_SMOOTHING = 1.0
"""Images added to each class before the noise of a difference is drawn: two methods that differ on none of a few images
may differ on others. Source: Agresti & Min, Statistics in Medicine 24 (2005) 729."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Location:
    """Location of scores over label sets."""

    mean: float
    median: float
    interquartile_mean: float
    count: int


def summarise(scores: Sequence[float]) -> Location:
    """Mean, median and interquartile mean of at least one score."""
    return Location(float(np.mean(scores)), float(np.median(scores)), interquartile_mean(scores), len(scores))


def interquartile_mean(scores: Sequence[float]) -> float:
    """Mean without the lowest and the highest quarter, rounded down: of fewer than four scores, their mean.

    Source: Agarwal et al., NeurIPS 2021, arXiv:2108.13264.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


@dataclass(frozen=True, kw_only=True)
class ScoredSetting:
    """Scores on a dataset at one number of shots: a term of a mean over datasets."""

    dataset: str
    scores: tuple[float, ...]
    """One per label set; for a comparison, differences of two methods on the same label set."""

    confusions: tuple[Confusion, ...] = ()
    """One K × K table per label set, rows true classes; empty where the metric cannot be computed from them."""

    rivals: tuple[Confusion, ...] = ()
    """For a comparison, the tables of the method that was subtracted."""

    joints: tuple[NDArray[np.int64], ...] = ()
    """For a comparison, what both name together: a K × K × K table per label set, of the true class, that named by the
    method and that named by its rival; empty where that is not known."""

    same_images: bool = False
    """True where all label sets are scored on the same images."""


def bootstrap_interval(
    settings: Sequence[ScoredSetting],
    metric: str,
    *,
    draw_datasets: bool = False,
    level: float = 0.95,
    num_draws: int = 4000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Hierarchical bootstrap interval of the mean over datasets of the mean over settings; None if nothing varies.

    Drawn again are the datasets (if asked), within each the label sets, within each the validation images: every row
    of the confusion table as a multinomial. The settings of a dataset stay together, as their shots were chosen.

    * Of n datasets, n - 1 are drawn, so that the spread is not underestimated; label sets are drawn from a normal
      distribution with their spread. The spread of the few (datasets where they are drawn, else label sets) is
      stretched as Student's t is wider than the normal.
    * Where many datasets are drawn, nothing else is: the spread over datasets holds what varies within each. In the
      same way the spread over label sets with images of their own holds the noise of these; it counts unless that of
      the images alone is wider, as where few label sets agree by chance.
    * Else images are drawn: of a comparison with what both methods name on each, where that is known, else
      independently for both though they share them, which is too wide and never too narrow.
    * A single label set says nothing about others: the interval then holds it fixed.

    `bench/intervals.py` and the tests measure coverage. Equal arguments give equal intervals. No interval leaves what
    scores, or their differences, can be.

    Args:
        settings: in any order.
        metric: of the scores; images are drawn where a table of images determines it.
        draw_datasets: whether the interval is about datasets like these, or about exactly these.
        level: coverage.
        num_draws: bootstrap samples.
        seed: of the draws.

    Source: Davison & Hinkley, Bootstrap Methods and their Application (1997) 3.8; Rao & Wu, J. Am. Stat. Assoc. 83
    (1988) 231 for n - 1; Hesterberg, Am. Stat. 69 (2015) 371 for Student's t.
    """
    rng = np.random.default_rng(seed)
    grouped: dict[str, list[ScoredSetting]] = defaultdict(list)
    for setting in sorted(settings, key=lambda setting: (setting.dataset, setting.scores)):
        grouped[setting.dataset].append(setting)
    point_D = np.array([np.mean([np.mean(setting.scores) for setting in group]) for group in grouped.values()])
    draw_datasets = draw_datasets and len(point_D) > 1
    widen = 1.0 if draw_datasets else _stretch(sum(len(setting.scores) - 1 for setting in settings), level)
    noise_DN = np.zeros((len(point_D), num_draws))
    if not draw_datasets or len(point_D) < MANY_DATASETS:
        noise_DN = np.array([_noise(group, metric, widen, rng, num_draws) for group in grouped.values()])
    noise_N = _datasets(point_D, noise_DN, rng, level) if draw_datasets else noise_DN.mean(0)
    if not noise_N.any():
        return None
    low, high = point_D.mean() + np.quantile(noise_N, [(1 - level) / 2, (1 + level) / 2])
    is_difference = any(setting.rivals or min(setting.scores) < (METRICS[metric].low or 0.0) for setting in settings)
    return _within(metric, float(low), float(high), is_difference=is_difference)


def _within(metric: str, low: float, high: float, *, is_difference: bool) -> tuple[float, float]:
    """Return an interval without what no score, or no difference of scores, can be."""
    least, most = METRICS[metric].low, METRICS[metric].high
    if is_difference:
        most = None if least is None or most is None else most - least
        least = None if most is None else -most
    return (low if least is None else max(low, least)), (high if most is None else min(high, most))


def _noise(
    group: Sequence[ScoredSetting], metric: str, widen: float, rng: np.random.Generator, num_draws: int
) -> _Array:
    """Deviations of a dataset's mean over settings when all within is drawn again."""
    each = [_within_setting(setting, metric, widen, rng, num_draws) for setting in group]
    return np.asarray(np.mean(each, axis=0))


def _within_setting(
    setting: ScoredSetting, metric: str, widen: float, rng: np.random.Generator, num_draws: int
) -> _Array:
    """Deviations of a setting's mean: over label sets and images, or over the wider of them where one holds both."""
    between_N, images_N = widen * _label_sets(setting, rng, num_draws), _images(setting, metric, rng, num_draws)
    if setting.same_images or len(setting.scores) == 1:
        return np.asarray(between_N + images_N)
    return between_N if between_N.std() > images_N.std() else images_N


def _datasets(point_D: _Array, noise_DN: _Array, rng: np.random.Generator, level: float) -> _Array:
    num_datasets, num_draws = noise_DN.shape
    chosen_ND = rng.integers(num_datasets, size=(num_draws, num_datasets - 1))
    between_N = point_D[chosen_ND].mean(1) - point_D.mean()
    within_N = noise_DN[chosen_ND, np.arange(num_draws)[:, None]].mean(1)
    return np.asarray(_stretch(num_datasets - 1, level) * between_N + within_N)


def _label_sets(setting: ScoredSetting, rng: np.random.Generator, num_draws: int) -> _Array:
    """Deviations of the setting's mean when its label sets are drawn again."""
    count = len(setting.scores)
    if count < 2:
        return np.zeros(num_draws)
    return np.asarray(rng.normal(0.0, np.std(setting.scores, ddof=1) / count**0.5, num_draws))


def _images(setting: ScoredSetting, metric: str, rng: np.random.Generator, num_draws: int) -> _Array:
    """Deviations of the setting's mean when its validation images are drawn again."""
    noise_N = np.zeros(num_draws)
    if METRICS[metric].origin is not Origin.COUNTS_OF_IMAGES:
        return noise_N
    if setting.joints:
        tables_SKKK = np.asarray(setting.joints, np.float64)
        pooled_KKK = tables_SKKK.mean(0) if setting.same_images else tables_SKKK.sum(0)
        return _paired_noise(pooled_KKK, metric, rng, num_draws)
    for sign, confusions in ((1, setting.confusions), (-1, setting.rivals)):
        if confusions:
            tables_SKK = np.asarray(confusions, np.float64)
            pooled_KK = tables_SKK.mean(0) if setting.same_images else tables_SKK.sum(0)
            noise_N += sign * _image_noise(pooled_KK, metric, rng, num_draws)
    return noise_N


def _image_noise(pooled_KK: _Array, metric: str, rng: np.random.Generator, num_draws: int) -> _Array:
    drawn_NKK = np.zeros((num_draws, *pooled_KK.shape))
    for k, row_K in enumerate(pooled_KK):
        if row_K.sum() > 0:
            drawn_NKK[:, k] = rng.multinomial(max(1, round(row_K.sum())), row_K / row_K.sum(), size=num_draws)
    return np.nan_to_num(score_of(drawn_NKK, metric) - score_of(pooled_KK, metric))  # a draw may leave it undefined


def _paired_noise(pooled_KKK: _Array, metric: str, rng: np.random.Generator, num_draws: int) -> _Array:
    """Deviations of a difference when images are drawn again, each with what both methods name on it."""
    num_classes = len(pooled_KKK)
    drawn_NKKK = np.zeros((num_draws, *pooled_KKK.shape))
    expected_KKK = np.zeros_like(pooled_KKK)
    for k, own_KK in enumerate(pooled_KKK):
        if count := round(own_KK.sum()):
            share_KK = own_KK + _smoothed_cells(k, num_classes)
            share_KK /= share_KK.sum()
            drawn = rng.multinomial(count, share_KK.ravel(), size=num_draws)
            drawn_NKKK[:, k], expected_KKK[k] = drawn.reshape(num_draws, num_classes, num_classes), count * share_KK
    noise_N = score_of(drawn_NKKK.sum(3), metric) - score_of(drawn_NKKK.sum(2), metric)
    return np.nan_to_num(noise_N - (score_of(expected_KKK.sum(2), metric) - score_of(expected_KKK.sum(1), metric)))


def _smoothed_cells(true: int, num_classes: int) -> _Array:
    """`_PAIRED_SMOOTHING` images, a quarter each on both right, either right and none right."""
    each_K = np.full(num_classes, 0.5 / max(num_classes - 1, 1))
    each_K[true] = 0.5
    return _PAIRED_SMOOTHING * np.outer(each_K, each_K)


def _stretch(freedom: int, level: float) -> float:
    """Student's t over the normal quantile; 1 where there is no spread to judge."""
    from scipy.special import stdtrit

    share = (1 + level) / 2
    return float(stdtrit(freedom, share) / NormalDist().inv_cdf(share)) if freedom else 1.0


def probability_of_improvement(settings: Sequence[ScoredSetting]) -> float:
    """Probability that one method beats the other on a label set, ties counting half; settings hold differences.

    Mean over the label sets of a setting, then the settings of a dataset, then datasets. Pairs are those of one label
    set, where the source takes any two runs.

    Source: Agarwal et al., NeurIPS 2021, arXiv:2108.13264.
    """
    grouped: dict[str, list[float]] = defaultdict(list)
    for setting in settings:
        grouped[setting.dataset].append(float(np.mean((np.sign(setting.scores) + 1) / 2)))
    return float(np.mean([np.mean(shares) for shares in grouped.values()]))


@dataclass(frozen=True)
class Optimism:
    """Winner's curse of a search: the amount by which the chosen configuration looks better than it is."""

    selected: float
    """Mean score of what is chosen by all label sets but one, on those it was chosen by."""

    left_out: float
    """Mean score of the same choices on the label set left out."""

    num_configs: int
    num_label_sets: int
    share: float = 1.0
    """Share of this excess that is left when all label sets choose, which are less noisy than all but one."""

    @property
    def bias(self) -> float:
        """To be subtracted from the score of the best."""
        return self.share * (self.selected - self.left_out)


def selection_optimism(scores_CS: ArrayLike) -> Optimism | None:
    """Cross-validated selection: choose by all label sets but one, score on that one; None with fewer than two.

    It sees choice by the luck of label sets (and of images, where each label set has its own). It does not see choice
    by the luck of images that all label sets share, nor how the candidates came to be candidates. As the choice
    rests on one label set less than the real one, its excess is reduced by what Gaussian scores say of that.

    Args:
        scores_CS: configurations × label sets, larger is better; the first of equals is chosen.

    Source: Varma & Simon, BMC Bioinformatics 7 (2006) 91; Cawley & Talbot, J. Mach. Learn. Res. 11 (2010) 2079.
    """
    table_CS = np.asarray(scores_CS, np.float64)
    num_configs, num_label_sets = table_CS.shape
    if num_label_sets < 2 or not num_configs:
        return None
    others_CS = (table_CS.sum(1, keepdims=True) - table_CS) / (num_label_sets - 1)
    best_S = others_CS.argmax(0)
    each_S = np.arange(num_label_sets)
    selected, left_out = others_CS[best_S, each_S].mean(), table_CS[best_S, each_S].mean()
    return Optimism(float(selected), float(left_out), num_configs, num_label_sets, _share_left(table_CS))


def _share_left(table_CS: _Array) -> float:
    """Excess of the best of S label sets over that of S - 1, where scores are Gaussian.

    It is proportional to the noise in a mean over label sets, as a variance, over the spread of such means.
    """
    num_configs, num_label_sets = table_CS.shape
    if num_configs < 2:
        return 1.0
    rest_CS = table_CS - table_CS.mean(1, keepdims=True) - table_CS.mean(0) + table_CS.mean()
    noise = float((rest_CS**2).sum()) / ((num_configs - 1) * (num_label_sets - 1))
    if noise == 0:
        return 1.0
    real = max(float(table_CS.mean(1).var(ddof=1)) - noise / num_label_sets, 0.0)
    all_, fewer = noise / num_label_sets, noise / (num_label_sets - 1)
    return float(all_ / fewer * ((real + fewer) / (real + all_)) ** 0.5)
