"""One self-contained HTML page about a results folder: no network, no other file, the same for the same records."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from search_spaces.core.errors import ResultsError, UserError
from sparse_search.analysis.comparison import compare_all
from sparse_search.analysis.expectation import expectation_lines, expectation_of
from sparse_search.analysis.importance import importance_of
from sparse_search.analysis.leaderboard import SELECTED, check_metric, query, rank_trials, rankings, unranked_starts
from sparse_search.analysis.pairing import evidence_of
from sparse_search.analysis.significance import CriticalDifference
from sparse_search.analysis.worth import Addition
from sparse_search.pages.averages import averaged_of, with_averages, worth_panel
from sparse_search.pages.figures import NUM_SERIES, critical_difference_figure
from sparse_search.pages.panels import Panel, doubts, importance_panel, panels
from sparse_search.pages.tables import (
    BoardLine,
    MethodCost,
    Question,
    costs,
    reasons,
    runs_of,
    scale_of,
    table_rows,
    verdict,
)
from sparse_search.results.files import write_atomically
from sparse_search.results.headings import words_apart
from sparse_search.results.ledger import count_looks
from sparse_search.results.mirror import read_store
from sparse_search.results.rows import metric_of
from sparse_search.results.store import Store
from sparse_search.results.texts import score_text
from sparse_search.results.trials import RANKING, searched_settings, trials_of
from trainables.core.shots import ALL_SHOTS, shots_title, shots_word
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.table import DEFAULT_METRIC, METRICS, TIE_BREAKERS, family_at, metric_for

_MAX_ROWS, _MAX_ROWS_TOGETHER = 100, 800
_MAX_FIGURED = 12
"""Rankings with figures."""

_VALIDATION = {
    "realistic": "as many further labelled images as shots",
    "labelled-cv": "held-out folds of the few labelled images",
    "official": "the full validation split, which is more labels than a few-shot user has",
}


@dataclass(frozen=True)
class Section:
    """One ranking as the page shows it."""

    title: str
    key: str
    shared: Mapping[str, Any]
    verdict: str
    metric: str
    """Title of the metric that it is ranked by."""

    others: Sequence[str]
    """The other metrics of its rows."""

    rows: Sequence[BoardLine]
    num_rows: int
    scale: tuple[float, float] | None
    chance: float | None
    """Score of guessing, where it is known."""

    figured: bool
    """True where figures were asked for: a page with very many would be slow on a phone."""

    panels: Sequence[Panel]
    doubts: Sequence[str]
    additions: Sequence[Addition]
    unranked: Sequence[Mapping[str, Any]]
    costs: Sequence[MethodCost]
    reasons: Sequence[tuple[str, str, str, int]]
    honesty: Sequence[str]


@dataclass(frozen=True)
class Chapter:
    """A dataset at a number of shots: rankings that must not be mixed, the widest evidence first."""

    dataset: str
    shots: int
    in_all: bool
    """True where shots are counted in all, not per class."""

    key: str
    sections: Sequence[Section]

    @property
    def labelled(self) -> str:
        """Words for its labelled images, in a heading."""
        apart = "" if self.in_all or self.shots == ALL_SHOTS else " per class"
        return f"{shots_word(self.shots)} labelled images{apart}"

    @property
    def labels(self) -> str:
        """Words for its labelled images, in a list."""
        return f"{self.shots} labelled" if self.in_all and self.shots != ALL_SHOTS else shots_title(self.shots)


def report(
    results: Path | str = "results",
    path: Path | str = "report.html",
    *,
    dataset: str | None = None,
    shots: int | None = None,
    metric: str = DEFAULT_METRIC,
) -> Path:
    """Write everything that is known onto one self-contained HTML page, and return its path.

    Args:
        results: The results folder.
        path: The HTML file to write; whole or not at all.
        dataset: Only this one.
        shots: Only this number of labelled images.
        metric: What configurations are ranked by.

    Raises:
        ResultsError: no finished run answers the question, or the file cannot be written.
        ConfigError: an unknown metric.
    """
    check_metric(metric)
    store = read_store(results)
    runs = query(store, dataset=dataset, shots=shots, method=None).combine_chunks()
    curves = store.curves(dataset=dataset, shots=shots).combine_chunks()
    asked = {
        "dataset": dataset,
        "shots": None if shots is None else shots_title(shots),
        "metric": METRICS[metric].title,
    }
    differences = _differences(store, metric, dataset, shots)
    page = _page(store.address, runs, curves, metric, asked, count_looks(store.folder, dataset), differences)
    try:
        write_atomically(Path(path), page.encode())
    except OSError as problem:
        raise ResultsError(f"cannot write {path}: {problem.strerror}; name another file") from problem
    return Path(path)


def _differences(store: Store, metric: str, dataset: str | None, shots: int | None) -> CriticalDifference | None:
    """Compute what a critical-difference diagram shows; None with too few data sets or methods."""
    try:
        return compare_all(store.folder, metric=metric, dataset=dataset, shots=shots).ranks
    except UserError:
        return None


def _page(
    results: str,
    runs: pa.Table,
    curves: pa.Table,
    metric: str,
    asked: Mapping[str, Any],
    test_looks: int,
    differences: CriticalDifference | None,
) -> str:
    trials = trials_of(runs)
    ranked = rank_trials(trials, metric)
    importances = importance_of(runs, metric)
    methods = sorted(pc.unique(runs["method"]).to_pylist())
    series = {method: number % NUM_SERIES for number, method in enumerate([*methods, AVERAGE])}
    known = [name for name in METRICS if runs[name].null_count < len(runs)]
    questions = [
        Question(
            shared, rows, runs_of(shared, runs), curves, by := metric_for(shared["level"], metric), series,
            [name for name in known if name != by and name in family_at(shared["level"]).names],
            searched_settings(runs), importances, results,
        )
        for shared, rows in rankings(ranked)
    ]  # fmt: skip
    chapters = _chapters(questions, unranked_starts(trials), test_looks)
    script = files("sparse_search.pages").joinpath("templates/report.js").read_text()
    environment = Environment(
        loader=PackageLoader("sparse_search.pages"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = score_text
    environment.tests["a_tie_breaker"] = {METRICS[name].title for name in TIE_BREAKERS}.__contains__
    environment.tests["smaller_is_better"] = {each.title for each in METRICS.values() if each.sign < 0}.__contains__
    return environment.get_template("report.html").render(
        asked=asked,
        chapters=chapters,
        metric=METRICS[metric_of(runs, metric)].title,
        overview=_overview(chapters),
        totals=costs_together(costs(runs)),
        pooled=importance_panel([one for one in importances if not one.shared], series),
        pooled_doubts=doubts(importances, {}),
        differences=differences and critical_difference_figure(differences),
        newest=max(runs["finished_at"].to_pylist())[:10],
        test_looks=test_looks,
        versions=_versions(runs),
        script=Markup(script),
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )


def _order(level: str) -> tuple[bool, str]:
    """Generators come behind what learns from them."""
    return level == "generator", level


def _founded(question: Question) -> tuple[Any, ...]:
    """Key by which the question with the widest evidence comes first, the confirmed before all others."""
    has_more, is_confirmed, num_runs = evidence_of(question.rows)
    return *_order(question.shared["level"]), not has_more, not is_confirmed, -num_runs


def _chapters(questions: Iterable[Question], unranked: Sequence[Mapping[str, Any]], test_looks: int) -> list[Chapter]:
    found: dict[tuple[str, int], list[Question]] = defaultdict(list)
    for question in questions:
        found[question.shared["dataset"], question.shared["shots"]].append(question)
    most_rows = max(3, min(_MAX_ROWS, _MAX_ROWS_TOGETHER // max(1, sum(map(len, found.values())))))
    chapters, num_figured = [], 0
    for number, ((dataset, shots), own) in enumerate(sorted(found.items())):
        ordered = sorted(own, key=_founded)
        sections = []
        for position, question in enumerate(ordered):
            key, with_figures = f"part-{number}-{position}", num_figured < _MAX_FIGURED
            num_figured += with_figures
            sections.append(
                _section(question, ordered, key, unranked, most_rows, test_looks, with_figures=with_figures)
            )
        in_all = own[0].rows[0]["shots_in_all"]
        chapters.append(Chapter(dataset, shots, in_all, f"cell-{number}", sections))
    return chapters


def _section(
    question: Question,
    beside: Sequence[Question],
    key: str,
    unranked: Sequence[Mapping[str, Any]],
    most_rows: int,
    test_looks: int,
    *,
    with_figures: bool,
) -> Section:
    averaged, shared = averaged_of(question), question.shared
    rows = with_averages(table_rows(question, most_rows), averaged, question)
    worth = worth_panel(averaged.worth, question) if with_figures else None
    confusion = json.loads(question.rows[0]["confusion_json_list"][0])["confusion"]
    return Section(
        title=_title(shared, [other.shared for other in beside]),
        key=key,
        shared=shared,
        verdict=verdict(question),
        metric=METRICS[question.metric].title,
        others=[METRICS[name].title for name in question.others],
        rows=rows,
        num_rows=len(question.rows) + len(averaged.rows),
        scale=scale_of(rows, question.metric),
        chance=METRICS[question.metric].chance(len(confusion)),
        figured=with_figures,
        panels=[*filter(None, [worth]), *(panels(question) if with_figures else ())],
        additions=averaged.additions,
        doubts=doubts(question.importances, shared),
        unranked=[row for row in unranked if all(row[name] == shared[name] for name in RANKING)],
        costs=costs(question.runs),
        reasons=reasons(question.runs),
        honesty=_honesty(question, test_looks),
    )


def _title(shared: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]) -> str:
    """Words that tell a ranking from the others of its chapter; label sets always."""
    sets = shared["label_sets"]
    words = [f"Label set{'s' if ',' in sets or 'fresh' in sets else ''} {sets}"]
    words += [f"level {shared['level']}"] if len({one["level"] for one in beside}) > 1 else []
    return " · ".join([*words, *words_apart(shared, beside, said=("label_sets",))])


def _honesty(question: Question, test_looks: int) -> list[str]:
    """Sentences on what was selected by which images, at which cost in labels, and what the numbers do not say."""
    shared, first = question.shared, question.rows[0]
    tried = {row["method"]: row["num_tried"] for row in question.rows}
    expected = expectation_of(question.results, question.rows, question.metric)
    facts = [
        *(f"{line[0].upper()}{line[1:]}." for line in expectation_lines(expected)),
        f"Scores are on validation images ({shared['validation']}: "
        f"{_VALIDATION.get(shared['validation'], 'another mode')}), {SELECTED[shared['selection']]}.",
        _looks(test_looks),
        f"Every label set costs {first['label_budget']} labels, those to validate with included.",
        f"Configurations tried: {', '.join(f'{method} {count}' for method, count in sorted(tried.items()))}. "
        "The best of many is partly luck: expect less on new images, the less the more were tried.",
    ]
    if first["num_runs"] == 1:
        facts.append("One label set: how far scores move with other labelled images is not in the intervals.")
    elif first["is_confirmed"]:
        facts.append(
            f"Confirmation: the best of the search and its defaults, means over {first['num_runs']} runs on label sets "
            "that had no part in choosing them."
        )
    elif question.is_confirmation():
        facts.append(
            f"Confirmation: the best of the search and its defaults, means over {first['num_runs']} runs on the "
            "search's own label sets and on further ones that it never saw; the former still flatter."
        )
    else:
        facts.append(f"Means over {first['num_runs']} runs that the search itself looked at; no fresh label sets.")
    if first["low"] is not None:
        facts.append(
            "Intervals are 95 % Wilson intervals over the validation images, with the label sets held fixed: "
            "the least uncertainty there is, not all of it."
        )
    if not first["official"]:
        facts.append("The data file is not the official one (its checksum differs), so it never ranks beside it.")
    return facts


def _looks(count: int) -> str:
    if not count:
        return "The test set was not looked at."
    return f"The test set was looked at {count} time{'s' if count > 1 else ''}."


def _overview(chapters: Iterable[Chapter]) -> dict[str, Any] | None:
    """The best of each predictor in the widest ranking of each chapter; nothing where there is one chapter."""
    listed = list(chapters)
    if len(listed) < 2:
        return None
    tables: dict[str, dict[str, BoardLine]] = {}
    for chapter in listed:
        tables[chapter.key] = {row.predictor: row for row in reversed(chapter.sections[0].rows)}
    predictors = sorted({row.predictor for chapter in listed for section in chapter.sections for row in section.rows})
    return {"predictors": predictors, "tables": tables}


def costs_together(of_methods: Sequence[MethodCost]) -> dict[str, Any]:
    """Sums over methods, for the head of the page."""
    ended: dict[str, int] = defaultdict(int)
    for each in of_methods:
        for status, count in each.ended.items():
            ended[status] += count
    return {
        "trials": sum(ended.values()),
        "ended": dict(sorted(ended.items())),
        "images": sum(each.images for each in of_methods),
        "hours": sum(each.wall_seconds for each in of_methods) / 3600,
        "gpu_hours": sum(each.gpu_seconds for each in of_methods) / 3600,
    }


def _versions(runs: pa.Table) -> list[str]:
    """Versions of what trained, each with all that occur."""
    seen: dict[str, set[str]] = defaultdict(set)
    for text in pc.unique(runs["versions_json"]).to_pylist():
        for name, version in json.loads(text).items():
            seen[name].add(str(version)[:12])
    return [f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(seen.items())]
