"""From run rows to a ranking: pure table to table. Scores that must not be compared never share a ranking."""

import json
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError, ResultsError, suggestion
from sparse_search.rows import METRIC_COLUMNS, SEARCHED
from sparse_search.statistics import score_interval
from sparse_search.store import Store, first_of_each, plain_array, write_table

if TYPE_CHECKING:
    import pandas as pd

RANKING = (
    "dataset", "shots", "validation", "label_sets", "image_size", "pretrained", "content_hash", "protocol", "selection",
)  # fmt: skip
"""Rows that differ in one of these never share a ranking."""

TRIAL = ("method", "predictor", "trial_id")
SELECTED = {"last": "at the last evaluation", "mean3": "mean of the last evaluations (3 at most)"}
"""What each selection means, for people."""

SMALLER_IS_BETTER = ("calibration_error", "log_loss")
_KEPT = (
    "source", "official", "config_id", "config_json", "inactive", "start", "label_budget", "images", "evaluate_every",
    "seed", "precision", "accumulate", "compile", "threads", "processor", "device", "versions_json", "num_runs",
)  # fmt: skip
_MEANS = (*METRIC_COLUMNS, "train_seconds", "num_images")


def leaderboard(
    results: Path | str = "results",
    *,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = "balanced_accuracy",
    every: bool = False,
) -> "pd.DataFrame":
    """The ranking as a DataFrame: per predictor the best configuration, the default and the presets, or every one.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric.
    """
    table = rank(query(Store(Path(results)), dataset=dataset, shots=shots, method=method), metric)
    frame: pd.DataFrame = (table if every else shortlist(table)).to_pandas()
    return frame


def query(store: Store, *, dataset: str | None, shots: int | None, method: str | None) -> pa.Table:
    """The run rows that a question is about.

    Raises:
        ResultsError: there is none.
    """
    runs = store.runs(dataset=dataset, shots=shots, method=method)
    if not len(runs):
        asked = {"dataset": dataset, "shots": shots, "method": method}
        words = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        raise ResultsError(
            f"no finished run{' with ' + words if words else ''} in {store.folder}; "
            "run a sweep first, or name its folder with --results"
        )
    if "complete" not in pc.unique(runs["status"]).to_pylist():
        ended = runs.group_by("status").aggregate([("trial_id", "count_distinct")]).sort_by("status").to_pylist()
        words = ", ".join(f"{row['trial_id_count_distinct']} {row['status']}" for row in ended)
        raise ResultsError(f"no trial is complete yet, only {words}; run the sweep on, or change its settings")
    return runs


def rank(runs: pa.Table, metric: str = "balanced_accuracy") -> pa.Table:
    """One row per trial and predictor, best first within each ranking, with an interval and the count of rivals.

    A trial counts when it is complete on all of its label sets. Equal scores are ordered by AUROC, then log-loss.

    Raises:
        ConfigError: an unknown metric.
    """
    if metric not in METRIC_COLUMNS:
        raise ConfigError(f"metric '{metric}' is unknown{suggestion(metric, METRIC_COLUMNS)}")
    # Runs that must be equal, trained in several sweeps, count once; their order does not depend on that of files.
    complete = runs.filter(pc.field("status") == "complete").sort_by(
        [("label_set", "ascending"), ("fold", "ascending")]
    )
    complete = first_of_each(complete, ["trial_id", "run_id", "predictor"])
    grouped = complete.group_by([*RANKING, *TRIAL], use_threads=False).aggregate(
        [(name, "list") for name in (*_MEANS, "label_set", "label_set_hash", "run_id", "confusion_json")]
        + [(name, "first") for name in _KEPT]
        + [("run_id", "count")]
    )
    table = grouped.rename_columns([name.removesuffix("_first") for name in grouped.column_names])
    table = _with_means(table.filter(pc.field("run_id_count") == pc.field("num_runs")))
    better = "ascending" if metric in SMALLER_IS_BETTER else "descending"
    order = [(name, "ascending") for name in RANKING]
    order += [(metric, better), ("auroc", "descending"), ("log_loss", "ascending"), ("trial_id", "ascending")]
    table = table.sort_by(order)
    return _numbered(table, metric, _num_tried(runs))


