"""Output of commands on a terminal: tables for people, one line for what has no table."""

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from search_spaces.core.errors import ConfigError
from sparse_search.results.texts import printable, score_text, setting_text
from trainables.core.shots import shots_title, shots_word
from trainables.metrics.table import METRICS, Metric, family_at, metric_for

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console
    from rich.table import Table

    from sparse_search.analysis.expectation import Expectation
    from sparse_search.analysis.leaderboard import Board
    from sparse_search.analysis.pairing import Key
    from sparse_search.best.retrain import ShareCallback

_LEVELS = {
    "image": "images", "patch": "patches", "mask": "images, pixel by pixel",
    "generator": "images, class by class",
}  # fmt: skip
_COLUMNED = ("dataset", "shots", "level", "validation", "label_sets")
"""Columns that the overview tells of every ranking."""

_TITLED = (*_COLUMNED, "image_size", "content_hash", "selection")
"""Columns that the title or the caption of a leaderboard tells."""

_MAX_SETTINGS = 6
"""Settings of a configuration that its row of a leaderboard tells; `export` tells all."""

_MIN_CONFIGURATION_WIDTH = 26
"""Characters that a leaderboard leaves to configurations; rather than less, it drops columns."""

MAX_RANKINGS = 12
"""Leaderboards that are printed whole."""


def console() -> "Console":
    """A console as wide as the terminal, and wide enough for a leaderboard where there is none.

    It takes no text for markup, and passes on nothing that would steer the terminal: names and reasons are foreign.
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        """Console that shows texts as they are."""

        def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
            return super().render_str(printable(text), **options)

    found = PlainConsole(markup=False, emoji=False)
    return found if found.is_terminal else PlainConsole(width=150, markup=False, emoji=False)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of `warnings.showwarning`: one line for what a user should know; others as Python shows them."""
    if category.__name__ == "SetAsideWarning":
        typer.echo(f"warning: {printable(str(message))}", err=True)
    else:
        typer.echo(warnings.formatwarning(message, category, filename, lineno), err=True, nl=False)


@contextmanager
def training_bar(doing: str = "training") -> "Iterator[ShareCallback]":
    """A bar for what is trained, or done else, where there is a terminal."""
    from rich.progress import Progress

    screen = console()
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(doing, total=1.0)
        yield lambda about, share: bar.update(task, description=f"{doing}, {about}", completed=share)


def print_leaderboard(
    found: "Board",
    metric: str,
    format: str,
    num_looks: Mapping[str, int],
    expected: "Callable[[], Mapping[Key, Expectation | str]]",
) -> None:
    """Rankings in a format; as tables, with what new images let expect, what is not ranked and how often the test set
    was looked at."""
    from sparse_search.analysis.formats import FORMATS

    if format in FORMATS:
        sys.stdout.buffer.write(FORMATS[format](found.ranked, metric))
    elif found.ranked["rank"].to_pylist().count(1) > MAX_RANKINGS:
        console().print(_overview_table(found.ranked, metric))
    else:
        _print_rankings(found, metric, num_looks, expected())


def print_answer(table: "pa.Table", format: str) -> None:
    """Print the answer to a query: as a table for people, or in a format."""
    from sparse_search.analysis.formats import FORMATS

    if format in ("markdown", "latex"):
        raise ConfigError(f"--format {format} is for leaderboards; a query can be had as table, csv, json or parquet")
    if format in FORMATS:
        sys.stdout.buffer.write(FORMATS[format](table, ""))
        return
    from rich.table import Table

    shown = Table()
    for name in table.column_names:
        shown.add_column(name, overflow="fold")
    for row in table.to_pylist():
        shown.add_row(*("" if value is None else setting_text(value) for value in row.values()))
    console().print(shown)


