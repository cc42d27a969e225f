"""Scores to be expected of averages on new images of the same kind: by bootstrap, without a test image.

Of each draw the drawn images weigh the members, or choose one, and the images left out score what comes out: no image
scores what it has had a part in choosing. The mean over draws estimates the whole procedure.

Source: Tsamardinos, Greasidou & Borboudakis, Machine Learning 107 (2018) 1895.
Shapes: B draws, M members, N images, R runs, K classes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.averages import Candidates, find_rule, standing
from sparse_search.analysis.estimate import NUM_DRAWS, Expected, draw_images, expected, rated
from sparse_search.analysis.expectation import SORTED_SHARE
from sparse_search.analysis.weighted_scores import SharedPredictions, has_weighted_score, weighted_scores
from trainables.metrics.counts import score_of
from trainables.metrics.table import METRICS, sign_of
from trainables.metrics.thresholds import SORTED

_Array = NDArray[np.float64]
_Bools = NDArray[np.bool_]

_MAX_NUMBERS = 8_000_000
"""Probabilities of averages that are held at a time."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Candidates, and images that are drawn again: those drawn weigh, those left out score."""

    candidates: Candidates
    metric: str
    times_BN: _Array
    """How often each image was drawn."""

    def by_rule(self, rule: str, there_BM: _Bools | None = None) -> _Array:
        """Return the scores (B,) of the average of those candidates that are there."""
        return self._left_out(find_rule(rule)(standing(self.candidates, self.times_BN, there_BM)))

    def by_choice(self, there_BM: _Bools | None = None) -> _Array:
        """Return the scores (B,) of the one that is best by the metric, then by the balanced log-loss."""
        rated_BM = self._rated_BM if there_BM is None else np.where(there_BM, self._rated_BM, -np.inf)
        return self._left_out(np.eye(len(self.candidates.names))[rated_BM.argmax(1)])

    def of(self, member: int) -> _Array:
        """Return the scores (B,) of one candidate."""
        weights_BM = np.zeros((len(self.times_BN), len(self.candidates.names)))
        weights_BM[:, member] = 1.0
        return self._left_out(weights_BM)

    def expect(self, scores_B: _Array) -> Expected | None:
        """Return the score that these draws let expect."""
        predictions = self.candidates.predictions
        firsts_U = np.unique(predictions.images_N, return_index=True)[1]
        return expected(scores_B, self.metric, np.bincount(predictions.labels_N[firsts_U]).tolist())

    def expect_gain(self, scores_B: _Array, others_B: _Array) -> Expected | None:
        """Return the difference that is expected on the same draws, positive where the first are better."""
        return expected(sign_of(self.metric) * (scores_B - others_B))

    @cached_property
    def _rated_BM(self) -> _Array:
        return rated(self.candidates.predictions, self.times_BN, self.metric)

    def _left_out(self, weights_BM: _Array) -> _Array:
        """Return the score (B,) of the average of each draw on the images that it left out; NaN if there is none."""
        step = max(1, _MAX_NUMBERS // self.candidates.probs_MNK[0].size)
        parts = [slice(start, start + step) for start in range(0, len(weights_BM), step)]
        return np.concatenate([self._left_out_of(weights_BM[part], self.times_BN[part] == 0) for part in parts])

    def _left_out_of(self, weights_BM: _Array, left_BN: _Bools) -> _Array:
        probs_MNK = self.candidates.probs_MNK
        probs_BNK = (weights_BM @ probs_MNK.reshape(len(probs_MNK), -1)).reshape(-1, *probs_MNK.shape[1:])
        named_BN = self._named(weights_BM, probs_BNK)
        if METRICS[self.metric].is_counted:
            return score_of(
                _tables(named_BN, self.candidates.labels_N, left_BN, self.candidates.num_classes), self.metric
            )
        each = zip(probs_BNK, named_BN, left_BN, strict=True)
        return np.array([self._predicted(probs_NK, named_N, left_N) for probs_NK, named_N, left_N in each])

    def _named(self, weights_BM: _Array, probs_BNK: _Array) -> NDArray[np.int64]:
        """Return the class (B, N) that is named of each image."""
        predictions = self.candidates.predictions
        if self.candidates.decision == "argmax" or predictions.pool_means_CRK is None:
            return np.asarray(probs_BNK.argmax(2))
        pool_BRK = np.maximum(np.tensordot(weights_BM, predictions.pool_means_CRK, 1), np.finfo(np.float64).tiny)
        return np.asarray((probs_BNK / pool_BRK[:, predictions.runs_N]).argmax(2))

    def _predicted(self, probs_NK: _Array, named_N: NDArray[np.int64], left_N: _Bools) -> float:
        """Return a metric that needs more than counts."""
        shared = self.candidates.predictions
        one = SharedPredictions(
            probs_CNK=probs_NK[None], named_CN=named_N[None], labels_N=shared.labels_N, runs_N=shared.runs_N,
            images_N=shared.images_N,
        )  # fmt: skip
        return float(weighted_scores(self.metric, one, left_N[None].astype(np.float64)).item())


def draws(candidates: Candidates, metric: str, num_draws: int = NUM_DRAWS) -> Draws | None:
    """Draw the images of candidates again, fewer times where the metric sorts images, which takes long.

    None where a class has a single image, which cannot be left out too, or predictions do not determine the metric.
    """
    if not has_weighted_score(metric):
        return None
    predictions, num_draws = candidates.predictions, int(num_draws * (SORTED_SHARE if metric in SORTED else 1))
    times_BN = draw_images(
        predictions.labels_N, predictions.images_N, groups_N=predictions.groups_N, num_draws=num_draws
    )
    return None if times_BN is None else Draws(candidates, metric, times_BN)


def _tables(named_BN: NDArray[np.int64], labels_N: NDArray[np.int64], left_BN: _Bools, num_classes: int) -> _Array:
    """Return confusion tables (B, K, K) of the images left out."""
    shape = len(named_BN), num_classes, num_classes
    cells_BN = (np.arange(shape[0])[:, None] * num_classes + labels_N) * num_classes + named_BN
    counts = np.bincount(cells_BN[left_BN], minlength=int(np.prod(shape)))
    tables_BKK: _Array = counts.reshape(shape).astype(np.float64)
    return tables_BKK
