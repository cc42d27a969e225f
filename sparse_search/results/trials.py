"""From run rows to trials: means over label sets and folds, ranks, and what a leaderboard needs. Pure.

There is a row for each predictor of each trial that counts, and one for each default or preset that has no score. The
store keeps what a leaderboard needs of them beside the runs, so that it need not look at these.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.config import short_hash
from sparse_search.results.files import first_of_each, plain_array
from sparse_search.results.rows import CONFIRMATION, RUN_SCHEMA, SEARCHED
from trainables.core.conditions import RANKING_CONDITIONS, ROUNDING_CONDITIONS
from trainables.core.shots import ALL_SHOTS, shots_title
from trainables.metrics.table import METRICS, TIE_BREAKERS, metric_for, sign_of

RankedRow = Mapping[str, Any]
"""Row of a ranking, as plain values."""

RANKING = (
    "dataset", "shots", "level", *RANKING_CONDITIONS, "label_sets", "image_size", "pretrained", "content_hash",
    "protocol",
)  # fmt: skip
"""Rows that differ in one of these never share a ranking."""

TRIAL = ("method", "predictor", "trial_id")

_KEPT = (
    "source", "official", "config_id", "config_json", "inactive", "start", "label_budget", "shots_in_all",
    "patch_labels", *ROUNDING_CONDITIONS, "device", "versions_json", "num_runs",
)  # fmt: skip
_LISTS = ("label_set", "label_set_hash", "run_id", "confusion_json")
_MEANS = (*METRICS, "train_seconds", "num_images")


def _schema() -> pa.Schema:
    nullable = {name: pa.field(name, RUN_SCHEMA.field(name).type) for name in RUN_SCHEMA.names}
    return pa.schema(
        [nullable[name] for name in (*RANKING, *TRIAL, *_KEPT)]
        + [pa.field(f"{name}_list", pa.list_(RUN_SCHEMA.field(name).type)) for name in _LISTS]
        + [pa.field(name, pa.float64()) for name in _MEANS]
        + [pa.field("run_id_count", pa.int64()), pa.field("num_tried", pa.int64()), pa.field("ranking", pa.string())]
        + [pa.field("is_confirmed", pa.bool_())]
        + [nullable[name] for name in ("status", "reason", "finished_at")]
    )


TRIAL_SCHEMA = _schema()
"""`ranking` is a hash of the columns `RANKING`; `num_tried` counts the configurations that the search looked at;
`is_confirmed` where its label sets had no part in choosing it."""

ORDER_SCHEMA = pa.schema([TRIAL_SCHEMA.field(name) for name in ("ranking", "level", "trial_id", "predictor", *METRICS)])
"""Columns that say who ranks where."""


def trials_of(runs: pa.Table) -> pa.Table:
    """The trials of run rows, in no order. A trial counts when it is complete on all of its label sets.

    Runs that must be equal, trained in several sweeps, count once.
    """
    complete = runs.filter(pc.equal(runs["status"], "complete")).sort_by(
        [(name, "ascending") for name in ("label_set", "fold", "record_id")]
    )
    complete = first_of_each(complete, ["trial_id", "run_id", "predictor"])
    measured = [name for name in _MEANS if complete[name].null_count < len(complete)]
    grouped = complete.group_by([*RANKING, *TRIAL], use_threads=False).aggregate(
        [(name, "list") for name in (*measured, *_LISTS)]
        + [(name, "first") for name in (*_KEPT, "status", "reason", "finished_at")]
        + [("run_id", "count")]
    )
    table = grouped.rename_columns([name.removesuffix("_first") for name in grouped.column_names])
    table = _with_means(table.filter(pc.equal(table["run_id_count"], table["num_runs"])), measured)
    unranked = pa.Table.from_pylist(_unranked_starts(runs), schema=pa.schema(_UNRANKED))
    table = pa.concat_tables([table, unranked], promote_options="default")
    table = table.append_column("ranking", _ranking_ids(table))
    table = table.append_column("is_confirmed", pc.is_in(table["trial_id"], _confirmed(runs)))
    whole = [TRIAL_SCHEMA.empty_table(), _with_num_tried(table, runs)]
    return pa.concat_tables(whole, promote_options="permissive").select(TRIAL_SCHEMA.names).cast(TRIAL_SCHEMA)


def _confirmed(runs: pa.Table) -> pa.Array:
    """The trials of confirmations none of whose runs a search has looked at."""
    is_of_confirmation = pc.ends_with(runs["study"], CONFIRMATION)
    confirming, searching = runs.filter(is_of_confirmation), runs.filter(pc.invert(is_of_confirmation))
    looked_at = confirming.filter(pc.is_in(confirming["run_id"], pc.unique(searching["run_id"])))["trial_id"]
    return pc.unique(confirming.filter(pc.invert(pc.is_in(confirming["trial_id"], pc.unique(looked_at))))["trial_id"])


def shots_text(row: Mapping[str, Any]) -> str:
    """Return how many images are labelled, in words."""
    in_all = row["shots_in_all"] and row["shots"] != ALL_SHOTS
    return f"{row['shots']} labelled images" if in_all else shots_title(row["shots"])


def ranking_id(row: Any) -> str:
    """Return a name for what is comparable with a row."""
    return short_hash({name: row[name] for name in RANKING})


def ranks_of(trials: pa.Table, metric: str) -> NDArray[np.int64]:
    """The rank of each row, from 1 in each ranking; equal scores go by `TIE_BREAKERS`, then trial and predictor.

    Rows of a family that does not have the metric are ranked by its default.

    The table needs the columns of `ORDER_SCHEMA`, of which those of other metrics may be missing.
    """
    group = pc.dictionary_encode(trials["ranking"].combine_chunks()).indices.to_numpy(zero_copy_only=False)
    keys = [-sign_of(name) * np.nan_to_num(_numbers(trials[name])) for name in reversed(TIE_BREAKERS)]
    keys += [_smallest_best(trials, metric), group]
    order = np.lexsort(keys)
    tied = np.logical_and.reduce([np.diff(key[order]) == 0 for key in keys])
    if tied.any():
        rows = order[np.union1d(np.flatnonzero(tied), np.flatnonzero(tied) + 1)]
        some = trials.select(["trial_id", "predictor"]).take(pa.array(rows))
        place = np.zeros(len(trials), np.int64)
        place[rows[pc.sort_indices(some, [("trial_id", "ascending"), ("predictor", "ascending")])]] = range(len(rows))
        order = np.lexsort([place, *keys])
    begins = np.flatnonzero(np.diff(group[order], prepend=-1))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(begins, np.diff([*begins, len(order)])) + 1
    return ranks


def _smallest_best(trials: pa.Table, metric: str) -> NDArray[np.float64]:
    """Return what each row is ranked by, the smallest first; NaN where it has none."""
    by = {level: metric_for(level, metric) for level in pc.unique(trials["level"]).to_pylist()}
    values = np.full(len(trials), np.nan)
    for level, name in by.items():
        own = np.asarray(pc.equal(trials["level"], level).to_numpy(zero_copy_only=False), bool)
        values[own] = -sign_of(name) * _numbers(trials[name])[own]
    return values


def shown_and_order(trials: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows that a shortlist by any metric may show, and what says who ranks where.

    Shown is, per ranking and predictor, the best by each metric, and every default and preset. Those with a score come
    first in both tables, in the same order.
    """
    is_counted = pc.equal(trials["status"], "complete")
    counted = trials.filter(is_counted)
    shown = np.array(pc.not_equal(counted["start"], "").to_numpy(zero_copy_only=False), dtype=bool)
    names = pc.binary_join_element_wise(counted["ranking"], counted["predictor"], " ").combine_chunks()
    group = pc.dictionary_encode(names).indices.to_numpy(zero_copy_only=False)
    for metric in (name for name in METRICS if counted[name].null_count < len(counted)):
        order = np.lexsort([ranks_of(counted, metric), group])
        shown[order[np.flatnonzero(np.diff(group[order], prepend=-1))]] = True
    first, rest = counted.filter(pa.array(shown)), counted.filter(pa.array(~shown))
    unranked = trials.filter(pc.invert(is_counted))
    return (
        pa.concat_tables([first, unranked]).combine_chunks(),
        pa.concat_tables([first, rest]).select(ORDER_SCHEMA.names).combine_chunks(),
    )


