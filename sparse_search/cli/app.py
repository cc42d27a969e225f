"""Command line: parses and prints; every command is a Python function elsewhere.

Imports stand inside the commands, so that help and queries never wait for torch or ray.
"""

import signal
import sys
import warnings
from enum import StrEnum
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from search_spaces.core.errors import ConfigError, UserError
from sparse_search.cli.best import BEST_COMMANDS
from sparse_search.cli.cluster import CLUSTER_COMMANDS
from sparse_search.cli.datasets import datasets_command
from sparse_search.cli.doctor import DOCTOR_COMMANDS
from sparse_search.cli.findings import (
    look_table,
    print_comparison,
    print_importance,
    print_methods,
    print_overall,
    print_portfolio,
    print_settings,
)
from sparse_search.cli.imports import without_pandas
from sparse_search.cli.options import (
    DEFAULT_RESULTS,
    ByMetric,
    DataRoot,
    OnlyDataset,
    OnlyMethod,
    OnlyPretrained,
    OnlyShots,
    Results,
    SweepFile,
)
from sparse_search.cli.printing import console, print_answer, print_leaderboard, print_lines, show_warning
from sparse_search.results.texts import printable
from trainables.core.home import ensure_home
from trainables.metrics.table import DEFAULT_METRIC

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the method and settings that work best on your medical images at your label budget.\n\n"
    "Quick start:  sparse-search demo\n\n"
    "Your sweep:   sparse-search run sweep.yaml --data-root DIR, then leaderboard, recommend, export. The same `run` "
    "goes on after any interruption. Nothing but `evaluate` reads a test label.",
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"sparse-search {version('sparse-search')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


class Covers(StrEnum):
    """Variation that the intervals of a leaderboard cover."""

    images = "images"
    label_sets = "label-sets"


class Format(StrEnum):
    """Format in which a leaderboard is printed."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    markdown = "markdown"
    latex = "latex"


@app.command("run")
def run_command(
    sweep: SweepFile,
    results: Results = DEFAULT_RESULTS,
    data_root: DataRoot = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Try again what failed for good, once its cause is mended.")
    ] = False,
) -> None:
    """Run a sweep, or go on with it: the same command.

    Kill it at any moment and type the same line again: nothing is lost, nothing is repeated. Raise `trials` in the
    file and only the difference is run. From another shell, `status --watch` shows the same table.

    Exit code 0: the plan is complete, or `max_hours` ended it;
    1: some trials failed for good; 2: something to mend first; 130: stopped, by Ctrl-C or SIGTERM.
    """
    raise typer.Exit(_run(sweep, results, data_root, retry_failed))


@app.command("status")
def status_command(
    sweep: SweepFile,
    results: Results = DEFAULT_RESULTS,
    data_root: DataRoot = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it until the sweep is over or you leave.")
    ] = False,
) -> None:
    """Show where a sweep stands, also while it runs.

    Looks only: from another shell, or from any machine that sees the results folder. The data are not needed.
    """
    from sparse_search.execution.status import status_of
    from sparse_search.execution.status_table import status_table, watch_status

    look = status_of(sweep, results)
    if watch:
        watch_status(look, console())
    else:
        console().print(status_table(look()))


@app.command("leaderboard")
@without_pandas()
def leaderboard_command(
    dataset: OnlyDataset = None,
    shots: OnlyShots = None,
    method: OnlyMethod = None,
    metric: ByMetric = DEFAULT_METRIC,
    every: Annotated[
        bool, typer.Option("--all", help="Every configuration, not only the best and the presets.")
    ] = False,
    pretrained: OnlyPretrained = None,
    ci: Annotated[Covers, typer.Option("--ci", help="What the intervals cover.")] = Covers.images,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
    sql: Annotated[
        str, typer.Option(metavar="QUERY", help="Answer this instead: one SELECT; --schema lists the tables.")
    ] = "",
    schema: Annotated[bool, typer.Option("--schema", help="List what --sql can ask for.")] = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Rank what is finished by validation scores.

    Shows, per method, the best configuration and beside it the default and the presets; below, those of them that have
    no score, and why. Averages of what was tried are ranked among them; `recommend` says what to expect of these. What
    cannot be compared (other data, validation, image size, pretraining or selection) is ranked apart.
    """
    if sql or schema:
        from sparse_search.analysis.sql import schema_text
        from sparse_search.analysis.sql import sql as answer

        if schema:
            typer.echo(schema_text())
        else:
            print_answer(answer(results, sql), format)
        return
    from sparse_search.analysis.expectation import expectations
    from sparse_search.analysis.leaderboard import board
    from sparse_search.results.ledger import ledger_doubts, num_looks
    from sparse_search.results.mirror import read_store

    store = read_store(results)
    found = board(
        store, dataset=dataset, shots=shots, method=method, metric=metric, every=every, covers=ci,
        pretrained=pretrained,
    )  # fmt: skip
    expected = partial(expectations, store, metric, dataset=dataset, shots=shots, method=method)
    print_leaderboard(found, metric, format, num_looks(store.folder), expected)
    for line in ledger_doubts(store.folder):
        typer.echo(f"test ledger: {printable(line)}", err=True)


