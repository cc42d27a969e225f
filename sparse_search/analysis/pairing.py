"""Which trial stands for a method in each ranking, and what two of them share.

A method stands for its best-ranked configuration. That is a choice by the validation images that it is then judged
by, so its score is too good; by how much is estimated where the trials have several label sets.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.core.errors import ConfigError, suggestion
from sparse_search.analysis.joint_counts import joint_counts
from sparse_search.analysis.leaderboard import rank
from sparse_search.analysis.statistics import ScoredSetting, bootstrap_interval, selection_optimism
from sparse_search.results.trials import RANKING, RankedRow
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.table import METRICS, Origin, sign_of

Key = tuple[Any, ...]
Interval = tuple[float, float]
Side = dict[Key, list[RankedRow]]
"""Rows that a name stands for, best first, by ranking."""

_MIN_DIGITS = 4
"""Least number of first digits that may stand for a configuration's name."""


@dataclass(frozen=True, kw_only=True)
class Representative:
    """Trial that stands for a side in one ranking."""

    config_id: str
    predictor: str
    score: float
    """Mean over the label sets that both sides have."""

    num_ranked: int
    """Rows it was chosen from."""

    num_tried: int
    """Configurations that its method's search looked at, early-stopped ones included."""

    optimism: float | None
    """Excess of the score because the trial was chosen by it; None where that cannot be estimated.

    It is about the choice among the ranked: how they came to be confirmed in an earlier search it does not see.
    """


@dataclass(frozen=True, kw_only=True)
class PairedCell:
    """One ranking in which both sides have a trial."""

    ranking: Mapping[str, Any]
    """Values that made the scores comparable, by the names of `leaderboard.RANKING`."""

    a: Representative
    b: Representative
    difference: float
    interval: Interval | None
    num_label_sets: int


class _LabelSet(NamedTuple):
    """A trial on one label set, over its folds."""

    hashes: tuple[str, ...]
    score: float
    confusion: list[list[float]]


def sides_of(runs: pa.Table, names: Sequence[str], metric: str) -> dict[str, Side]:
    """Find what each name stands for: a predictor, a method, or the first digits of a configuration's name.

    Raises:
        ConfigError: an unknown name or metric.
    """
    slim = runs.select(["predictor", "method", "config_id"]).combine_chunks()
    meant = {name: _meant(slim, name) for name in names}
    methods = [slim.filter(pc.field(column) == value)["method"].to_pylist() for column, value in meant.values()]
    involved = sorted({method for each in methods for method in each})  # whole methods, to count what was tried
    sides: dict[str, Side] = {name: {} for name in names}
    for row in rank(runs.filter(pc.field("method").isin(involved)), metric).to_pylist():
        key = tuple(row[name] for name in RANKING)
        for name, (column, value) in meant.items():
            if row[column] == value:
                sides[name].setdefault(key, []).append(row)
    return sides


def _meant(runs: pa.Table, name: str) -> tuple[str, str]:
    """The column that a name is of, and its value there."""
    known = {column: pc.unique(runs[column]).to_pylist() for column in runs.column_names}
    for column in ("predictor", "method"):
        if name in known[column]:
            return column, name
    config_ids = [config_id for config_id in known["config_id"] if config_id.startswith(name)]
    if len(name) < _MIN_DIGITS or not config_ids:
        raise ConfigError(f"'{name}' is unknown{suggestion(name, {*known['predictor'], *known['method']})}")
    if len(config_ids) > 1:
        raise ConfigError(f"'{name}' begins {len(config_ids)} configurations; give more of its digits")
    return "config_id", config_ids[0]


FLOORS = ("constant", "constant_masks", "pixels")
"""Methods that any other has to beat."""

Evidence = tuple[bool, bool, int]
"""Foundation of a ranking's scores: whether it has more than floors, which are often confirmed long before the rest;
whether its label sets had no part in choosing; and the runs of each trial."""


def evidence_of(rows: Sequence[RankedRow]) -> Evidence:
    """Return what the scores of a ranking rest on, best row first; the greater is the better."""
    has_more = any(row["method"] not in (*FLOORS, AVERAGE) for row in rows)
    return has_more, bool(rows[0]["is_confirmed"]), rows[0]["num_runs"]


