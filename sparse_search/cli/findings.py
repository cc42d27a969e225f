"""Output of commands that set things side by side: methods, settings, looks at the test set, what there is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from sparse_search.cli.printing import console, print_lines
from sparse_search.results.texts import score_text, setting_text
from trainables.core.shots import shots_title, shots_word
from trainables.metrics.table import CLASSES, FAMILIES, METRICS, Origin

if TYPE_CHECKING:
    from rich.table import Table

    from search_spaces.core.config import MethodConfig
    from sparse_search.analysis.comparison import Comparison, OverallComparison
    from sparse_search.analysis.importance import Importance
    from sparse_search.best.picture_rules import Judged
    from sparse_search.best.retrain import Reproduction
    from sparse_search.results.ledger import Look
    from sparse_search.search.transfer import Portfolio


def print_reproduction(found: "Reproduction") -> None:
    """Print whether a configuration does again what its file says, and what may be the reason where it does not."""
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

    mains = [family.default for family in FAMILIES.values()]
    table = Table(
        caption=f"test and validation: {', or '.join(METRICS[name].title for name in mains)}, of the same networks, "
        "mean over label sets; 95 % interval from the number of test images alone",
        caption_justify="left",
    )
    for name in ("when", "who", "why", "data set", "shots", "method", "configuration"):
        table.add_column(name, overflow="fold", no_wrap=name == "when")
    for name in ("test", "95 %", "accuracy", "validation"):
        table.add_column(name, justify="right")
    for look in looks:
        for predictor, test in look.test.items():
            main = next((name for name in mains if test.get(name) is not None), CLASSES.default)
            low, high = test.get("low"), test.get("high")
            ends = "-" if low is None or high is None else f"{low:.2f}–{high:.2f}"
            table.add_row(
                look.when.replace("+00:00", "Z"), look.who, look.why, look.dataset, str(shots_word(look.shots)),
                predictor, look.config_id[:6], score_text(test.get(main)), ends,
                score_text(test.get("accuracy")), score_text(look.validated[predictor].get(main)),
            )  # fmt: skip
    return table


def print_portfolio(found: "Portfolio") -> None:
    """Print what to try first, as settings, and what that was worth where it can be told."""
    from rich.table import Table

    from search_spaces.core.config import write_config
    from search_spaces.core.ranges import inactive_fields, space_of

    typer.echo(f"from {', '.join(found.settings)}:")
    for config in found.configs:
        values = write_config(config)
        inactive = inactive_fields(type(config), values)
        active = (name for name in space_of(type(config)) if name not in inactive)
        typer.echo("  " + " ".join(f"{name}={setting_text(values[name])}" for name in active))
    if not found.left_out:
        typer.echo("one setting alone: what it is worth elsewhere cannot be told")
        return
    table = Table(
        caption="ranks among the configurations trained in the setting, 1 is the best; the portfolio is made from the "
        "other settings, its rank predicted by a random forest where it was not trained; best random: expected of as "
        "many configurations",
        caption_justify="left",
    )
    for name in ("left out", "portfolio", "default", "best random"):
        table.add_column(name, justify="left" if name == "left out" else "right")
    for setting in found.left_out:
        table.add_row(
            setting.title, *(score_text(each) for each in (setting.portfolio, setting.default, setting.random))
        )
    console().print(table)


def print_rules(judged: "Sequence[Judged]", metric: str) -> None:
    """Print what each rule makes of the same predictions."""
    from rich.table import Table

    located = Origin.PATCHES  # no rule moves it
    names = dict.fromkeys([metric, *(each.name for each in CLASSES.columns if each.origin is not located)])
    of_pictures = not isinstance(judged[0].rule, str)
    about = "pictures at the last evaluation, none judged by a threshold that it chose" if of_pictures else "images"
    table = Table(
        caption=f"validation {about}; the best of {len(judged)} rules is flattered by being the best",
        caption_justify="left",
    )
    rules = ("aggregate", "threshold") if of_pictures else ("decision",)
    for name in (*rules, *names, "95 %"):
        words = METRICS[name].head if name in METRICS else name
        table.add_column(words, justify="left" if name in rules else "right")
    for each in judged:
        ends = "-" if each.low is None else f"{each.low:.3f} … {each.high:.3f}"
        rule = (each.rule,) if isinstance(each.rule, str) else (each.rule.aggregate, each.rule.threshold)
        table.add_row(*rule, *(score_text(each.scores[name]) for name in names), ends)
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
            cell.ranking["dataset"], str(shots_word(cell.ranking["shots"])),
            score_text(cell.a.score), score_text(cell.b.score),
            f"{cell.difference:+z.3f}", _signed(cell.interval), str(cell.num_label_sets),
        )  # fmt: skip
    console().print(table)
    about = "data sets like these" if found.about_others else "these data sets"
    lines = [
        f"mean over data sets {found.difference:+z.4f}, 95 % {_signed(found.interval)} for {about}",
        f"{found.record} data sets better, equal, worse; "
        f"better on a label set with probability {found.probability_of_improvement:.2f}",
        f"Wilcoxon signed-rank p = {found.p_value:.4f}, rank-biserial {found.rank_biserial:+z.2f}"
        if found.p_value is not None
        else "",
        *(f"note: {note}" for note in found.notes),
    ]
    print_lines(filter(None, lines))


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
        table.add_row(method, *map(score_text, scores), score_text(sum(scores) / len(scores)), *rank)
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
            f"{test.a} against {test.b}: {test.difference:+z.4f}, {test.record}, adjusted p = "
            f"{test.adjusted_p_value:.4f}"
        )
    print_lines([*lines, *(f"note: {note}" for note in found.notes)])


def print_importance(found: "Sequence[Importance]") -> None:
    """Settings by method and study, the most important first; where it cannot be told, why."""
    if not found:
        typer.echo("nothing to tell: no searched configuration was trained to its end yet, only defaults and presets")
    for each in found:
        shared = each.shared
        where = f"{shared['dataset']}, {shots_title(shared['shots'])}" if shared else "all studies pooled"
        counted = f"{each.num_trials} trials in {each.num_studies} {'studies' if each.num_studies > 1 else 'study'}"
        typer.echo(f"{each.method}, {where} ({counted})")
        width = max((len(setting.name) for setting in each.settings), default=0)
        for setting in each.settings:
            bar = "█" * round(30 * setting.share)
            clear = "  clear" if setting.clear else ""
            typer.echo(f"  {setting.name:{width}}  {setting.share:4.0%}  {bar}{clear}")
        if each.doubt:
            print_lines([f"  {each.doubt}"])


def print_methods() -> None:
    """Every method in a line."""
    from rich.table import Table

    from search_spaces.core.methods import about, config_of, configured_methods
    from search_spaces.core.ranges import space_of

    table = Table(caption="sparse-search methods NAME lists the settings that are searched, module:ATTRIBUTE your own")
    for column in ("method", "what it is", "presets", "settings"):
        table.add_column(column, no_wrap=column == "method", justify="right" if column == "settings" else "left")
    for name in configured_methods():
        config = config_of(name)
        table.add_row(name, about(config), ", ".join(config.presets) or "-", str(len(space_of(config))))
    console().print(table)


def print_settings(method: str) -> None:
    """Print what of a method is searched: defaults, ranges and conditions.

    Raises:
        ConfigError: no such method.
    """
    from rich.table import Table

    from search_spaces.core.methods import about, config_of
    from search_spaces.core.ranges import conditions_of, space_of

    config = _own_config(method) if ":" in method else config_of(method)
    space, conditions = space_of(config), conditions_of(config)
    words = about(config)
    named = words.casefold().startswith(f"{method.casefold()}:")
    print_lines([words if named else f"{method}: {words}", f"presets: {', '.join(config.presets) or 'none'}"])
    if not space:
        typer.echo("nothing to search")
        return
    table = Table()
    table.add_column("searched", no_wrap=True)
    for column in ("default", "range", "only when"):
        table.add_column(column, overflow="fold")
    for name, range_ in space.items():
        when = " and ".join(map(str, conditions.get(name, ())))
        table.add_row(name, f"{getattr(config, name)}", f"{range_}", when)
    console().print(table)


def _own_config(method: str) -> "type[MethodConfig]":
    from trainables.core.method import find_method  # seconds

    return find_method(method).config


def _signed(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+z.3f} to {interval[1]:+z.3f}"
