"""Averages of what was tried: rules that weigh configurations by the predictions that were kept. Pure functions.

With few labels the best of many is hardly better than any of them, and the more are tried the more it flatters; their
average gains from every one. A rule makes weights from how configurations did on the images that judge them, those of
all label sets and folds together, where classes count alike.

Source: Caruana et al., ICML 2004 and ICDM 2006, for greedy selection from the best of a library.
Shapes: B draws of images, M members, N images of all label sets and folds, R runs, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.config import short_hash
from search_spaces.core.errors import ConfigError, suggestion
from sparse_search.analysis.weighted_scores import SharedPredictions
from trainables.metrics.losses import brier_losses, clipped_log_losses

_Array = NDArray[np.float64]

DEFAULT_RULE = "third"
MIN_SHARE = 0.01
"""Least weight in a tempered average; of more than a hundred members, what each would have if all had the same."""

MIN_GREEDY_IMAGES = 300
"""Judging images from which on the greedy rule is applied: it fits itself to fewer."""

GREEDY_STEPS = 25
MAX_GREEDY = 50
"""Members, the best by themselves, that the greedy rule chooses from."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Configurations that may be averaged: what each says of the same images.

    Raises:
        ValueError: the names are not in order, each once.
    """

    names: tuple[str, ...]
    """Names of the M configurations, in ascending order, so that no result depends on who was tried first."""

    predictions: SharedPredictions
    """Of each, in the same order."""

    decision: str = "argmax"
    """How classes are named, one of `DECISIONS`."""

    def __post_init__(self) -> None:
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("names of candidates must be in ascending order, each once")

    @property
    def probs_MNK(self) -> _Array:
        """Probabilities of classes."""
        return self.predictions.probs_CNK

    @property
    def labels_N(self) -> NDArray[np.int64]:
        """Classes of the images."""
        return self.predictions.labels_N

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.probs_MNK.shape[2])

    @cached_property
    def brier_NM(self) -> _Array:
        """Brier score of each prediction."""
        return np.ascontiguousarray(brier_losses(self.probs_MNK, self.labels_N).T)

    @cached_property
    def log_NM(self) -> _Array:
        """Logarithm of the probability of each true class, clipped: one sure mistake shall not decide."""
        return np.ascontiguousarray(-clipped_log_losses(self.probs_MNK, self.labels_N).T)

    def shares(self, times_BN: _Array) -> _Array:
        """Return the share (B, N) of each image, given how often it was drawn: classes that were drawn count alike."""
        is_of_NK = np.eye(self.num_classes)[self.labels_N]
        totals_BK = times_BN @ is_of_NK
        classes_B1 = (totals_BK > 0).sum(1, keepdims=True)
        return np.asarray(times_BN / (np.maximum(totals_BK, 1) * classes_B1)[:, self.labels_N])


@dataclass(frozen=True, eq=False)
class Standing:
    """Candidates by how they did on images, for each of B draws of these."""

    candidates: Candidates
    shares_BN: _Array
    there_BM: NDArray[np.bool_]
    """Candidates that there are to choose from: at least one in each draw."""

    @cached_property
    def brier_BM(self) -> _Array:
        """Class-balanced Brier scores; infinite where a candidate is not there."""
        return np.where(self.there_BM, self.shares_BN @ self.candidates.brier_NM, np.inf)

    @cached_property
    def log_BM(self) -> _Array:
        """Class-balanced log scores; minus infinity where a candidate is not there."""
        return np.where(self.there_BM, self.shares_BN @ self.candidates.log_NM, -np.inf)


def standing(
    candidates: Candidates, times_BN: _Array | None = None, there_BM: NDArray[np.bool_] | None = None
) -> Standing:
    """Return how candidates did on draws of images, given how often each was drawn; by default on each image once."""
    times_BN = np.ones((1, len(candidates.labels_N))) if times_BN is None else times_BN
    shape = (len(times_BN), len(candidates.names))
    there_BM = np.broadcast_to(np.ones((), bool) if there_BM is None else there_BM, shape)
    return Standing(candidates, candidates.shares(times_BN), there_BM)


def _uniform(among: Standing) -> _Array:
    """Every candidate alike."""
    return np.asarray(among.there_BM / among.there_BM.sum(1, keepdims=True))


def _third(among: Standing) -> _Array:
    """The best third by the balanced Brier score, rounded down, at least one: each alike."""
    counts_B1 = np.maximum(among.there_BM.sum(1, keepdims=True) // 3, 1)
    places_BM = among.brier_BM.argsort(1, kind="stable").argsort(1)
    return np.asarray((places_BM < counts_B1) / counts_B1)


def _tempered(among: Standing) -> _Array:
    """Weights that grow as exp(√N · balanced log score); those below `MIN_SHARE` are dropped, the others renewed."""
    best_B1 = among.log_BM.max(1, keepdims=True)
    weights_BM = _normalised(np.exp(among.candidates.predictions.num_images**0.5 * (among.log_BM - best_B1)))
    least_B1 = np.minimum(MIN_SHARE, 1 / among.there_BM.sum(1, keepdims=True))
    return _normalised(np.where(weights_BM < least_B1 * (1 - 1e-9), 0.0, weights_BM))


def _greedy(among: Standing) -> _Array:
    """Candidates that lower the balanced Brier score of the average most, one after the other, again and again."""
    weights_BM = np.zeros(among.there_BM.shape)
    for b, brier_M in enumerate(among.brier_BM):
        best = np.sort(brier_M.argsort(kind="stable")[: min(MAX_GREEDY, int(among.there_BM[b].sum()))])
        weights_BM[b, best] = _greedy_weights(_products(among.candidates, best, among.shares_BN[b]))
    return weights_BM


def _products(candidates: Candidates, members: NDArray[np.int64], shares_N: _Array) -> _Array:
    """Return the matrix whose quadratic form of weights is the balanced Brier score of their average."""
    errors_MNK = candidates.probs_MNK[members] - np.eye(candidates.num_classes)[candidates.labels_N]
    scaled_MX = (errors_MNK * np.sqrt(shares_N)[:, None]).reshape(len(members), -1)
    return np.asarray(scaled_MX @ scaled_MX.T)


def _greedy_weights(products_MM: _Array) -> _Array:
    counts_M, path = np.zeros(len(products_MM)), list[tuple[float, _Array]]()
    for step in range(1, GREEDY_STEPS + 1):
        linear_M = products_MM @ counts_M
        score_M = (counts_M @ linear_M + 2 * linear_M + products_MM.diagonal()) / step**2
        chosen = int(np.flatnonzero(score_M <= score_M.min() * (1 + 1e-12))[0])  # rounding shall not break ties
        counts_M[chosen] += 1
        path.append((float(score_M[chosen]), counts_M / step))
    return min(path, key=lambda each: each[0])[1]


def _normalised(weights_BM: _Array) -> _Array:
    return np.asarray(weights_BM / weights_BM.sum(1, keepdims=True))


Rule = Callable[[Standing], _Array]
RULES: Mapping[str, Rule] = {"uniform": _uniform, "third": _third, "tempered": _tempered, "greedy": _greedy}
"""From how candidates did to weights (B, M) that add up to 1."""


def find_rule(name: str) -> Rule:
    """Return the rule of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in RULES:
        raise ConfigError(f"rule '{name}' is unknown{suggestion(name, RULES)}")
    return RULES[name]


