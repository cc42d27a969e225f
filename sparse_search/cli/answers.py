"""Output of what a search has to recommend."""

from typing import TYPE_CHECKING

import typer

from sparse_search.cli.printing import console, print_lines
from sparse_search.results.texts import score_text
from trainables.core.shots import shots_title
from trainables.metrics.table import METRICS

if TYPE_CHECKING:
    from rich.table import Table

    from sparse_search.analysis.estimate import Expected
    from sparse_search.best.recommendation import Recommendation


def print_recommendation(found: "Recommendation") -> None:
    """Print the choices side by side, what a method adds, what the search was worth, and what to take."""
    from sparse_search.analysis.worth import worth_lines

    console().print(_choices_table(found))
    if found.additions:
        console().print(_additions_table(found))
    print_lines([*(worth_lines(found.worth, found.metric) if found.worth else ()), *found.notes])
    print_lines([found.sentence])
    typer.echo(f"  {found.command}")


def _choices_table(found: "Recommendation") -> "Table":
    from rich.table import Table

    metric = METRICS[found.metric]
    table = Table(
        title=f"{found.dataset}, {shots_title(found.shots)}: what to take",
        title_justify="left",
        caption=f"{metric.title}; judged: on the images that chose it, which flatters; models: that predict an image; "
        "seconds: to train them, on one label set",
        caption_justify="left",
    )
    table.add_column("answer")
    table.add_column("configuration", min_width=len("configuration"))
    for name in ("expected", "95 %", "judged", "models", "seconds"):
        table.add_column(name, justify="right")
    for each in found.choices:
        table.add_row(
            each.name, f"{each.predictor} {each.config_id[:6]}", _score(each.expected), _ends(each.expected),
            score_text(each.own_score), str(each.num_models), f"{each.train_seconds:.1f}",
        )  # fmt: skip
    return table


def _additions_table(found: "Recommendation") -> "Table":
    from rich.table import Table

    table = Table(
        title="what a method adds to the average of all",
        title_justify="left",
        caption="gain: with the method less without it, on the same draws of images, positive where it helps",
        caption_justify="left",
    )
    table.add_column("method")
    for name in ("tried", "alone", "others", "gain", "95 %"):
        table.add_column(name, justify="right")
    for each in found.additions:
        gain = "-" if each.gain is None else f"{each.gain.score:+z.3f}"
        ends = "-" if each.gain is None else f"{each.gain.low:+z.3f} to {each.gain.high:+z.3f}"
        table.add_row(each.method, str(each.num_members), _score(each.alone), _score(each.without), gain, ends)
    return table


def _score(each: "Expected | None") -> str:
    return "-" if each is None else score_text(each.score)


def _ends(each: "Expected | None") -> str:
    return "-" if each is None else f"{score_text(each.low, 2)}–{score_text(each.high, 2)}"