@app.command("compare")
def compare_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B]", help="Methods, predictors or configurations; all methods when left out."),
    ] = None,
    dataset: OnlyDataset = None,
    shots: OnlyShots = None,
    metric: ByMetric = DEFAULT_METRIC,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Compare two methods, or all, on the label sets they share.

    Pairs the best configuration of each per data set and shot count, and says how sure the difference is, how unequal
    the search was, and what the choice among many has flattered.
    """
    from sparse_search.analysis.comparison import compare, compare_all

    if names and len(names) != 2:
        raise ConfigError(f"expected two names to compare, or none for all methods; got {', '.join(names)}")
    if names:
        print_comparison(compare(results, *names, metric=metric, dataset=dataset, shots=shots))
    else:
        print_overall(compare_all(results, metric=metric, dataset=dataset, shots=shots))


@app.command("importance")
def importance_command(
    dataset: OnlyDataset = None,
    shots: OnlyShots = None,
    method: OnlyMethod = None,
    metric: ByMetric = DEFAULT_METRIC,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Show which settings mattered, over all studies and in each.

    PED-ANOVA on the trials of the searches, set against shuffled scores: what chance alone would give is taken off, and
    a setting counts as clear only where chance can be ruled out at 5 %.
    """
    from sparse_search.analysis.importance import importance

    print_importance(importance(results, dataset=dataset, shots=shots, method=method, metric=metric))


