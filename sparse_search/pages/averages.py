"""Averages of a ranking on the page: as lines of its leaderboard, what each method adds, what the search was worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.average_estimates import draws
from sparse_search.analysis.average_rows import average_row, averages_of
from sparse_search.analysis.averages import DEFAULT_RULE
from sparse_search.analysis.estimate import Expected
from sparse_search.analysis.gathering import gather
from sparse_search.analysis.leaderboard import rank_trials
from sparse_search.analysis.worth import WORTH_DRAWS, Addition, Worth, additions, worth, worth_lines
from sparse_search.pages.figures import Line, curves_figure
from sparse_search.pages.panels import Panel
from sparse_search.pages.tables import BoardLine, Question, board_line
from sparse_search.results.trials import TRIAL_SCHEMA, ranks_of
from trainables.metrics.table import METRICS

_MIN_CURVE = 4
"""Configurations from which on a curve over their number says something."""


@dataclass(frozen=True)
class Averaged:
    """What the page shows of the averages of a ranking; empty where there are none."""

    rows: Sequence[Mapping[str, Any]] = ()
    """Rows of the averages, best first, as the leaderboard has them."""

    ranks: Mapping[int, int] = field(default_factory=dict)
    """Rank of each configuration among all, by that among configurations."""

    own_ranks: Sequence[int] = ()
    """Ranks of the averages among all."""

    additions: Sequence[Addition] = ()
    worth: Worth | None = None


def averaged_of(question: Question) -> Averaged:
    """Average what a ranking holds, as far as predictions were kept."""
    if question.shared["level"] != "image":
        return Averaged()
    try:
        gathered = gather(question.results, question.rows)
    except ResultsError:
        return Averaged()
    rows = [average_row(gathered, average, words) for words, average in averages_of(gathered)] if gathered else []
    if gathered is None or not rows:
        return Averaged()
    shown = _ranked(rows, question)
    drawn, fewer = (draws(gathered.candidates, question.metric, *count) for count in ((), (WORTH_DRAWS,)))
    if drawn is None or fewer is None:
        return shown
    added = additions(drawn, gathered.methods, DEFAULT_RULE)
    return replace(shown, additions=added, worth=worth(fewer, DEFAULT_RULE))


def _ranked(averages: Sequence[Mapping[str, Any]], question: Question) -> Averaged:
    """Rank averages among the configurations of a ranking."""
    whole = {"status": "complete", "reason": "", "ranking": "", "finished_at": ""}
    table = pa.Table.from_pylist([{**whole, **row} for row in (*question.rows, *averages)], schema=TRIAL_SCHEMA)
    ranks = ranks_of(table, question.metric).tolist()
    own = rank_trials(table.slice(len(question.rows)), question.metric)
    return Averaged(
        own.to_pylist(),
        {row["rank"]: rank for row, rank in zip(question.rows, ranks, strict=False)},
        sorted(ranks[len(question.rows) :]),
    )


def with_averages(lines: Sequence[BoardLine], averaged: Averaged, question: Question) -> list[BoardLine]:
    """Return the lines of a leaderboard with those of averages among them, ranked together."""
    moved = [replace(line, rank=averaged.ranks.get(line.rank, line.rank)) for line in lines]
    own = [board_line(row, rank, question) for row, rank in zip(averaged.rows, averaged.own_ranks, strict=True)]
    return sorted([*moved, *own], key=lambda line: line.rank)


def worth_panel(found: Worth | None, question: Question) -> Panel | None:
    """The best of n and the average of n against n, on images that had no part in either."""
    if found is None or found.sizes[-1] < _MIN_CURVE:
        return None
    lines = [_curve("best of n", 0, found.sizes, found.best), _curve("average of n", 1, found.sizes, found.average)]
    if any(len(line.x) < len(found.sizes) for line in lines):
        return None
    metric = METRICS[question.metric].title
    words = " ".join(f"{line[0].upper()}{line[1:]}." for line in worth_lines(found, question.metric))
    return Panel(
        "Was the search worth it?",
        curves_figure(lines, x_label="configurations tried, in random order", y_label=metric),
        f"{metric.capitalize()} to expect on new images: of the one that was best on the images drawn, and of the "
        f"{DEFAULT_RULE} of all averaged, both scored on the images left out; thin: 95 %. {words}",
    )


def _curve(label: str, series: int, sizes: Sequence[int], each: Sequence[Expected | None]) -> Line:
    known = [(size, found) for size, found in zip(sizes, each, strict=True) if found is not None]
    x = [size for size, _ in known]
    ends = [(x, [found.low for _, found in known]), (x, [found.high for _, found in known])]
    return Line(label, series, x, [found.score for _, found in known], faint=ends)
