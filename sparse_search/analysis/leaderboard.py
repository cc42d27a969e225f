"""From trials to rankings, and what is said beside them. Scores that must not be compared never share a ranking."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.config import short_hash
from search_spaces.core.errors import ConfigError, ResultsError, suggestion
from sparse_search.analysis.average_rows import MAX_TRIALS, average_trials
from sparse_search.analysis.image_intervals import has_image_interval, score_interval
from sparse_search.analysis.statistics import ScoredSetting, bootstrap_interval
from sparse_search.results.files import plain_array, write_table
from sparse_search.results.mirror import read_store
from sparse_search.results.predictions import has_predictions
from sparse_search.results.store import Store
from sparse_search.results.trials import ORDER_SCHEMA, RANKING, TRIAL_SCHEMA, nullable, ranks_of, trials_of
from trainables.core.shots import shots_word
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.counts import score_of
from trainables.metrics.table import DEFAULT_METRIC, METRICS, metric_for

if TYPE_CHECKING:
    import pandas as pd

SELECTED = {"last": "at the last evaluation", "mean3": "mean of the last evaluations (3 at most)"}
"""Meaning of each selection, for people."""

_MAX_FILE_NAME = 200

_NOT_RANKED = ("ranking", "status", "reason", "finished_at")
"""Columns of a trial that its row in a ranking does not have."""


INTERVALS: Mapping[str, str] = {
    "images": "95 % interval from the number of images alone",
    "label-sets": "95 % interval over label sets and images, by bootstrap; a single label set says nothing of others",
}
"""Meaning of what an interval may cover, for people."""


@dataclass(frozen=True)
class Board:
    """A leaderboard, and what is said beside it."""

    ranked: pa.Table
    searched: Mapping[str, Sequence[str]]
    """By method, the settings in which its searched trials differ."""

    unranked: list[dict[str, Any]]
    """Defaults and presets without a score that counts."""

    covers: str = INTERVALS["images"]
    """Meaning of the intervals, for people."""


def leaderboard(
    results: Path | str = "results",
    *,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = DEFAULT_METRIC,
    every: bool = False,
    covers: str = "images",
    pretrained: bool | None = None,
    averages: bool = True,
) -> "pd.DataFrame":
    """Return the ranking of configurations by validation scores, best first, with intervals.

    What cannot be compared is ranked apart: the column `rank` begins anew wherever data, validation, image size,
    pretraining, selection or label sets differ.

    Averages of what was tried are rows as well, of the method `average`; `start` says which they are.

    Args:
        results: The results folder, or its URI.
        dataset: Only this data set.
        shots: Only this number of labelled images.
        method: Only this method.
        metric: The score to rank by.
        every: Every configuration, rather than the best of each predictor beside its default and presets.
        covers: The source of doubt that the intervals cover: `images`, or `label-sets` and images.
        pretrained: Only rankings with weights from before, or only those without; both when left out.
        averages: Rank averages too, as far as predictions were kept.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric, or unknown `covers`.
    """
    store = read_store(results)
    found = board(
        store, dataset=dataset, shots=shots, method=method, metric=metric, every=every, covers=covers,
        pretrained=pretrained, averages=averages,
    )  # fmt: skip
    frame: pd.DataFrame = found.ranked.to_pandas()
    return frame


def board(
    store: Store,
    *,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = DEFAULT_METRIC,
    every: bool = False,
    covers: str = "images",
    pretrained: bool | None = None,
    averages: bool = True,
) -> Board:
    """A leaderboard: the shortlist with the ranks that its rows have among all, or every row.

    Rankings that do not have the metric go by their default: those of masks by `dice_fg`.

    Args:
        covers: what the intervals cover, one of `INTERVALS`.
        pretrained: only rankings with, or without, weights from before.
        averages: rank averages too.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric.
    """
    check_metric(metric)
    if covers not in INTERVALS:
        raise ConfigError(f"intervals cannot cover '{covers}'{suggestion(covers, INTERVALS)}")
    about: dict[str, Any] = {"dataset": dataset, "shots": shots, "method": method}
    found = store.summary(**about)
    if not len(found.order):
        query(store, **about)  # says what there is instead
        raise ResultsError("no trial is complete on all of its label sets yet; run the sweep on")
    further = TRIAL_SCHEMA.empty_table()
    if averages and len(found.order) <= MAX_TRIALS and has_predictions(store.address):
        further = average_trials(store.address, trials_of(query(store, **about)))
    if every:
        ranked = rank_trials(pa.concat_tables([trials_of(query(store, **about)), further]), metric, covers)
    else:
        order = pa.concat_tables([found.order, further.select(ORDER_SCHEMA.names)])
        counted = pc.equal(found.shown["status"], "complete")
        places = found.places[counted.to_numpy(zero_copy_only=False)]
        places = np.concatenate([places, np.arange(len(found.order), len(order))])
        shown = pa.concat_tables([found.shown.filter(counted), further])
        ranked = shortlist(_described(shown, metric, ranks_of(order, metric)[places], covers))
    searched = {**found.searched, AVERAGE: ()} if len(further) else found.searched
    whole = Board(ranked, searched, unranked_starts(found.shown), INTERVALS[covers])
    return whole if pretrained is None else _only(whole, pretrained)


def _only(found: Board, pretrained: bool) -> Board:
    """The rankings with, or without, weights from before; these are told apart anyway, so no rank changes."""
    is_pretrained = pc.not_equal(found.ranked["pretrained"], "")
    ranked = found.ranked.filter(is_pretrained if pretrained else pc.invert(is_pretrained))
    if not len(ranked):
        raise ResultsError(f"no complete trial {'has' if pretrained else 'is without'} pretrained weights here")
    unranked = [row for row in found.unranked if bool(row["pretrained"]) == pretrained]
    return replace(found, ranked=ranked, unranked=unranked)


def query(store: Store, *, dataset: str | None, shots: int | None, method: str | None) -> pa.Table:
    """The run rows that a question is about.

    Raises:
        ResultsError: there is none.
    """
    runs = store.runs(dataset=dataset, shots=shots, method=method)
    if not len(runs):
        asked = {"dataset": dataset, "shots": None if shots is None else shots_word(shots), "method": method}
        words = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        raise ResultsError(
            f"no finished run{' with ' + words if words else ''} in {store.address}; "
            "run a sweep first, or name its folder with --results"
        )
    if "complete" not in pc.unique(runs["status"]).to_pylist():
        ended = runs.group_by("status").aggregate([("trial_id", "count_distinct")]).sort_by("status").to_pylist()
        words = ", ".join(f"{row['trial_id_count_distinct']} {row['status']}" for row in ended)
        raise ResultsError(f"no trial is complete yet, only {words}; run the sweep on, or change its settings")
    return runs


def rank(runs: pa.Table, metric: str = DEFAULT_METRIC, covers: str = "images") -> pa.Table:
    """One row per trial and predictor, best first within each ranking, with an interval and the count of rivals.

    A trial counts when it is complete on all of its label sets. Equal scores are ordered by AUROC, then log-loss.

    Raises:
        ConfigError: an unknown metric.
    """
    return rank_trials(trials_of(runs), metric, covers)


def rank_trials(trials: pa.Table, metric: str, covers: str = "images") -> pa.Table:
    """Rank trials as `rank` does runs.

    Raises:
        ConfigError: an unknown metric.
    """
    check_metric(metric)
    counted = trials.filter(pc.equal(trials["status"], "complete"))
    return _described(counted, metric, ranks_of(counted, metric), covers)


def shortlist(ranked: pa.Table) -> pa.Table:
    """Per ranking and predictor: the best trial, and the default and presets beside it."""
    kept = np.array(pc.not_equal(ranked["start"], "").to_numpy(zero_copy_only=False), dtype=bool)
    keys = [*RANKING, "predictor"]
    numbered = ranked.select(keys).append_column("row", plain_array(np.arange(len(ranked))))
    firsts = numbered.group_by(keys).aggregate([("row", "min")])["row_min"]
    kept[firsts.to_numpy()] = True
    return ranked.filter(pa.array(kept))


def label_set_scores(row: Mapping[str, Any], metric: str) -> dict[int, tuple[float, list[list[float]]]]:
    """Score and confusion table of a ranking's row by label set; the table must determine the score.

    Folds are averaged, their tables added.
    """
    folds: dict[int, list[list[list[float]]]] = defaultdict(list)
    for label_set, text in zip(row["label_set_list"], row["confusion_json_list"], strict=True):
        folds[label_set].append(json.loads(text)["confusion"])
    return {
        label_set: (fmean(float(score_of(table, metric)) for table in tables), np.sum(tables, 0).tolist())
        for label_set, tables in folds.items()
    }


def unranked_starts(trials: pa.Table) -> list[dict[str, Any]]:
    """The defaults and presets that no ranking holds, as their trials have no score that counts."""
    columns = (*RANKING, "method", "trial_id", "config_id", "start", "status", "reason", "finished_at")
    rows = trials.select(columns).filter(pc.not_equal(trials["status"], "complete"))
    listed: list[dict[str, Any]] = rows.sort_by(
        [(name, "ascending") for name in ("method", "start", "finished_at")]
    ).to_pylist()
    return listed


def rankings(ranked: pa.Table) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """Yield the rankings of a table, each as what its rows share and these rows."""
    shared: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = []
    for row in ranked.to_pylist():
        key = {name: row[name] for name in RANKING}
        if shared is not None and key != shared:
            yield shared, rows
            rows = []
        shared = key
        rows.append(row)
    if shared is not None:
        yield shared, rows


def write_leaderboards(store: Store) -> list[Path]:
    """One Parquet leaderboard per dataset and shot count, below `leaderboards/`."""
    written = []
    cells = store.summary().shown.group_by(["dataset", "shots"]).aggregate([]).to_pylist()
    names = _file_names({cell["dataset"] for cell in cells})
    for cell in sorted(cells, key=lambda cell: (cell["dataset"], cell["shots"])):
        path = store.folder / "leaderboards" / f"{names[cell['dataset']]}-{shots_word(cell['shots'])}shot.parquet"
        ranked = rank(store.runs(**cell))
        if len(ranked):
            write_table(path, ranked)
            written.append(path)
    return written


def _file_names(datasets: Collection[str]) -> dict[str, str]:
    """Names of data sets as files may be called, no two alike."""
    plain = {dataset: "".join(c if c.isalnum() or c in "._-" else "_" for c in dataset) for dataset in datasets}
    for dataset, name in plain.items():
        is_shared = list(plain.values()).count(name) > 1 and name != dataset
        if is_shared or len(name.encode()) > _MAX_FILE_NAME:
            cut = name.encode()[:_MAX_FILE_NAME].decode(errors="ignore")
            plain[dataset] = f"{cut}-{short_hash({'dataset': dataset})[:6]}"
    return plain


def check_metric(metric: str) -> None:
    """Refuse what is not in the table of metrics.

    Raises:
        ConfigError: an unknown metric.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric '{metric}' is unknown{suggestion(metric, METRICS)}")


