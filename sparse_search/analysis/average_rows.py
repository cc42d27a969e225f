"""Averages as rows of a leaderboard: predictions that were kept are gathered, weighed and scored, without training.

Shapes: M members, N images, R runs, K classes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.config import canonical_json
from search_spaces.core.errors import ResultsError
from sparse_search.analysis.averages import DEFAULT_RULE, Candidates, Weighted, rules_for, weighted
from sparse_search.results.predictions import fetch_predictions, read_predictions
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


@dataclass(frozen=True, eq=False)
class _Kept:
    """Predictions of one predictor on the images of all runs of a trial."""

    probs_NK: _Array
    labels_N: NDArray[np.int64]
    image_N: NDArray[np.int64]
    """Number of each image: in its split where that is known, else among those of its run."""

    knows_images: bool
    run_N: NDArray[np.int64]
    pool_RK: _Array | None

    @cached_property
    def images(self) -> bytes:
        """Value that is equal where the images of all runs have equal labels."""
        return self.labels_N.tobytes() + self.run_N.tobytes() + self.image_N.tobytes()


class _UnfitError(Exception):
    """Reason why a trial cannot be averaged."""


def gather(address: Path | str, trials: Sequence[Mapping[str, Any]]) -> Gathered | None:
    """Read what trials predict on the images that judge them; None where there is not one that can be averaged.

    Of the predictors of a trial the one with the best balanced Brier score is a candidate.

    Args:
        address: The results folder, or its URI.
        trials: Rows that are equal in `POOLED`, of whole images.

    Raises:
        ResultsError: the storage does not answer.
    """
    by_trial: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in trials:
        by_trial[row["trial_id"]].append(row)
    if not by_trial:
        return None
    folder = fetch_predictions(address, trials[0]["dataset"], trials[0]["shots"])
    usual = Counter(tuple(rows[0]["label_set_hash_list"]) for rows in by_trial.values()).most_common(1)[0][0]
    found: dict[str, tuple[Mapping[str, Any], _Kept]] = {}
    left_out: Counter[str] = Counter()
    for trial_id, rows in sorted(by_trial.items()):
        try:
            row, kept = _best_predictor(folder, rows, usual)
        except _UnfitError as why:
            left_out[str(why)] += 1
        else:
            found[f"{trial_id}/{row['predictor']}"] = row, kept
    images = Counter(kept.images for _, kept in found.values()).most_common(1)
    alike = {name: each for name, each in found.items() if each[1].images == images[0][0]}
    if len(alike) < len(found):
        left_out["judged by other images"] = len(found) - len(alike)
    return _together(alike, left_out) if alike else None


def _together(found: Mapping[str, tuple[Mapping[str, Any], _Kept]], left_out: Mapping[str, int]) -> Gathered:
    rows, kept = zip(*found.values(), strict=True)
    first: _Kept = kept[0]
    shared = first.knows_images or rows[0]["validation"] == "official"
    places_N2 = np.stack([np.zeros_like(first.run_N) if shared else first.run_N, first.image_N], 1)
    pools = [each.pool_RK for each in kept]
    candidates = Candidates(
        names=tuple(found),
        probs_MNK=np.stack([each.probs_NK for each in kept]),
        labels_N=first.labels_N,
        run_N=first.run_N,
        unit_N=np.unique(places_N2, axis=0, return_inverse=True)[1].ravel(),
        pool_MRK=np.stack(pools) if rows[0]["decision"] == "pool" else None,  # type: ignore[arg-type]
    )
    return Gathered(candidates, rows, left_out)


def _best_predictor(
    folder: Path, rows: Sequence[Mapping[str, Any]], usual: tuple[str, ...]
) -> tuple[Mapping[str, Any], _Kept]:
    """Return the row of a trial whose predictor is best by the balanced Brier score, and what it says.

    Raises:
        _UnfitError: none can be averaged with the others.
    """
    if tuple(rows[0]["label_set_hash_list"]) != usual:
        raise _UnfitError("learned from other images")
    read = _read(folder, rows)
    able = {name: each for name, each in read.items() if not (each.probs_NK == each.probs_NK[0]).all()}
    if not able:
        raise _UnfitError("says the same of every image")
    best = min(able, key=lambda name: (_brier(able[name]), name))
    return next(row for row in rows if row["predictor"] == best), able[best]


def _brier(kept: _Kept) -> float:
    alone = Candidates(("",), kept.probs_NK[None], kept.labels_N, kept.run_N, kept.image_N)
    return float((alone.shares(np.ones((1, len(kept.labels_N)))) @ alone.brier_NM).item())


def _read(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, _Kept]:
    """Read the predictions of a trial, by predictor."""
    run_ids, needs_pool = rows[0]["run_id_list"], rows[0]["decision"] == "pool"
    about = {name: rows[0][name] for name in ("dataset", "shots", "method")}
    try:
        tables = [read_predictions(folder, [{**about, "run_id": run_id}]) for run_id in run_ids]
    except ResultsError as problem:
        raise _UnfitError("has no predictions that can be read") from problem
    if any(pc.max(table[name]).as_py() for table in tables for name in ("row", "column")):
        raise _UnfitError("is judged by patches")
    found = {}
    for row in rows:
        own = [table.filter(pc.equal(table["predictor"], row["predictor"])) for table in tables]
        indices = np.concatenate([table["source_index"].to_numpy() for table in own])
        known = bool(np.isfinite(indices).all())
        pools = [table["pool_mean"][0].as_py() if len(table) else None for table in own]
        if not all(map(len, own)) or (needs_pool and None in pools):
            raise _UnfitError("has no predictions that can be read")
        found[row["predictor"]] = _Kept(
            probs_NK=np.concatenate([_matrix(table) for table in own]),
            labels_N=np.concatenate([table["label"].to_numpy() for table in own]),
            image_N=indices.astype(np.int64) if known else np.concatenate([table["image"].to_numpy() for table in own]),
            knows_images=known,
            run_N=np.repeat(np.arange(len(own)), [len(table) for table in own]),
            pool_RK=np.array(pools, np.float64) if needs_pool else None,
        )
    return found


def _matrix(table: pa.Table) -> _Array:
    """Return probabilities (N, K) of a table's rows."""
    flat = table["probabilities"].combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(len(table), -1)


def scored(gathered: Gathered, average: Weighted) -> list[ClassScores]:
    """Return the scores of an average, one for each run, as that run would be scored by its last evaluation."""
    candidates, members = gathered.candidates, list(average.members)
    found = []
    for run in range(int(candidates.run_N.max()) + 1):
        own_N = candidates.run_N == run
        found.append(
            score_average(
                [candidates.probs_MNK[member, own_N] for member in members],
                average.weights,
                candidates.labels_N[own_N],
                decision=gathered.trials[0]["decision"],
                pool_means=() if candidates.pool_MRK is None else list(candidates.pool_MRK[members, run]),
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
    tried = {trial["method"]: trial["num_tried"] for trial in gathered.trials}
    counted = zip(members, average.weights, strict=True)
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
        "run_id_list": [f"{average.average_id}-{run}" for run in range(len(scores))],
        "confusion_json_list": [canonical_json({"confusion": each.confusion}) for each in scores],
        "num_tried": sum(tried.values()),
        "status": "complete",
        "reason": "",
    }