def widest(evidence: Mapping[Key, Evidence]) -> list[Key]:
    """Return, of rankings that differ in nothing but the label sets, the confirmed, or else those with most runs."""
    position = RANKING.index("label_sets")
    best: dict[Key, Key] = {}
    for key in evidence:
        rest = (*key[:position], *key[position + 1 :])
        if rest not in best or evidence[key] > evidence[best[rest]]:
            best[rest] = key
    return list(best.values())


def scores_of(runs: pa.Table, metric: str) -> dict[Key, float | None]:
    """The score of each run, by trial, predictor and run."""
    columns = ("trial_id", "predictor", "run_id", metric)
    *keys, values = (runs[name].to_pylist() for name in columns)
    return dict(zip(zip(*keys, strict=True), values, strict=True))


def _label_sets(row: RankedRow, scores: Mapping[Key, float | None]) -> dict[int, _LabelSet]:
    """The row's label sets that have a score; folds are averaged, their tables added."""
    runs: dict[int, list[tuple[str, float | None, str]]] = defaultdict(list)
    lists = (row[f"{name}_list"] for name in ("label_set", "label_set_hash", "run_id", "confusion_json"))
    for label_set, label_set_hash, run_id, confusion in zip(*lists, strict=True):
        score = scores[row["trial_id"], row["predictor"], run_id]
        runs[label_set].append((label_set_hash, score, confusion))
    return dict(_averaged(runs))


def _averaged(runs: Mapping[int, list[tuple[str, float | None, str]]]) -> Iterator[tuple[int, _LabelSet]]:
    for label_set, folds in runs.items():
        scores = [score for _, score, _ in folds if score is not None]
        if len(scores) == len(folds):
            tables = [json.loads(text)["confusion"] for _, _, text in folds]
            added = [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]
            yield label_set, _LabelSet(tuple(name for name, _, _ in folds), fmean(scores), added)


def paired_cell(
    ranking: Mapping[str, Any],
    rows_a: Sequence[RankedRow],
    rows_b: Sequence[RankedRow],
    scores: Mapping[Key, float | None],
    metric: str,
    results: Path | str,
) -> tuple[PairedCell, ScoredSetting] | None:
    """The best of both sides on the label sets they share; None where there is none."""
    sets_a, sets_b = _label_sets(rows_a[0], scores), _label_sets(rows_b[0], scores)
    shared = [name for name in sorted(sets_a) if name in sets_b and sets_a[name].hashes == sets_b[name].hashes]
    if not shared:
        return None
    sign = sign_of(metric)
    tables = [(name, sets_a[name].confusion, sets_b[name].confusion) for name in shared]
    is_counted = METRICS[metric].origin is Origin.COUNTS_OF_IMAGES
    setting = ScoredSetting(
        dataset=ranking["dataset"],
        scores=tuple(round(sign * (sets_a[name].score - sets_b[name].score), 12) for name in shared),
        confusions=tuple(sets_a[name].confusion for name in shared),
        rivals=tuple(sets_b[name].confusion for name in shared),
        joints=joint_counts(results, rows_a[0], rows_b[0], tables) if is_counted else (),
        same_images=ranking["validation"] == "official",
    )
    paired = PairedCell(
        ranking=ranking,
        a=_representative(rows_a, fmean(sets_a[name].score for name in shared), scores, sign),
        b=_representative(rows_b, fmean(sets_b[name].score for name in shared), scores, sign),
        difference=fmean(setting.scores),
        interval=bootstrap_interval([setting], metric),
        num_label_sets=len(shared),
    )
    return paired, setting


def _representative(
    rows: Sequence[RankedRow], score: float, scores: Mapping[Key, float | None], sign: int
) -> Representative:
    best = rows[0]
    return Representative(
        config_id=best["config_id"],
        predictor=best["predictor"],
        score=score,
        num_ranked=len(rows),
        num_tried=best["num_tried"],
        optimism=_optimism(rows, scores, sign),
    )


def _optimism(rows: Sequence[RankedRow], scores: Mapping[Key, float | None], sign: int) -> float | None:
    if len(rows) == 1:
        return 0.0 if rows[0]["num_tried"] == 1 else None  # chosen elsewhere, among those that are not here
    tables = [_label_sets(row, scores) for row in rows]
    shared = [
        name
        for name, one in tables[0].items()
        if all(name in table and table[name].hashes == one.hashes for table in tables)
    ]
    if len(shared) < 2:
        return None
    found = selection_optimism([[sign * table[name].score for name in shared] for table in tables])
    return found.bias if found else None
