"""What commands print on a terminal: tables for people, one line for what has no table."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from rich.console import Console
    from rich.table import Table

    from sparse_search.comparison import Comparison, OverallComparison
    from sparse_search.importance import Importance
    from sparse_search.leaderboard import Board
    from sparse_search.ledger import Look
    from sparse_search.retrain import Reproduction, Tell
    from sparse_search.transfer import Portfolio


def console() -> "Console":
    """A console as wide as the terminal, and wide enough for a leaderboard where there is none."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=150)


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
        typer.echo(f"warning: {message}", err=True)
    else:
        typer.echo(warnings.formatwarning(message, category, filename, lineno), err=True, nl=False)


@contextmanager
def training_bar() -> "Iterator[Tell]":
    """A bar for what is trained, where there is a terminal."""
    from rich.progress import Progress

    screen = console()
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("training", total=1.0)
        yield lambda about, share: bar.update(task, description=f"training, {about}", completed=share)


def print_leaderboard(found: "Board", metric: str, format: str, num_looks: Mapping[str, int]) -> None:
    """Rankings in a format; as tables, with what is not ranked and how often the test set was looked at."""
    from sparse_search.formats import FORMATS

    if format in FORMATS:
        sys.stdout.buffer.write(FORMATS[format](found.ranked, metric))
    else:
        _print_rankings(found, metric, num_looks)


def print_answer(table: "pa.Table", format: str) -> None:
    """What a query answers: as a table for people, or in a format."""
    from sparse_search.formats import FORMATS

    if format in FORMATS:
        sys.stdout.buffer.write(FORMATS[format](table, ""))
        return
    from rich.table import Table

    shown = Table()
    for name in table.column_names:
        shown.add_column(name, overflow="fold")
    for row in table.to_pylist():
        shown.add_row(*("" if value is None else _short(value) for value in row.values()))
    console().print(shown)


def _print_rankings(found: "Board", metric: str, num_looks: Mapping[str, int]) -> None:
    """Every ranking, and below it the defaults and presets that it lacks; at the end those that have no ranking."""
    from sparse_search.leaderboard import rankings

    searched, unranked = found.searched, found.unranked
    papers: dict[str, str] = {}
    for shared, rows in rankings(found.ranked):
        console().print(_ranking_table(shared, rows, searched, metric))
        papers |= _print_published(shared["dataset"], shared["shots"])
        if times := num_looks.get(shared["content_hash"]):
            typer.echo(
                f"test labels of these data: looked at {times} time{'s' * (times > 1)}, see `sparse-search ledger`"
            )
        lacking = [row for row in unranked if shared.items() <= row.items()]
        for row in lacking:
            typer.echo(_unranked_line(row))
        unranked = [row for row in unranked if row not in lacking]
    for row in unranked:
        typer.echo(_unranked_line(row, f" on {row['dataset']}, {row['shots']} shots"))
    _print_lines(f"about the {paper} paper: {note}" for paper, note in papers.items())


def _ranking_table(
    shared: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    searched: Mapping[str, Sequence[str]],
    metric: str,
) -> "Table":
    from rich.table import Table

    from sparse_search.leaderboard import SELECTED, SMALLER_IS_BETTER

    data = "official data" if rows[0]["official"] else f"data {shared['content_hash'][:8]}, not the official file"
    table = Table(
        title=f"{shared['dataset']}, {shared['shots']} shots · {shared['image_size']} px · {shared['validation']} "
        f"validation of {rows[0]['num_images']:g} images · label sets {shared['label_sets']} · {data}",
        title_justify="left",
        caption=f"ranked by {metric} ({'smaller' if metric in SMALLER_IS_BETTER else 'larger'} is better) on "
        f"validation images, {SELECTED[shared['selection']]}, mean over label sets; 95 % interval from the number of "
        "images alone; a best of many tries is optimistic",
        caption_justify="left",
    )
    extra = [] if metric in ("balanced_accuracy", "accuracy", "auroc") else [metric]
    table.add_column("#", justify="right")
    table.add_column("method")
    table.add_column("configuration", ratio=1, overflow="fold")
    for name in (*extra, "balanced acc.", "95 %", "accuracy", "AUROC", "tried", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*_cells(row, searched[row["method"]], metric, extra))
    return table


def _cells(row: Mapping[str, Any], searched: Sequence[str], metric: str, extra: Sequence[str]) -> list[str]:
    interval = "" if row["low"] is None else f"{row['low']:.2f}–{row['high']:.2f}"
    return [
        str(row["rank"]),
        row["predictor"],
        _settings_text(row, searched),
        *(_score(row[name]) for name in (*extra, "balanced_accuracy")),
        interval,
        _score(row["accuracy"]),
        _score(row["auroc"]),
        str(row["num_tried"]),
        f"{row['train_seconds']:.1f}",
    ]