def rules_for(candidates: Candidates) -> tuple[str, ...]:
    """Return the names of the rules that so many judging images allow."""
    return tuple(name for name in RULES if name != "greedy" or candidates.predictions.num_images >= MIN_GREEDY_IMAGES)


@dataclass(frozen=True)
class Weighted:
    """An average: which candidates it is made of, and with which weights."""

    rule: str
    average_id: str
    """Hash of all candidates and the rule: who is set aside changes the name, not only the score."""

    num_candidates: int
    members: tuple[int, ...]
    """Places of those with a weight among the candidates, the heaviest first."""

    weights: tuple[float, ...]


def weighted(candidates: Candidates, rule: str, there_M: NDArray[np.bool_] | None = None) -> Weighted:
    """Weigh candidates, or those of them that are there, by a rule.

    Raises:
        ConfigError: an unknown rule.
    """
    chosen_M = np.ones(len(candidates.names), bool) if there_M is None else there_M
    weights_M = find_rule(rule)(standing(candidates, there_BM=chosen_M[None]))[0]
    members = sorted(np.flatnonzero(weights_M).tolist(), key=lambda m: (-weights_M[m], candidates.names[m]))
    names = [name for name, is_there in zip(candidates.names, chosen_M, strict=True) if is_there]
    return Weighted(
        rule=rule,
        average_id=short_hash({"rule": rule, "candidates": names}),
        num_candidates=len(names),
        members=tuple(members),
        weights=tuple(float(weights_M[m]) for m in members),
    )