def _described(trials: pa.Table, metric: str, ranks: NDArray[np.int64], covers: str) -> pa.Table:
    """Rankings by what they share, best first, with the columns of one: the interval is the metric's, if it has one."""
    trials = trials.append_column("rank", plain_array(ranks))
    interval = _INTERVAL[covers]
    ends = [  # patches of one image are alike
        (interval(row, metric_for(row["level"], metric)) if row["level"] != "patch" else None) or (np.nan, np.nan)
        for row in trials.select([*_INTERVAL_NEEDS, *METRICS]).to_pylist()
    ]
    low_high = np.array(ends, np.float64).reshape(-1, 2)
    trials = trials.append_column("low", nullable(low_high[:, 0])).append_column("high", nullable(low_high[:, 1]))
    ordered = trials.sort_by([(name, "ascending") for name in (*RANKING, "rank")])
    about = {"low, high": f"{INTERVALS[covers]}; of {metric}, or of what else ranks a level that does not have it"}
    return ordered.drop_columns(list(_NOT_RANKED)).replace_schema_metadata(about)


_INTERVAL_NEEDS = ["dataset", "level", "validation", "label_set_list", "confusion_json_list"]


def _over_images(row: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    if not has_image_interval(metric) or not all(row["confusion_json_list"]):  # of a run without scores by it
        return None
    confusions = [json.loads(text)["confusion"] for text in row["confusion_json_list"]]
    return score_interval(confusions, metric, score=row[metric], same_images=row["validation"] == "official")


def _over_label_sets(row: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    if not METRICS[metric].is_counted:
        return None
    scores, tables = zip(*label_set_scores(row, metric).values(), strict=True)
    same_images = row["validation"] == "official"
    setting = ScoredSetting(dataset=row["dataset"], scores=scores, confusions=tables, same_images=same_images)
    return bootstrap_interval([setting], metric)


_INTERVAL = {"images": _over_images, "label-sets": _over_label_sets}