@app.command("curves")
def curves_command(
    dataset: OnlyDataset = None,
    shots: OnlyShots = None,
    method: OnlyMethod = None,
    metric: ByMetric = DEFAULT_METRIC,
    worth: Annotated[
        bool, typer.Option("--worth", help="Instead: the best of n and the average of n, against n, on new images.")
    ] = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Print, as CSV, the best score so far against its cost.

    A line for each trial, with what the search had cost by then. With --worth, what a search of n configurations is
    expected to bring, when the best is chosen and when they are averaged. The report draws both.
    """
    from sparse_search.analysis.curves import best_and_average, best_so_far

    curve = best_and_average if worth else best_so_far
    frame = curve(results, dataset=dataset, shots=shots, method=method, metric=metric)
    frame.to_csv(sys.stdout, index=False)


@app.command("report")
def report_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("report.html"),
    dataset: OnlyDataset = None,
    shots: OnlyShots = None,
    metric: ByMetric = DEFAULT_METRIC,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write everything onto one page, to open, print or send.

    It needs no network. On it are leaderboards with intervals, learning curves, best against compute, importance,
    parallel coordinates, pseudo-label health, cost, and how honest all this is.
    """
    from sparse_search.pages.page import report

    report(results, output, dataset=dataset, shots=shots, metric=metric)
    typer.echo(f"{output}: open it in a browser")


for _name, _command in {**BEST_COMMANDS, **CLUSTER_COMMANDS, **DOCTOR_COMMANDS}.items():
    app.command(_name)(_command)


@app.command("ledger")
def ledger_command(results: Results = DEFAULT_RESULTS) -> None:
    """List every look at test labels: who, when, why."""
    from sparse_search.results.ledger import ledger_doubts, readable_looks
    from sparse_search.results.mirror import read_store

    folder = read_store(results).folder
    seen, doubtful = readable_looks(folder), ledger_doubts(folder)
    if seen or not doubtful:
        console().print(look_table(seen) if seen else "nobody has looked at a test set")
    for line in doubtful:
        typer.echo(f"doubtful: {printable(line)}")


@app.command("transfer")
def transfer_command(
    method: Annotated[str, typer.Option(help="Of this method.")],
    size: Annotated[int, typer.Option(min=1, help="How many configurations.")] = 3,
    metric: ByMetric = DEFAULT_METRIC,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Show configurations that did well across data sets.

    A sweep with `transfer: 3` tries them right after the default. The table says what such a choice is worth: each
    place is left out once, and what the others propose is ranked there.
    """
    from sparse_search.search.transfer import transfer

    print_portfolio(transfer(results, method, size=size, metric=metric))


@app.command("methods")
def methods_command(
    method: Annotated[str | None, typer.Argument(help="One of them: its presets, defaults and search ranges.")] = None,
) -> None:
    """List the methods, or the settings of one."""
    if method:
        print_settings(method)
    else:
        print_methods()


app.command("datasets")(datasets_command)


@app.command("demo")
def demo_command(results: Results = DEFAULT_RESULTS) -> None:
    """Run a real sweep on bundled images in minutes.

    SPARSE and a supervised classifier on scikit-learn's digits, 5 labelled images per class; then the leaderboard
    and its answer, the average of what was tried.
    """
    from sparse_search.best.export import export, write_export
    from sparse_search.results.mirror import store_at

    sweep = Path(__file__).parent / "demo.yaml"
    typer.echo("Searching settings of SPARSE and of a supervised classifier on 8 px digits, 5 labelled images a class.")
    code = _run(sweep, results, None)
    leaderboard_command(dataset="digits", shots=5, results=results)
    best = store_at(results).folder / "sweeps" / "demo" / "best.yaml"
    write_export(export(results, dataset="digits", shots=5), best)
    typer.echo(f"its answer:      {best}\ntrain it again:  python -m trainables --config {best}")
    raise typer.Exit(code)


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2, never a traceback."""
    ensure_home()
    sys.path.insert(0, str(Path.cwd()))  # a user's own method, `module:ATTRIBUTE`, lies beside the sweep
    warnings.showwarning = show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know no `…`
    try:
        app()
    except (UserError, OSError) as mistake:
        print(f"error: {printable(' '.join(str(mistake).split()))}", file=sys.stderr)
        sys.exit(2)


def _run(sweep: Path, results: str, data_root: Path | None, retry_failed: bool = False) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = console()
    try:
        from sparse_search.execution.run import run
        from sparse_search.execution.status_table import status_table

        summary = run(sweep, results, data_root=data_root, retry_failed=retry_failed, console=screen)
    except KeyboardInterrupt:
        screen.print("stopped; nothing is lost: the same command goes on")
        return 130
    screen.print(status_table(summary.studies))
    for failure in summary.failures:
        print(f"failed: {printable(failure)}", file=sys.stderr)
    if summary.failures:
        print("mend the cause, then try these again:  sparse-search run … --retry-failed", file=sys.stderr)
    screen.print(f"cost: {summary.cost}", highlight=False, soft_wrap=True)
    if summary.out_of_time:
        screen.print("stopped by max_hours; nothing is lost: raise it, and the same command goes on")
    print_lines(summary.expected)
    for path in summary.leaderboards:
        screen.print(f"leaderboard: {path}", highlight=False, soft_wrap=True)
    return 0 if summary.ok else 1
