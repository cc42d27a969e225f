"""Words and tables of the report about one ranking."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparse_search.analysis.importance import Importance
from sparse_search.results.rows import CONFIRMATION
from sparse_search.results.texts import score_text, setting_text
from sparse_search.results.trials import RANKING
from trainables.metrics.table import METRICS

if TYPE_CHECKING:
    import pandas as pd

_MAX_REASONS = 6


@dataclass(frozen=True)
class BoardLine:
    """A line of a leaderboard."""

    rank: int
    predictor: str
    series: int
    start: str
    config_id: str
    settings: Sequence[tuple[str, str]]
    score: float | None
    low: float | None
    high: float | None
    others: Sequence[float | None]
    """Values of the other metrics."""

    num_runs: int
    train_seconds: float


@dataclass(frozen=True)
class MethodCost:
    """Images and seconds that the trials of one method took."""

    method: str
    ended: Mapping[str, int]
    """Trials by status."""

    images: int
    train_seconds: float
    wall_seconds: float
    gpu_seconds: float


@dataclass(frozen=True)
class Question:
    """Data that one ranking of the report is drawn from."""

    shared: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    """Rows of the ranking, best first."""

    runs: pa.Table
    """Every run that falls under it, whatever became of it."""

    curves: pa.Table
    """At least those of its runs."""

    metric: str
    series: Mapping[str, int]
    """The colour of each method."""

    others: Sequence[str]
    """The other metrics that are shown."""

    searched: Mapping[str, Sequence[str]]
    importances: Sequence[Importance]
    results: str
    """The folder in which the artefacts of the runs lie."""

    def is_confirmation(self) -> bool:
        """Return True where the best of a search were trained again."""
        return all(study.endswith(CONFIRMATION) for study in pc.unique(self.runs["study"]).to_pylist())

    def best_of_methods(self) -> dict[str, Mapping[str, Any]]:
        """The best row of each method, the best method first."""
        found: dict[str, Mapping[str, Any]] = {}
        for row in self.rows:
            found.setdefault(row["method"], row)
        return found


def runs_of(shared: Mapping[str, Any], runs: pa.Table) -> pa.Table:
    """The runs that fall under a ranking."""
    return runs.filter(reduce(and_, (pc.field(name) == shared[name] for name in RANKING)))


def table_rows(question: Question, most: int) -> list[BoardLine]:
    """The first rows, and behind them the defaults and presets that are further down."""
    kept = [row for position, row in enumerate(question.rows) if position < most or row["start"]]
    return [board_line(row, row["rank"], question, _settings(row, question.searched[row["method"]])) for row in kept]


def board_line(
    row: Mapping[str, Any], rank: int, question: Question, settings: Sequence[tuple[str, str]] = ()
) -> BoardLine:
    """Return a ranking's row as a line, with the settings that it is to tell."""
    return BoardLine(
        rank=rank,
        predictor=row["predictor"],
        series=question.series[row["method"]],
        start=row["start"],
        config_id=row["config_id"],
        settings=settings,
        score=row[question.metric],
        low=row["low"],
        high=row["high"],
        others=[row[name] for name in question.others],
        num_runs=row["num_runs"],
        train_seconds=row["train_seconds"],
    )


def _settings(row: Mapping[str, Any], searched: Sequence[str]) -> list[tuple[str, str]]:
    values = active_settings(row)
    return [(name, setting_text(values[name])) for name in searched if name in values]


def active_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its configuration that have an effect."""
    inactive = row["inactive"].split(", ")
    return {name: value for name, value in json.loads(row["config_json"]).items() if name not in inactive}


def costs(runs: pa.Table) -> list[MethodCost]:
    """Sum what the trials of each method took; a run that is known twice counts once."""
    columns = ["method", "trial_id", "status", "run_id", "images_done", "train_seconds", "wall_seconds", "gpu_seconds"]
    found = []
    for method, own in _latest(runs, columns).groupby("method"):
        ended = own.groupby("trial_id")["status"].agg(lambda statuses: _ended(set(statuses)))
        once = own.drop_duplicates("run_id", keep="last")
        found.append(
            MethodCost(
                str(method),
                dict(Counter(ended).most_common()),
                int(once["images_done"].sum()),
                *(float(once[name].sum()) for name in ("train_seconds", "wall_seconds", "gpu_seconds")),
            )
        )
    return found


def _latest(runs: pa.Table, columns: Sequence[str]) -> "pd.DataFrame":
    """One row per run of a trial: how its last attempt ended."""
    frame = runs.select([*columns, "finished_at"]).to_pandas().sort_values("finished_at", kind="stable")
    return frame.drop_duplicates(["trial_id", "run_id"], keep="last")


def _ended(statuses: set[str]) -> str:
    return next(iter(sorted(statuses - {"complete"})), "complete")


def reasons(runs: pa.Table) -> list[tuple[str, str, str, int]]:
    """Why trials did not complete: (method, status, last line of the reason, how many), the most frequent first."""
    frame = _latest(runs, ["method", "status", "reason", "trial_id", "run_id"])
    frame = frame[(frame["status"] != "complete") & (frame["reason"] != "")].drop_duplicates("trial_id")
    lines = [(text.strip().splitlines() or [""])[-1][:300] for text in frame["reason"]]
    counted = Counter(zip(frame["method"], frame["status"], lines, strict=True)).most_common(_MAX_REASONS)
    return [(*key, count) for key, count in counted]


def verdict(question: Question) -> str:
    """One or two sentences: who leads, by how much it can be believed, what the default reaches."""
    first = question.rows[0]
    metric = METRICS[question.metric].title
    settings = {"": "", "default": ", in its default configuration"}.get(
        first["start"], f", as preset {first['start']}"
    )
    words = [
        f"{first['predictor']} leads with {metric} {score_text(first[question.metric])}{_interval(first)}{settings}."
    ]
    default = next((r for r in question.rows if r["method"] == first["method"] and r["start"] == "default"), None)
    if default is not None and default is not first and default["trial_id"] != first["trial_id"]:
        words.append(f"The default of {default['method']} reaches {score_text(default[question.metric])}.")
    second = next((row for method, row in question.best_of_methods().items() if method != first["method"]), None)
    if second is not None:
        end = "; the intervals overlap, so this table does not tell them apart." if _overlap(first, second) else "."
        words.append(
            f"The best of {second['method']} has {score_text(second[question.metric])}{_interval(second)}{end}"
        )
    return " ".join(words)


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f" (95 % interval {row['low']:.2f} to {row['high']:.2f})"


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    known = None not in (one["low"], other["low"])
    return known and bool(one["low"] <= other["high"] and other["low"] <= one["high"])


def scale_of(rows: Sequence[BoardLine], metric: str) -> tuple[float, float] | None:
    """Ends of the axis on which a table's scores and intervals are drawn, in steps of 0.05."""
    ends = [value for row in rows for value in (row.low, row.high, row.score) if value is not None]
    if not ends:
        return None
    low, high = float(np.floor(min(ends) * 20) / 20), float(np.ceil(max(ends) * 20) / 20)
    best = METRICS[metric].high
    if METRICS[metric].sign > 0 and best is not None:
        low, high = min(low, best - 0.05), min(high, best)
    return low, max(high, low + 0.05)