def searched_settings(runs: pa.Table) -> dict[str, list[str]]:
    """Per method, the configuration fields in which its searched trials differ: what tells its rows apart."""
    varying: dict[str, list[str]] = {}
    for method in pc.unique(runs["method"]).to_pylist():
        own = runs.filter(pc.and_(pc.equal(runs["method"], method), pc.equal(runs["start"], "")))
        columns = [name for name in own.column_names if name.startswith(SEARCHED)]
        varying[method] = [name.removeprefix(SEARCHED) for name in columns if _differs(own[name])]
    return varying


def nullable(values: NDArray[np.float64]) -> pa.Array:
    """Numbers with null for NaN."""
    array = plain_array(values)
    return pc.if_else(pc.is_nan(array), None, array)


def _ranking_ids(table: pa.Table) -> pa.Array:
    known: dict[tuple[Any, ...], str] = {}
    rows = list(zip(*(table[name].to_pylist() for name in RANKING), strict=True))
    for row in rows:
        if row not in known:
            known[row] = ranking_id(dict(zip(RANKING, row, strict=True)))
    return pa.array([known[row] for row in rows], pa.string())


_UNRANKED = [
    pa.field(name, RUN_SCHEMA.field(name).type)
    for name in (*RANKING, "method", "trial_id", "config_id", "start", "status", "reason", "finished_at")
]


