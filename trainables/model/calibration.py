"""Probabilities that mean what they say, and sets of classes that hold the true one as often as they promise.

A temperature T divides logits; of probabilities it makes p^(1/T), normalised. It minimises the log-loss of images that
did not teach, beside a prior of log T ~ N(0, ½²), which matters where these are few: of ten images that are all right,
the log-loss alone would make certainties.

A set holds the classes k with 1 - p_k ≤ q, and the one that is named; q is the ⌈(n + 1) · coverage⌉-th smallest
1 - p of the true class over n such images (split conformal prediction, least ambiguous sets). Of an image that is drawn
as these were, the true class lies in its set with at least that probability, on average over images and classes. It is
no promise for one class, or for images from elsewhere. Sets come from probabilities before the temperature. An image
that several trainings judged counts once: n is the number of images, and q the same quantile of all scores.

Sources: Guo et al., ICML 2017; Sadinle et al., JASA 114 (2019).
Shapes: N images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError

_Floats = NDArray[np.float64]
_Labels = NDArray[np.int64]

_TINY = float(np.finfo(np.float64).tiny)
_PRIOR_SPREAD = 0.5
_ROUNDING = 1e-6
MAX_LOG_TEMPERATURE = 3.0
"""Greatest size of the logarithm of a temperature."""


@dataclass(frozen=True)
class Calibration:
    """Scores of images that did not teach, by which sets are made."""

    scores: Sequence[float] = ()
    """1 - p of the true class, ascending."""

    origin: str = ""
    """Words for the images."""

    num_images: int = 0
    """Images n that they are of, which may be fewer as several trainings can judge one; 0: each is of its own."""

    def limit(self, coverage: float) -> float:
        """Greatest 1 - p of a class in a set; infinite where the images are too few for the coverage.

        Raises:
            ConfigError: an impossible coverage, or no such images.
        """
        if not 0 < coverage < 1:
            raise ConfigError(f"coverage: {coverage} is impossible, expected a share between 0 and 1, such as 0.9")
        if not self.scores:
            raise ConfigError("this model was saved without validation predictions, so it has no sets: leave coverage")
        num_images, num_scores = self.num_images or len(self.scores), len(self.scores)
        rank = ceil((num_images + 1) * coverage - 1e-9)  # 0.9 × 10 must count as 9
        return self.scores[ceil(rank * num_scores / num_images - 1e-9) - 1] if rank <= num_images else inf

    def sets(self, probs_NK: _Floats, named_N: _Labels, coverage: float) -> NDArray[np.bool_]:
        """Return which classes (N, K) are in the set of each image."""
        inside_NK: NDArray[np.bool_] = 1 - probs_NK <= self.limit(coverage)
        inside_NK[np.arange(len(named_N)), named_N] = True
        return inside_NK

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"origin": self.origin, "num_images": self.num_images, "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Read what `as_dict` gave.

        Raises:
            ValueError: scores that are no probabilities in ascending order, or of more images than there are scores.
        """
        scores, num_images = tuple(float(score) for score in values["scores"]), values.get("num_images", 0)
        if not all(-_ROUNDING <= score <= 1 + _ROUNDING for score in scores) or any(a > b for a, b in pairwise(scores)):
            raise ValueError("its scores are no probabilities in ascending order")
        if type(num_images) is not int or not 0 <= num_images <= len(scores):
            raise ValueError(f"it is of {num_images} images")
        return cls(scores, str(values["origin"]), num_images)


def calibration_of(probs_NK: _Floats, labels_N: _Labels, origin: str, num_images: int | None = None) -> Calibration:
    """Return the scores of images, given their probabilities and labels; `num_images` where some are there again."""
    scores_N = np.sort(1 - probs_NK[np.arange(len(labels_N)), labels_N])
    return Calibration(tuple(scores_N.tolist()), origin, num_images or len(labels_N))


def tempered(probs: _Floats, temperature: float) -> _Floats:
    """Return probabilities, classes last, at a temperature; at 1 they are the same to the last digit."""
    if temperature == 1:
        return probs
    logs = np.log(np.maximum(probs, _TINY)) / temperature
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    normal: _Floats = shares / shares.sum(-1, keepdims=True)
    return normal


def fit_temperature(probs_NK: _Floats, labels_N: _Labels, num_images: int | None = None) -> float:
    """Return the temperature at which probabilities fit labels best; `num_images` where some are there again."""
    from scipy.optimize import minimize_scalar  # prediction does not need it

    def loss(log_temperature: float) -> float:
        true_N = tempered(probs_NK, exp(log_temperature))[np.arange(len(labels_N)), labels_N]
        prior = (log_temperature / _PRIOR_SPREAD) ** 2 / 2
        return float(prior - share * np.log(np.maximum(true_N, _TINY)).sum())

    share = (num_images or len(labels_N)) / len(labels_N)
    found = minimize_scalar(loss, bounds=(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE), method="bounded")
    return exp(float(found.x))