def shortlist(ranked: pa.Table) -> pa.Table:
    """Per ranking and predictor: the best trial, and the default and presets beside it."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for position, row in enumerate(ranked.select([*RANKING, "predictor", "start"]).to_pylist()):
        key = tuple(row[name] for name in (*RANKING, "predictor"))
        if key not in seen or row["start"]:
            kept.append(position)
        seen.add(key)
    return ranked.take(pa.array(kept, pa.int64()))


def unranked_starts(runs: pa.Table) -> list[dict[str, Any]]:
    """The newest row of each default and preset that no ranking holds, as its trial has no score that counts."""
    starts = runs.filter(pc.field("start") != "")
    rows = (
        runs.filter(pc.field("trial_id").isin(pc.unique(starts["trial_id"])))
        .select([*RANKING, "method", "trial_id", "config_id", "start", "status", "reason", "finished_at"])
        .sort_by([("method", "ascending"), ("start", "ascending"), ("finished_at", "ascending")])
        .to_pylist()
    )
    key = itemgetter(*RANKING, "trial_id")
    ranked = {key(row) for row in rows if row["status"] == "complete"}
    return list({key(row): row for row in rows if row["start"] and key(row) not in ranked}.values())


def searched_settings(runs: pa.Table) -> dict[str, list[str]]:
    """Per method, the configuration fields in which its searched trials differ: what tells its rows apart."""
    varying: dict[str, list[str]] = {}
    for method in pc.unique(runs["method"]).to_pylist():
        own = runs.filter((pc.field("method") == method) & (pc.field("start") == ""))
        columns = [name for name in own.column_names if name.startswith(SEARCHED)]
        varying[method] = [
            name.removeprefix(SEARCHED)
            for name in columns
            if pc.count_distinct(own[name], mode="only_valid").as_py() > 1
        ]
    return varying


def rankings(ranked: pa.Table) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """What is comparable, ranking by ranking: what they share, and their rows."""
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
    runs = store.runs()
    written = []
    cells = runs.select(["dataset", "shots"]).group_by(["dataset", "shots"]).aggregate([]).to_pylist()
    for cell in sorted(cells, key=lambda cell: (cell["dataset"], cell["shots"])):
        here = (pc.field("dataset") == cell["dataset"]) & (pc.field("shots") == cell["shots"])
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in cell["dataset"])
        path = store.folder / "leaderboards" / f"{name}-{cell['shots']}shot.parquet"
        ranked = rank(runs.filter(here))
        if len(ranked):
            write_table(path, ranked)
            written.append(path)
    return written


def _with_means(table: pa.Table) -> pa.Table:
    """Means over runs, exactly rounded, so that training again gives the same digits; null where a run has none."""
    for name in _MEANS:
        lists = table[f"{name}_list"].to_pylist()
        means = [fmean(values) if values and None not in values else np.nan for values in lists]
        table = table.append_column(name, _nullable(np.array(means, np.float64)))
    return table.drop_columns([f"{name}_list" for name in _MEANS])


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    array = plain_array(values)
    return pc.if_else(pc.is_nan(array), None, array)


def _num_tried(runs: pa.Table) -> dict[tuple[Any, ...], int]:
    """Per method and what makes scores comparable but the label sets: how many configurations the search looked at.

    Early-stopped ones count. The few that were confirmed on more label sets are the best of all that were tried.
    """
    keys = [*RANKING, "method"]
    counted = runs.group_by(keys).aggregate([("trial_id", "count_distinct")]).to_pylist()
    tried: dict[tuple[Any, ...], int] = {}
    for row in counted:
        tried[_search_of(row)] = max(row["trial_id_count_distinct"], tried.get(_search_of(row), 0))
    return tried


def _search_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in (*RANKING, "method") if name != "label_sets")


def _numbered(table: pa.Table, metric: str, num_tried: Mapping[tuple[Any, ...], int]) -> pa.Table:
    """Adds rank, interval and number of configurations tried."""
    ranks: list[int] = []
    intervals: list[tuple[float, float]] = []
    tried: list[int] = []
    previous: tuple[Any, ...] | None = None
    for row in table.select([*RANKING, "method", "confusion_json_list"]).to_pylist():
        key = tuple(row[name] for name in RANKING)
        ranks.append(ranks[-1] + 1 if key == previous else 1)
        previous = key
        confusions = [json.loads(text)["confusion"] for text in row["confusion_json_list"]]
        same_images = row["validation"] == "official"
        intervals.append(score_interval(confusions, metric, same_images=same_images) or (np.nan, np.nan))
        tried.append(num_tried[_search_of(row)])
    low_high = np.array(intervals, dtype=np.float64).reshape(-1, 2)
    table = table.append_column("rank", plain_array(np.array(ranks, np.int64)))
    table = table.append_column("num_tried", plain_array(np.array(tried, np.int64)))
    return table.append_column("low", _nullable(low_high[:, 0])).append_column("high", _nullable(low_high[:, 1]))