def _print_rankings(
    found: "Board", metric: str, num_looks: Mapping[str, int], expected: "Mapping[Key, Expectation | str]"
) -> None:
    """Every ranking, and below it the defaults and presets that it lacks; at the end those that have no ranking."""
    from sparse_search.analysis.expectation import NOTHING_KEPT, expectation_lines
    from sparse_search.analysis.leaderboard import rankings
    from sparse_search.results.headings import words_apart
    from sparse_search.results.trials import RANKING

    unranked = found.unranked
    papers: dict[str, str] = {}
    ranked = list(rankings(found.ranked))
    for shared, rows in ranked:
        apart = words_apart(shared, [other for other, _ in ranked], said=_TITLED)
        console().print(_ranking_table(shared, rows, found, metric_for(shared["level"], metric), apart))
        print_lines(expectation_lines(expected.get(tuple(shared[name] for name in RANKING), NOTHING_KEPT)))
        papers |= _print_published(rows[0]) if shared["level"] != "generator" else {}
        if times := num_looks.get(shared["content_hash"]):
            typer.echo(
                f"test labels of these data: looked at {times} time{'s' * (times > 1)}, see `sparse-search ledger`"
            )
        lacking = [row for row in unranked if shared.items() <= row.items()]
        for row in lacking:
            typer.echo(_unranked_line(row))
        unranked = [row for row in unranked if row not in lacking]
    for row in unranked:
        typer.echo(_unranked_line(row, f" on {row['dataset']}, {shots_title(row['shots'])}"))
    print_lines(f"about the {paper} paper: {note}" for paper, note in papers.items())


def _overview_table(ranked: "pa.Table", metric: str) -> "Table":
    """The best of each ranking: more rankings than a person reads one by one."""
    import pyarrow.compute as pc
    from rich.table import Table

    from sparse_search.analysis.leaderboard import rankings
    from sparse_search.results.headings import words_apart

    table = Table(
        caption=f"the best of each ranking by {metric}; --dataset, --shots or --method shows whole leaderboards, below "
        f"{MAX_RANKINGS + 1} of them",
        caption_justify="left",
    )
    for name in ("data set", "shots", "level", "validation", "label sets"):
        table.add_column(name)
    firsts = list(rankings(ranked.filter(pc.equal(ranked["rank"], 1))))
    apart = [words_apart(shared, [other for other, _ in firsts], said=_COLUMNED) for shared, _ in firsts]
    if any(apart):
        table.add_column("under")
    for name in ("method", "configuration", METRICS[metric].title, "95 %", "tried"):
        table.add_column(name, justify="left" if name in ("method", "configuration") else "right")
    for (shared, (best, *_)), words in zip(firsts, apart, strict=True):
        interval = "" if best["low"] is None else f"{best['low']:.2f}–{best['high']:.2f}"
        shown = {**shared, "shots": shots_word(shared["shots"])}
        place = tuple(str(shown[name]) for name in _COLUMNED) + (", ".join(words),) * any(apart)
        score = score_text(best[metric_for(shared["level"], metric)])
        found = (best["predictor"], best["config_id"][:6], score, interval, str(best["num_tried"]))
        table.add_row(*place, *found)
    return table


def _ranking_table(
    shared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], found: "Board", metric: str, apart: Sequence[str]
) -> "Table":
    from rich.table import Table

    from sparse_search.analysis.leaderboard import SELECTED
    from sparse_search.results.trials import shots_text

    first = METRICS[metric]
    known = (each for each in family_at(shared["level"]).columns if any(row[each.name] is not None for row in rows))
    others = [each for each in known if each != first]
    data = "official data" if rows[0]["official"] else f"data {shared['content_hash'][:8]}, not the official file"
    scored = f"{rows[0]['num_images']:g} {_LEVELS[shared['level']]}"
    values = [_values(row, first, others) for row in rows]
    shown, dropped = _fitting(rows, values, [*(each.head for each in reversed(others)), "seconds", "tried"])
    table = Table(
        title=f"{shared['dataset']}, {shots_text(rows[0])} · {shared['image_size']} px · {shared['validation']} "
        f"validation of {scored} · label sets {shared['label_sets']} · {' · '.join([data, *apart])}",
        title_justify="left",
        caption=f"ranked by {_ranked_by(first)} on validation images, {SELECTED[shared['selection']]}, mean over label "
        f"sets; {found.covers}; a best of many tries is optimistic"
        + f"; a wider terminal has {', '.join(dropped)} too"
        * bool(dropped),
        caption_justify="left",
    )
    table.add_column("#", justify="right")
    table.add_column("method", no_wrap=True)
    table.add_column("configuration", ratio=1, overflow="fold")
    for head in shown:
        table.add_column(head, justify="right", no_wrap=True)
    for row, of_row in zip(rows, values, strict=True):
        configuration = _settings_text(row, found.searched[row["method"]])
        table.add_row(str(row["rank"]), row["predictor"], configuration, *(of_row[head] for head in shown))
    return table


