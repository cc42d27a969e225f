"""Averages as rows of a leaderboard: predictions that were kept are gathered, weighed and scored, without training.

Shapes: M members, N images, R runs, K classes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.config import canonical_json
from sparse_search.analysis.averages import DEFAULT_RULE, Candidates, Weighted, rules_for, standing, weighted
from sparse_search.analysis.kept_predictions import kept_predictions
from sparse_search.results.predictions import fetch_predictions
from sparse_search.results.trials import RANKING, TRIAL_SCHEMA
from trainables.metrics.averaging import AVERAGE, score_average
from trainables.metrics.classes import ClassScores
from trainables.metrics.table import METRICS

MAX_TRIALS = 4000
"""Trials of a question up to which a leaderboard looks at their predictions."""

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


def scored(gathered: Gathered, average: Weighted) -> list[ClassScores]:
    """Return the scores of an average, one for each run, as that run would be scored by its last evaluation."""
    candidates, members = gathered.candidates, list(average.members)
    predictions, found = candidates.predictions, []
    for run in range(int(predictions.runs_N.max()) + 1):
        own_N, pool_means = predictions.runs_N == run, predictions.pool_means_CRK
        found.append(
            score_average(
                [candidates.probs_MNK[member, own_N] for member in members],
                average.weights,
                candidates.labels_N[own_N],
                decision=candidates.decision,
                pool_means=() if pool_means is None else list(pool_means[members, run]),
            )
        )
    return found


def mean_scores_of(scores: Sequence[ClassScores]) -> dict[str, float | None]:
    """Return the mean of each metric over runs, None where a run has none."""
    columns = {name: [each.metric(name) for each in scores] for name in METRICS}
    return {name: None if None in values else fmean(values) for name, values in columns.items()}  # type: ignore[arg-type]


def words_for(average: Weighted, methods: Iterable[str] = ()) -> str:
    """Return what an average is made of: `third of 24`, with the methods where these are not all."""
    return " ".join([f"{average.rule} of {average.num_candidates}", *methods])


def averages_of(gathered: Gathered) -> Iterator[tuple[str, Weighted]]:
    """Yield the averages that are ranked, in words and with their weights.

    All candidates by each rule; where they are of several methods, those of each by the default one.
    """
    if len(gathered.trials) < 2:
        return
    for rule in rules_for(gathered.candidates):
        average = weighted(gathered.candidates, rule)
        yield words_for(average), average
    methods = np.array(gathered.methods)
    counts = Counter(gathered.methods)
    for method in sorted(counts) if len(counts) > 1 else ():
        if counts[method] > 1:
            average = weighted(gathered.candidates, DEFAULT_RULE, methods == method)
            yield words_for(average, [method]), average


def average_trials(address: Path | str, trials: pa.Table) -> pa.Table:
    """Return the averages of each ranking of trials that are complete, as further rows like these.

    Raises:
        ResultsError: the storage does not answer.
    """
    by_ranking: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    whole = trials.filter(pc.and_(pc.equal(trials["status"], "complete"), pc.equal(trials["level"], "image")))
    for row in whole.to_pylist() if len(whole) <= MAX_TRIALS else ():
        by_ranking[row["ranking"]].append(row)
    rows: list[dict[str, Any]] = []
    for own in by_ranking.values():
        gathered = gather(address, own)
        for words, average in averages_of(gathered) if gathered else ():
            rows.append(average_row(gathered, average, words))  # type: ignore[arg-type]
    return pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA)


def average_row(gathered: Gathered, average: Weighted, words: str) -> dict[str, Any]:
    """Return the row of an average: what its members share, its own name and scores, and what they cost together."""
    scores, first = scored(gathered, average), gathered.trials[0]
    members = [gathered.trials[member] for member in average.members]
    among = gathered.trials if average.num_candidates == len(gathered.trials) else members
    tried = {trial["method"]: trial["num_tried"] for trial in among}
    counted = zip(members, average.weights, strict=True)
    label_sets, hashes = zip(
        *sorted(zip(first["label_set_list"], first["label_set_hash_list"], strict=True)), strict=True
    )
    shares = {f"{row['predictor']} {row['config_id']}": weight for row, weight in counted}
    return {
        **first,
        "method": AVERAGE,
        "predictor": AVERAGE,
        "trial_id": average.average_id,
        "config_id": average.average_id,
        "config_json": canonical_json({"rule": average.rule, "members": shares}),
        "inactive": "",
        "start": words,
        "versions_json": canonical_json({}),
        **mean_scores_of(scores),
        "num_images": fmean(each.num_images for each in scores),
        "train_seconds": sum(row["train_seconds"] for row in members),
        "label_set_list": list(label_sets),
        "label_set_hash_list": list(hashes),
        "run_id_list": [f"{average.average_id}-{run}" for run in range(len(scores))],
        "confusion_json_list": [canonical_json({"confusion": each.confusion}) for each in scores],
        "num_tried": sum(tried.values()),
        "status": "complete",
        "reason": "",
    }