def _unranked_starts(runs: pa.Table) -> list[dict[str, Any]]:
    """The newest row of each default and preset that no ranking holds, as its trial has no score that counts."""
    runs = runs.filter(pc.not_equal(runs["level"], "patch"))
    starts = runs.filter(pc.not_equal(runs["start"], ""))
    if not len(starts):
        return []
    rows = (
        runs.filter(pc.is_in(runs["trial_id"], pc.unique(starts["trial_id"])))
        .select([field.name for field in _UNRANKED])
        .sort_by([(name, "ascending") for name in ("method", "start", "finished_at", "status")])
        .to_pylist()
    )
    key = itemgetter(*RANKING, "trial_id")
    ranked = {key(row) for row in rows if row["status"] == "complete"}
    return list({key(row): row for row in rows if row["start"] and key(row) not in ranked}.values())


def _with_means(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Means over runs, exactly rounded, so that training again gives the same digits; null where a run has none."""
    for name in names:
        lists = table[f"{name}_list"].to_pylist()
        means = [fmean(values) if values and None not in values else np.nan for values in lists]
        table = table.append_column(name, nullable(np.array(means, np.float64)))
    return table.drop_columns([f"{name}_list" for name in names])


def _with_num_tried(table: pa.Table, runs: pa.Table) -> pa.Table:
    """Per method and what makes scores comparable but the label sets: how many configurations the search looked at.

    Early-stopped ones count. The few that were confirmed on more label sets are the best of all that were tried.
    """
    search = itemgetter(*(name for name in RANKING if name != "label_sets"), "method")
    tried: dict[tuple[Any, ...], int] = {}
    for row in runs.group_by([*RANKING, "method"]).aggregate([("trial_id", "count_distinct")]).to_pylist():
        tried[search(row)] = max(row["trial_id_count_distinct"], tried.get(search(row), 0))
    counts = [tried[search(row)] for row in table.select([*RANKING, "method"]).to_pylist()]
    return table.append_column("num_tried", pa.array(counts, pa.int64()))


def _differs(column: pa.ChunkedArray) -> bool:
    extremes = pc.min_max(column)
    return bool(extremes["min"].as_py() != extremes["max"].as_py())


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
