"""Scores to be expected of averages on new images of the same kind: by bootstrap, without a test image.

Of each draw the drawn images weigh the members, or choose one, and the images left out score what comes out: no image
scores what it has had a part in choosing. The mean over draws estimates the whole procedure.

Source: Tsamardinos, Greasidou & Borboudakis, Machine Learning 107 (2018) 1895.
Shapes: B draws, M members, N images, R runs, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.averages import Candidates, Rule, Standing, find_rule, standing
from trainables.metrics.classes import PREDICTED
from trainables.metrics.counts import score_of
from trainables.metrics.table import METRICS, sign_of
from trainables.metrics.thresholds import SORTED

_Array = NDArray[np.float64]
_Bools = NDArray[np.bool_]

NUM_DRAWS = 500
_MAX_REDRAWN = 100


@dataclass(frozen=True)
class Expected:
    """Score that is expected on new images, with a 95 % interval."""

    score: float
    low: float
    high: float


def expected(scores_B: _Array) -> Expected | None:
    """Return the mean over draws and the interval that holds 95 % of them; None where no draw has a score."""
    known_B = scores_B[np.isfinite(scores_B)]
    if not len(known_B):
        return None
    low, high = np.quantile(known_B, [0.025, 0.975])
    return Expected(float(known_B.mean()), float(low), float(high))


def draws(candidates: Candidates, num_draws: int = NUM_DRAWS, seed: int = 0) -> _Array | None:
    """Return how often each image is drawn (B, N): as many of each class as there are, and never all of a class.

    None where a class has a single image, which cannot be drawn and left out.
    """
    firsts_U = np.unique(candidates.unit_N, return_index=True)[1]
    labels_U, rng = candidates.labels_N[firsts_U], np.random.default_rng(seed)
    times_BU = np.zeros((num_draws, len(labels_U)))
    for label in np.unique(labels_U):
        own = np.flatnonzero(labels_U == label)
        if len(own) < 2:
            return None
        times_BU[:, own] = _drawn(len(own), num_draws, rng)
    return np.asarray(times_BU[:, candidates.unit_N])


def _drawn(count: int, num_draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each of some things is drawn; draws of all of them are drawn again."""
    times = rng.multinomial(count, np.full(count, 1 / count), size=num_draws)
    for _ in range(_MAX_REDRAWN):
        whole = (times > 0).all(1)
        if not whole.any():
            break
        times[whole] = rng.multinomial(count, np.full(count, 1 / count), size=int(whole.sum()))
    return times


def left_out_scores(candidates: Candidates, weights_BM: _Array, times_BN: _Array, metric: str) -> _Array:
    """Return the score (B,) of the average of each draw on the images that it left out; NaN where it is not defined.

    What sorts images, as AUROC does, is the mean over runs; all else is of all images together.
    """
    flat_MX = candidates.probs_MNK.reshape(len(candidates.names), -1)
    probs_BNK = (weights_BM @ flat_MX).reshape(len(weights_BM), *candidates.probs_MNK.shape[1:])
    left_BN = times_BN == 0
    if METRICS[metric].is_counted:
        return score_of(_tables(candidates, _named(candidates, weights_BM, probs_BNK), left_BN), metric)
    return np.array(
        [_predicted(candidates, probs_NK, left_N, metric) for probs_NK, left_N in zip(probs_BNK, left_BN, strict=True)]
    )


def _named(candidates: Candidates, weights_BM: _Array, probs_BNK: _Array) -> NDArray[np.int64]:
    """Return the class (B, N) that is named of each image."""
    if candidates.pool_MRK is None:
        return np.asarray(probs_BNK.argmax(2))
    pool_BRK = np.tensordot(weights_BM, candidates.pool_MRK, 1)
    return np.asarray((probs_BNK / np.maximum(pool_BRK, np.finfo(np.float64).tiny)[:, candidates.run_N]).argmax(2))


def _tables(candidates: Candidates, named_BN: NDArray[np.int64], left_BN: _Bools) -> _Array:
    """Return confusion tables (B, K, K) of the images left out."""
    shape = len(named_BN), candidates.num_classes, candidates.num_classes
    cells_BN = (np.arange(shape[0])[:, None] * shape[1] + candidates.labels_N) * shape[2] + named_BN
    counts = np.bincount(cells_BN[left_BN], minlength=int(np.prod(shape)))
    tables_BKK: _Array = counts.reshape(shape).astype(np.float64)
    return tables_BKK


def _predicted(candidates: Candidates, probs_NK: _Array, left_N: _Bools, metric: str) -> float:
    """Return a metric of the probabilities of images, NaN where it is not defined."""
    if metric not in PREDICTED:
        return float("nan")
    parts = [left_N]
    if metric in SORTED:
        parts = [left_N & (candidates.run_N == run) for run in np.unique(candidates.run_N)]
    found = [PREDICTED[metric](probs_NK[part_N], candidates.labels_N[part_N]) for part_N in parts if part_N.any()]
    known = [value for value in found if value is not None]
    return fmean(known) if known else float("nan")


