"""How pictures are judged by their patches, chosen after training: from stored predictions, without a new trial."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.image_intervals import score_interval
from sparse_search.best.export import read_single
from sparse_search.results.predictions import read_predictions
from trainables.core.grid import Grid
from trainables.metrics.classes import ClassScores, score_patches
from trainables.metrics.pictures import AGGREGATES, THRESHOLDS, PictureRule
from trainables.metrics.table import CLASSES, DEFAULT_METRIC, METRICS, TIE_BREAKERS, Origin, sign_of

_NOT_OF_PICTURES = tuple(each.name for each in METRICS.values() if each.origin is Origin.PATCHES)
"""Names of the metrics that no rule changes."""


@dataclass(frozen=True)
class Judged:
    """What a rule makes of the predictions of a trial."""

    rule: PictureRule | str
    """How pictures are judged by their patches, or how a class is named, one of `DECISIONS`."""

    scores: Mapping[str, float | None]
    """Means over label sets and folds, by metric."""

    low: float | None
    """Ends of the 95 % interval of the default metric of classes."""

    high: float | None


def compare_rules(
    exported: Path | str, results: Path | str = "results", *, metric: str = DEFAULT_METRIC
) -> list[Judged]:
    """An exported trial under every rule, best first; validation scores at the last evaluation.

    A threshold is chosen without the pictures that it judges. The best of these rules is still the best of several.

    Raises:
        ResultsError: the file is no export, its images are no patches, or their predictions are not there.
    """
    values, evidence = read_single(Path(exported))
    runs = list(_runs(values, evidence, results))
    same_images = values["validation"] == "official"
    rules = [PictureRule(*names) for names in product(AGGREGATES, THRESHOLDS)]
    judged = [_judged(rule, runs, same_images=same_images) for rule in rules]
    return best_first(judged, metric)


def best_first(judged: Sequence[Judged], metric: str) -> list[Judged]:
    """Return the rules by a metric, then by AUROC."""
    order = (metric, *TIE_BREAKERS[:1])
    return sorted(judged, key=lambda each: [_larger_is_better(each.scores[name], name) for name in order], reverse=True)


def with_rule(exported: Path | str, rule: PictureRule, results: Path | str = "results") -> dict[str, Any]:
    """The exported trial under another rule, its evidence counted anew.

    Raises:
        ResultsError: as `compare_rules`.
    """
    values, evidence = read_single(Path(exported))
    runs = list(_runs(values, evidence, results))
    judged = _judged(rule, runs, same_images=values["validation"] == "official")
    located = {name: evidence["scores"].get(name) for name in _NOT_OF_PICTURES}
    kept = {name: value for name, value in evidence.items() if name != "over_label_sets"}
    counted = {
        "scores": {**judged.scores, **located},
        "interval_95": {"metric": CLASSES.default, "low": judged.low, "high": judged.high},
        "rule": f"{rule.aggregate} and {rule.threshold} were chosen after training, from predictions on validation",
    }
    return {**values, "aggregate": rule.aggregate, "threshold": rule.threshold, "evidence": {**kept, **counted}}


@dataclass(frozen=True)
class _Run:
    """Predictions of the patches (N, K) of one run, and their labels (N,)."""

    grid: Grid
    probs_NK: np.ndarray[Any, np.dtype[np.float64]]
    labels_N: np.ndarray[Any, np.dtype[np.int64]]


def _runs(values: Mapping[str, Any], evidence: Mapping[str, Any], results: Path | str) -> Iterator[_Run]:
    about = {"dataset": evidence["dataset"], "shots": values["shots"], "method": values["method"]}
    for run_id in evidence["run_ids"]:
        table = read_predictions(results, [{**about, "run_id": run_id}])
        own = table.filter(pc.equal(table["predictor"], evidence["predictor"]))
        grid = Grid(*(pc.max(own[name]).as_py() + 1 for name in ("row", "column")))
        if grid.num_patches == 1:
            raise ResultsError(f"{about['dataset']} is judged as whole images: there are no patches to put together")
        yield _Run(grid, stacked(own["probabilities"]), own["label"].to_numpy())


def stacked(lists: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities (N, K) from a column of lists."""
    return np.array(lists.to_pylist(), np.float64)


def _judged(rule: PictureRule, runs: Sequence[_Run], *, same_images: bool) -> Judged:
    scores = [score_patches(run.probs_NK, run.labels_N, run.grid, rule) for run in runs]
    return judged_by(rule, scores, same_images=same_images)


def judged_by(rule: PictureRule | str, scores: Sequence[ClassScores], *, same_images: bool) -> Judged:
    """Return what a rule makes of a trial, given the scores of its runs."""
    interval = score_interval([each.confusion for each in scores], CLASSES.default, same_images=same_images)
    low, high = interval or (None, None)
    return Judged(rule, {name: _mean(scores, name) for name in METRICS if name not in _NOT_OF_PICTURES}, low, high)


def _mean(scores: Sequence[ClassScores], name: str) -> float | None:
    known = [value for each in scores if (value := each.metric(name)) is not None]
    return fmean(known) if len(known) == len(scores) else None


def _larger_is_better(value: float | None, metric: str) -> float:
    return -inf if value is None else sign_of(metric) * value
