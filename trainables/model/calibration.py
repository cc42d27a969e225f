"""Probabilities that mean what they say, and sets of classes that hold the true one as often as they promise.

A temperature T divides logits; of probabilities it makes p^(1/T), normalised. It minimises the log-loss of images that
did not teach, beside a prior of log T ~ N(0, ½²), which matters where these are few: of ten images that are all right,
the log-loss alone would make certainties.

A set holds the classes k with 1 - p_k ≤ q, and the one that is named; q is the ⌈(n + 1) · coverage⌉-th smallest
1 - p of the true class over n such images (split conformal prediction, least ambiguous sets). Of an image that is drawn
as these were, the true class lies in its set with at least that probability, on average over images and classes. It is
no promise for one class, or for images from elsewhere. Sets come from probabilities before the temperature.

Sources: Guo et al., ICML 2017; Sadinle et al., JASA 114 (2019).
Shapes: N images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError

_Floats = NDArray[np.float64]
_Labels = NDArray[np.int64]

_TINY = float(np.finfo(np.float64).tiny)
_PRIOR_SPREAD = 0.5
MAX_LOG_TEMPERATURE = 3.0
"""Greatest size of the logarithm of a temperature."""


@dataclass(frozen=True)
class Calibration:
    """Scores of images that did not teach, by which sets are made."""

    scores: Sequence[float] = ()
    """1 - p of the true class, ascending."""

    origin: str = ""
    """Words for the images."""

    def limit(self, coverage: float) -> float:
        """Greatest 1 - p of a class in a set; infinite where the images are too few for the coverage.

        Raises:
            ConfigError: an impossible coverage, or no such images.
        """
        if not 0 < coverage < 1:
            raise ConfigError(f"coverage: {coverage} is impossible, expected a share between 0 and 1, such as 0.9")
        if not self.scores:
            raise ConfigError("this model was saved without validation predictions, so it has no sets: leave coverage")
        rank = ceil((len(self.scores) + 1) * coverage - 1e-9)  # 0.9 × 10 must count as 9
        return self.scores[rank - 1] if rank <= len(self.scores) else inf

    def sets(self, probs_NK: _Floats, named_N: _Labels, coverage: float) -> NDArray[np.bool_]:
        """Return which classes (N, K) are in the set of each image."""
        inside_NK: NDArray[np.bool_] = 1 - probs_NK <= self.limit(coverage)
        inside_NK[np.arange(len(named_N)), named_N] = True
        return inside_NK

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"origin": self.origin, "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Read what `as_dict` gave."""
        return cls(tuple(float(score) for score in values["scores"]), str(values["origin"]))


def calibration_of(probs_NK: _Floats, labels_N: _Labels, origin: str) -> Calibration:
    """Return the scores of images, given their probabilities and labels."""
    scores_N = np.sort(1 - probs_NK[np.arange(len(labels_N)), labels_N])
    return Calibration(tuple(scores_N.tolist()), origin)


def tempered(probs: _Floats, temperature: float) -> _Floats:
    """Return probabilities, classes last, at a temperature; at 1 they are the same to the last digit."""
    if temperature == 1:
        return probs
    logs = np.log(np.maximum(probs, _TINY)) / temperature
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    normal: _Floats = shares / shares.sum(-1, keepdims=True)
    return normal


def fit_temperature(probs_NK: _Floats, labels_N: _Labels) -> float:
    """Return the temperature at which probabilities fit labels best."""
    from scipy.optimize import minimize_scalar  # prediction does not need it

    def loss(log_temperature: float) -> float:
        true_N = tempered(probs_NK, exp(log_temperature))[np.arange(len(labels_N)), labels_N]
        prior = (log_temperature / _PRIOR_SPREAD) ** 2 / 2
        return float(prior - np.log(np.maximum(true_N, _TINY)).sum())

    found = minimize_scalar(loss, bounds=(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE), method="bounded")
    return exp(float(found.x))