def _ranked_by(metric: Metric) -> str:
    unit = f" in {metric.unit}" if metric.unit else ""
    return f"{metric.name}{unit} ({'larger' if metric.sign > 0 else 'smaller'} is better)"


def _values(row: Mapping[str, Any], first: Metric, others: Sequence[Metric]) -> dict[str, str]:
    """Numbers of a row of a leaderboard by heading: what it is ranked by with its interval, then the other metrics."""
    interval = "" if row["low"] is None else f"{row['low']:.2f}–{row['high']:.2f}"
    return {
        first.head: score_text(row[first.name]),
        "95 %": interval,
        **{each.head: score_text(row[each.name]) for each in others},
        "tried": str(row["num_tried"]),
        "seconds": f"{row['train_seconds']:.1f}",
    }


def _fitting(
    rows: Sequence[Mapping[str, Any]], values: Sequence[Mapping[str, str]], least_needed: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Headings that leave configurations their width in the console, and those dropped for it, least needed first."""
    widths = {head: 3 + max(len(head), *(len(of_row[head]) for of_row in values)) for head in values[0]}
    names = max(len("method"), *(len(row["predictor"]) for row in rows))
    room = console().width - len(f"│ {rows[-1]['rank']} │  │  │") - names - _MIN_CONFIGURATION_WIDTH
    dropped: list[str] = []
    for head in least_needed:
        if sum(width for each, width in widths.items() if each not in dropped) > room:
            dropped.append(head)
    return [head for head in values[0] if head not in dropped], [head for head in values[0] if head in dropped]


def _settings_text(row: Mapping[str, Any], searched: Sequence[str]) -> str:
    import json

    config = json.loads(row["config_json"])
    inactive = row["inactive"].split(", ")
    names = [name for name in searched if name in config and name not in inactive]
    values = " ".join(f"{name}={setting_text(config[name])}" for name in names[:_MAX_SETTINGS])
    more = f" … {len(names) - _MAX_SETTINGS} more" if len(names) > _MAX_SETTINGS else ""
    start = f"({row['start']}) " if row["start"] else ""
    return f"{row['config_id'][:6]} {start}{values}{more}"


def _unranked_line(row: Mapping[str, Any], where: str = "") -> str:
    from textwrap import shorten

    last_line = (row["reason"].strip().splitlines() or [""])[-1]  # of a traceback: the error
    why = f", {shorten(last_line, 100, placeholder=' …')}" if last_line else ""
    why = printable(why)
    return f"not ranked: {row['method']} {row['config_id'][:6]} ({row['start']}){where}: {row['status']}{why}"


def print_lines(lines: Iterable[str]) -> None:
    """Sentences, broken at the width of the console."""
    from textwrap import fill

    for line in lines:
        typer.echo(fill(printable(line), console().width - 2, subsequent_indent="  ", break_long_words=False))


def _print_published(row: Mapping[str, Any]) -> dict[str, str]:
    """Print the papers' numbers for the same data set and shots; return what to know of each paper."""
    from sparse_search.analysis.published import published

    tables: dict[tuple[str, str], list[str]] = {}
    notes: dict[str, str] = {}
    name = re.split("[@:]", row["dataset"])[0]
    for found in published(name, row["shots"], in_all=row["shots_in_all"]).to_pylist():
        if found["metric"].startswith("patch_") == (row["level"] == "patch"):
            tables.setdefault((found["paper"], found["metric"]), []).append(f"{found['method']} {found['value']:.3f}")
            notes[found["paper"]] = found["note"]
    print_lines(
        f"printed in the {paper} paper, {metric} on test images: {', '.join(values)}"
        for (paper, metric), values in tables.items()
    )
    return notes