def _settings_text(row: Mapping[str, Any], searched: Sequence[str]) -> str:
    import json

    config = json.loads(row["config_json"])
    inactive = row["inactive"].split(", ")
    values = (f"{name}={_short(config[name])}" for name in searched if name in config and name not in inactive)
    start = f"({row['start']}) " if row["start"] else ""
    return f"{row['config_id'][:6]} {start}{' '.join(values)}"


def _unranked_line(row: Mapping[str, Any], where: str = "") -> str:
    from textwrap import shorten

    last_line = (row["reason"].strip().splitlines() or [""])[-1]  # of a traceback: the error
    why = f", {shorten(last_line, 100, placeholder=' …')}" if last_line else ""
    return f"not ranked: {row['method']} {row['config_id'][:6]} ({row['start']}){where}: {row['status']}{why}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def print_reproduction(found: "Reproduction") -> None:
    """Whether a configuration does again what its file says, and what may be the reason where it does not."""
    interval = "" if found.low is None else f", 95 % interval {found.low:.4f} to {found.high:.4f}"
    typer.echo(f"{found.predictor}, {found.metric}: {found.expected!r} in the file{interval}; {found.found!r} now")
    for name, (then, now) in found.changed.items():
        typer.echo(f"  {name} was {then or 'unknown'}, is {now}")
    if found.is_equal:
        typer.echo("reproduced to the last digit")
    elif found.is_inside:
        typer.echo("reproduced: other digits, inside the interval")
    else:
        typer.echo("not reproduced: outside of what the file promises")


def look_table(looks: "Sequence[Look]") -> "Table":
    """The test ledger: a line for each predictor of each look."""
    from rich.table import Table

    table = Table(
        caption="test and validation: balanced accuracy of the same networks, mean over label sets; 95 % interval from "
        "the number of test images alone",
        caption_justify="left",
    )
    for name in ("when", "who", "why", "data set", "shots", "method", "configuration"):
        table.add_column(name, overflow="fold", no_wrap=name == "when")
    for name in ("test", "95 %", "accuracy", "validation"):
        table.add_column(name, justify="right")
    for look in looks:
        for predictor, test in look.test.items():
            table.add_row(
                look.when.replace("+00:00", "Z"), look.who, look.why, look.dataset, str(look.shots), predictor,
                look.config_id[:6], _score(test["balanced_accuracy"]), f"{test['low']:.2f}–{test['high']:.2f}",
                _score(test["accuracy"]), _score(look.validated[predictor]["balanced_accuracy"]),
            )  # fmt: skip
    return table


def print_portfolio(found: "Portfolio") -> None:
    """What to try first, as settings, and what that was worth where it can be told."""
    from rich.table import Table

    from search_spaces.core.config import write_config
    from search_spaces.core.ranges import inactive_fields, space_of

    typer.echo(f"from {', '.join(found.places)}:")
    for config in found.configs:
        values = write_config(config)
        inactive = inactive_fields(type(config), values)
        active = (name for name in space_of(type(config)) if name not in inactive)
        typer.echo("  " + " ".join(f"{name}={_short(values[name])}" for name in active))
    if not found.left_out:
        typer.echo("one place alone: what it is worth elsewhere cannot be told")
        return
    table = Table(
        caption="ranks among the configurations trained in the place, 1 is the best; the portfolio is made from the "
        "other places, its rank predicted by a random forest where it was not trained; best random: expected of as "
        "many configurations",
        caption_justify="left",
    )
    for name in ("left out", "portfolio", "default", "best random"):
        table.add_column(name, justify="left" if name == "left out" else "right")
    for place in found.left_out:
        table.add_row(place.title, *(_score(each) for each in (place.portfolio, place.default, place.random)))
    console().print(table)


def print_comparison(found: "Comparison") -> None:
    """Two methods: what they share, how far apart they are, and what a reader must know."""
    from rich.table import Table

    table = Table(
        title=f"{found.a} against {found.b}: {found.metric}, positive where {found.a} is better",
        title_justify="left",
        caption="95 % by bootstrap over label sets and validation images",
        caption_justify="left",
    )
    table.add_column("data set")
    for name in ("shots", found.a, found.b, "difference", "95 %", "label sets"):
        table.add_column(name, justify="right")
    for cell in found.cells:
        table.add_row(
            cell.ranking["dataset"], str(cell.ranking["shots"]), _score(cell.a.score), _score(cell.b.score),
            f"{round(cell.difference, 3) + 0.0:+.3f}", _signed(cell.interval), str(cell.num_label_sets),
        )  # fmt: skip
    console().print(table)
    about = "data sets like these" if found.about_others else "these data sets"
    lines = [
        f"mean over data sets {found.difference:+.4f}, 95 % {_signed(found.interval)} for {about}",
        f"{found.record} data sets better, equal, worse; "
        f"better on a label set with probability {found.probability_of_improvement:.2f}",
        f"Wilcoxon signed-rank p = {found.p_value:.4f}, rank-biserial {found.rank_biserial:+.2f}"
        if found.p_value is not None
        else "",
        *(f"note: {note}" for note in found.notes),
    ]
    _print_lines(filter(None, lines))


