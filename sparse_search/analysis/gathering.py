"""Candidates of an average, gathered from the predictions that were kept.

Shapes: M members.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.averages import Candidates, standing
from sparse_search.analysis.kept_predictions import kept_predictions
from sparse_search.results.predictions import fetch_predictions
from sparse_search.results.trials import RANKING

POOLED = tuple(name for name in RANKING if name not in ("image_size", "pretrained"))
"""Columns in which configurations are equal that may be averaged: what a network sees of an image, and what it learned
before, are its own."""

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gathered:
    """Trials whose predictions are there, on the same images."""

    candidates: Candidates
    trials: tuple[Mapping[str, Any], ...]
    """The row of each candidate, with the columns of `TRIAL_SCHEMA`."""

    left_out: Mapping[str, int]
    """Trials that are not among them, by the reason."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Method of each candidate."""
        return tuple(trial["method"] for trial in self.trials)


def gather(address: Path | str, trials: Sequence[Mapping[str, Any]]) -> Gathered | None:
    """Read what trials predict on the images that judge them; None where there is not one that can be averaged.

    Of the predictors of a trial the one with the best balanced Brier score is a candidate. Who says the same of every
    image is none.

    Args:
        address: The results folder, or its URI.
        trials: Rows that are equal in `POOLED`, of whole images.

    Raises:
        ResultsError: the storage does not answer.
    """
    if not trials:
        return None
    ordered = sorted(trials, key=_name)
    kept = kept_predictions(fetch_predictions(address, trials[0]["dataset"], trials[0]["shots"]), ordered)
    if kept.predictions is None or (trials[0]["decision"] != "argmax" and kept.predictions.pool_means_CRK is None):
        return None
    whole = Candidates(tuple(map(_name, kept.rows)), kept.predictions)
    varies_M = (whole.probs_MNK != whole.probs_MNK[:, :1]).any((1, 2))
    chosen = _best_predictors(kept.rows, standing(whole).brier_BM[0], varies_M)
    rows = tuple(kept.rows[place] for place in chosen)
    num_alike = len({row["trial_id"] for row in kept.rows}) - len(rows)
    left_out = {"without predictions of the same images": _num_trials(trials) - _num_trials(kept.rows),
                "with the same answer for every image": num_alike}  # fmt: skip
    candidates = Candidates(
        tuple(map(_name, rows)), kept.predictions.take(np.array(chosen, np.int64)), trials[0]["decision"]
    )
    return Gathered(candidates, rows, {why: count for why, count in left_out.items() if count}) if rows else None


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['trial_id']}/{row['predictor']}"


def _num_trials(rows: Iterable[Mapping[str, Any]]) -> int:
    return len({row["trial_id"] for row in rows})


def _best_predictors(rows: Sequence[Mapping[str, Any]], brier_M: _Array, varies_M: NDArray[np.bool_]) -> list[int]:
    """Return the places of the rows that stand for their trials, in order."""
    best: dict[str, int] = {}
    for place in np.flatnonzero(varies_M).tolist():
        before = best.setdefault(rows[place]["trial_id"], place)
        if brier_M[place] < brier_M[before]:
            best[rows[place]["trial_id"]] = place
    return sorted(best.values())