def best_one(metric: str) -> Rule:
    """Return the rule that takes the best candidate alone: by a share of named classes, else by the Brier score.

    Among equals the Brier score decides.
    """
    by_hits = METRICS[metric].share_of == "classes"

    def choose(among: Standing) -> _Array:
        rated_BM = np.zeros(among.there_BM.shape)
        if by_hits:
            named_MN = among.candidates.probs_MNK.argmax(2)
            rated_BM = among.shares_BN @ (named_MN == among.candidates.labels_N).T.astype(np.float64)
        rated_BM = np.where(among.there_BM, rated_BM, -np.inf)
        is_best_BM = rated_BM >= rated_BM.max(1, keepdims=True) - 1e-12
        chosen_B = np.where(is_best_BM, among.brier_BM, np.inf).argmin(1)
        return np.asarray(np.eye(among.there_BM.shape[1])[chosen_B])

    return choose


@dataclass(frozen=True)
class Addition:
    """What a method adds to the average: its score with the method less that without, by draws of images."""

    method: str
    num_members: int
    """Candidates of this method."""

    alone: Expected | None
    without: Expected | None
    gain: Expected | None
    """Paired over draws; positive where the method makes the average better."""


def additions(
    candidates: Candidates, methods: tuple[str, ...], rule: str, metric: str, times_BN: _Array
) -> list[Addition]:
    """Return what each method adds to the average of all, the most first; nothing of a single method.

    Args:
        methods: of each candidate (M,).
    """
    named_M = np.array(methods)
    with_all_B = left_out_scores(candidates, find_rule(rule)(standing(candidates, times_BN)), times_BN, metric)

    def score(there_M: _Bools) -> _Array:
        among = standing(candidates, times_BN, there_M[None])
        return left_out_scores(candidates, find_rule(rule)(among), times_BN, metric)

    found = []
    for method in sorted(set(methods)) if len(set(methods)) > 1 else ():
        without_B = score(named_M != method)
        found.append(
            Addition(
                method, int((named_M == method).sum()), expected(score(named_M == method)), expected(without_B),
                expected(sign_of(metric) * (with_all_B - without_B)),
            )
        )  # fmt: skip
    return sorted(found, key=lambda each: (-(each.gain.score if each.gain else 0.0), each.method))


@dataclass(frozen=True)
class Worth:
    """Worth of having tried so many: scores of the best of n, and of the average of n, for growing n."""

    sizes: tuple[int, ...]
    best: tuple[Expected | None, ...]
    average: tuple[Expected | None, ...]
    from_search: Expected | None
    """Paired gain of the best of all over one at random."""

    from_averaging: Expected | None
    """Paired gain of the average of all over the best of all."""

    risen_until: int
    """Least n from which on neither rises by more than `MIN_RISE`."""


MIN_RISE = 0.005
"""Rise of a score that counts as one."""


def worth(candidates: Candidates, rule: str, metric: str, times_BN: _Array, seed: int = 0) -> Worth:
    """Return what having tried more was worth, from orders of the candidates that are drawn anew with the images."""
    count, sign = len(candidates.names), sign_of(metric)
    sizes = (*(2**power for power in range(count.bit_length()) if 2**power < count), count)
    rng = np.random.default_rng(seed)
    order_BM = rng.permuted(np.tile(np.arange(count), (len(times_BN), 1)), axis=1)
    best: dict[int, _Array] = {}
    average: dict[int, _Array] = {}
    for size in sizes:
        among = standing(candidates, times_BN, order_BM < size)
        best[size] = left_out_scores(candidates, best_one(metric)(among), times_BN, metric)
        average[size] = left_out_scores(candidates, find_rule(rule)(among), times_BN, metric)
    return Worth(
        sizes,
        tuple(expected(best[size]) for size in sizes),
        tuple(expected(average[size]) for size in sizes),
        expected(sign * (best[count] - best[1])),
        expected(sign * (average[count] - best[count])),
        _risen_until(sizes, (best, average), sign),
    )


def _risen_until(sizes: tuple[int, ...], curves: tuple[Mapping[int, _Array], ...], sign: int) -> int:
    """Return the least size from which on no later one is better by more than `MIN_RISE` in any curve."""
    means = [[sign * np.nanmean(curve[size]) if np.isfinite(curve[size]).any() else 0.0 for size in sizes]
             for curve in curves]  # fmt: skip
    for place, size in enumerate(sizes):
        if all(max(each[place:]) - each[place] <= MIN_RISE for each in means):
            return size
    return sizes[-1]