def print_overall(found: "OverallComparison") -> None:
    """All methods: means per data set, mean ranks, what is told apart."""
    from rich.table import Table

    table = Table(title=f"all methods: {found.metric}, mean over shot counts", title_justify="left")
    table.add_column("method")
    ranks = dict(zip(found.ranks.methods, found.ranks.mean_ranks, strict=True)) if found.ranks else {}
    for name in (*found.datasets, "mean", *(["mean rank"] if ranks else [])):
        table.add_column(name, justify="right")
    for method, scores in zip(found.methods, found.scores, strict=True):
        rank = [f"{ranks[method]:.2f}"] if ranks else []
        table.add_row(method, *map(_score, scores), _score(sum(scores) / len(scores)), *rank)
    console().print(table)
    lines = []
    if found.ranks:
        lines.append(
            f"Friedman p = {found.ranks.friedman_p_value:.4f}; mean ranks closer than "
            f"{found.ranks.critical_difference:.2f} are not told apart (Nemenyi)"
        )
        lines += [f"not told apart: {', '.join(clique)}" for clique in found.ranks.cliques]
    for test in found.tests:
        lines.append(
            f"{test.a} against {test.b}: {test.difference:+.4f}, {test.record}, adjusted p = "
            f"{test.adjusted_p_value:.4f}"
        )
    _print_lines([*lines, *(f"note: {note}" for note in found.notes)])


def print_importance(found: "Sequence[Importance]") -> None:
    """Settings by method and study, the most important first; where it cannot be told, why."""
    for each in found:
        where = f"{each.shared['dataset']}, {each.shared['shots']} shots" if each.shared else "all studies pooled"
        counted = f"{each.num_trials} trials in {each.num_studies} {'studies' if each.num_studies > 1 else 'study'}"
        typer.echo(f"{each.method}, {where} ({counted})")
        width = max((len(setting.name) for setting in each.settings), default=0)
        for setting in each.settings:
            bar = "█" * round(30 * setting.share)
            clear = "  clear" if setting.clear else ""
            typer.echo(f"  {setting.name:{width}}  {setting.share:4.0%}  {bar}{clear}")
        if each.doubt:
            _print_lines([f"  {each.doubt}"])


def print_methods() -> None:
    """Every method with its presets, ranges and conditions."""
    from rich.table import Table

    from search_spaces.core.ranges import conditions_of, space_of
    from trainables.core.method import find_method, method_names

    for name in method_names():
        config = find_method(name).config
        title = f"{name}: presets {', '.join(config.presets) or 'none'}"
        if not space_of(config):
            typer.echo(f"{title}, nothing to search\n")
            continue
        table, conditions = Table(title=title, title_justify="left"), conditions_of(config)
        for column in ("searched", "default", "range", "only when"):
            table.add_column(column)
        for field, range_ in space_of(config).items():
            when = " and ".join(map(str, conditions.get(field, ())))
            table.add_row(field, f"{vars(config)[field]}", f"{range_}", when)
        console().print(table)


def print_datasets(root: "Path | None") -> None:
    """The catalogue, and what of it is on this machine."""
    from rich.table import Table

    from trainables.data.catalog import CATALOG
    from trainables.data.source import available_sides, data_root

    table = Table(caption=f"files are looked for in {data_root(root)}; your own images: a path to an .npz or a folder")
    for column in ("data set", "classes", "channels", "train / val / test", "licence", "here at"):
        table.add_column(column)
    for name, info in CATALOG.items():
        sizes = " / ".join(f"{size:,}" for size in info.split_sizes)
        here = ", ".join(f"{side} px" for side in available_sides(name, root)) or "-"
        table.add_row(name, str(info.num_classes), str(info.channels), sizes, info.licence, here)
    console().print(table)


def _print_lines(lines: Iterable[str]) -> None:
    from textwrap import fill

    for line in lines:
        typer.echo(fill(line, console().width - 2, subsequent_indent="  ", break_long_words=False))


def _signed(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _print_published(dataset: str, shots: int) -> dict[str, str]:
    """What papers print for the same data set and shots, beside the ranking, not in it; what to know of each paper."""
    from sparse_search.published import published

    tables: dict[tuple[str, str], list[str]] = {}
    notes: dict[str, str] = {}
    for row in published(dataset.partition("@")[0], shots).to_pylist():
        tables.setdefault((row["paper"], row["metric"]), []).append(f"{row['method']} {row['value']:.3f}")
        notes[row["paper"]] = row["note"]
    _print_lines(
        f"printed in the {paper} paper, {metric} on test images: {', '.join(values)}"
        for (paper, metric), values in tables.items()
    )
    return notes
