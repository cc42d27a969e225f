"""Methods side by side, paired over everything they share; datasets, not runs, are the unit of every claim."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean

import pyarrow.compute as pc

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.expectation import expected_difference
from sparse_search.analysis.leaderboard import check_metric, query
from sparse_search.analysis.pairing import (
    Interval,
    Key,
    PairedCell,
    Side,
    evidence_of,
    paired_cell,
    scores_of,
    sides_of,
    widest,
)
from sparse_search.analysis.significance import (
    MIN_DATASETS,
    Correction,
    CriticalDifference,
    PairedTest,
    WinTieLoss,
    critical_difference,
    paired_tests,
    rank_biserial,
    wilcoxon_p_value,
    win_tie_loss,
)
from sparse_search.analysis.statistics import ScoredSetting, bootstrap_interval, probability_of_improvement
from sparse_search.results.mirror import read_store
from sparse_search.results.rows import metric_of
from sparse_search.results.store import Store
from sparse_search.results.trials import RANKING, RankedRow, shots_text
from trainables.metrics.table import DEFAULT_METRIC, family_of, sign_of

_MAX_EXPECTED = 12
"""Rankings whose predictions are read."""


@dataclass(frozen=True)
class DatasetDifference:
    """Mean difference over the cells of a dataset."""

    dataset: str
    difference: float
    interval: Interval | None
    num_cells: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides over all they share. Every difference is positive where `a` is better, whatever the metric."""

    a: str
    b: str
    metric: str
    cells: tuple[PairedCell, ...]
    datasets: tuple[DatasetDifference, ...]
    difference: float
    """Mean over datasets."""

    interval: Interval | None
    """95 %, hierarchical bootstrap; None where nothing says how sure."""

    about_others: bool
    """True where the interval is about datasets like these (from `MIN_DATASETS` on), not about exactly these."""

    record: WinTieLoss
    """Over datasets."""

    probability_of_improvement: float
    """That `a` beats `b` on a label set of a dataset."""

    p_value: float | None
    """Two-sided Wilcoxon signed-rank test over datasets; None with fewer than `MIN_DATASETS`."""

    rank_biserial: float
    optimism: tuple[float | None, float | None]
    """Mean optimism of `a` and of `b` over the cells where it can be estimated."""

    notes: tuple[str, ...]
    """Sentences that a reader must know."""


@dataclass(frozen=True, kw_only=True)
class OverallComparison:
    """All methods over the datasets that all of them have."""

    metric: str
    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    """Per method, per dataset: the mean over its cells, in the metric's own direction."""

    tests: tuple[PairedTest, ...]
    """All pairs, corrected together, positive where the first is better; empty with fewer than `MIN_DATASETS`."""

    ranks: CriticalDifference | None
    """None with fewer than `MIN_DATASETS` datasets or three methods."""

    notes: tuple[str, ...]


def compare(
    results: Path | str,
    a: str,
    b: str,
    *,
    metric: str = DEFAULT_METRIC,
    dataset: str | None = None,
    shots: int | None = None,
) -> Comparison:
    """Two methods, predictors or configurations, on the label sets that both were trained on.

    Of rankings that differ in nothing but the label sets, what was confirmed counts, else the one with the most.

    Args:
        results: folder of the results.
        a: a predictor, a method (then its best predictor counts) or the first digits of a configuration's name.
        b: what it is compared with.
        metric: as in `leaderboard`.
        dataset: only this one.
        shots: only these.

    Raises:
        ResultsError: no finished run answers the question, or the two share no label set.
        ConfigError: an unknown name or metric.
    """
    if a == b:
        raise ConfigError(f"'{a}' was given twice; name two methods, predictors or configurations to compare")
    store = read_store(results)
    runs = query(store, dataset=dataset, shots=shots, method=None)
    sides = sides_of(runs, (a, b), metric_of(runs, metric))
    levels = {key[RANKING.index("level")] for side in sides.values() for key in side}
    metric = metric_of(runs.filter(pc.field("level").isin(levels)), metric)
    scores = scores_of(runs, metric)
    paired: list[tuple[PairedCell, ScoredSetting]] = []
    keys = widest({key: evidence_of(rows) for key, rows in sides[a].items() if key in sides[b]})
    for key in keys:
        found = paired_cell(dict(zip(RANKING, key, strict=True)), sides[a][key], sides[b][key], scores, metric, results)
        if found:
            paired.append(found)
    if not paired:
        raise ResultsError(
            f"'{a}' and '{b}' have no label set in common on comparable data; "
            "train both in one sweep with split_policy shared, or look at the leaderboard what differs"
        )
    whole = _comparison(a, b, metric, paired, num_left_out=len(keys) - len(paired))
    expected = _expected_notes(store, f"{a} less {b}", [(sides[a][key], sides[b][key]) for key in keys], metric)
    return replace(whole, notes=(*whole.notes, *expected))


def compare_all(
    results: Path | str,
    *,
    methods: Sequence[str] | None = None,
    metric: str = DEFAULT_METRIC,
    dataset: str | None = None,
    shots: int | None = None,
    correction: Correction = "bh",
) -> OverallComparison:
    """Every predictor's best-ranked configurations, over the rankings that all predictors share.

    Args:
        results: folder of the results.
        methods: predictors, methods or configurations as in `compare`; every predictor of images, or of masks
            where the metric is one of masks, when not given.
        metric: as in `leaderboard`.
        dataset: only this one.
        shots: only these.
        correction: of the p-values of all pairs.

    Raises:
        ResultsError: no finished run answers the question, or the methods share no ranking.
        ConfigError: an unknown name or metric.
    """
    runs = query(read_store(results), dataset=dataset, shots=shots, method=None)
    metric = metric_of(runs, metric)
    check_metric(metric)
    own = runs.filter(pc.equal(runs["level"], family_of(metric).levels[0]))
    names = list(dict.fromkeys(methods or sorted(pc.unique(own["predictor"]).to_pylist())))
    if len(names) < 2:
        raise ConfigError(f"only {names[0]} is there to compare; name two methods or more, or run another")
    sides = sides_of(runs, names, metric)
    shared = [key for key in sides[names[0]] if all(key in side for side in sides.values())]
    keys = widest({key: evidence_of(sides[names[0]][key]) for key in shared})
    by_dataset: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        if all(side[key][0][metric] is not None for side in sides.values()):
            by_dataset[key[0]].append(key)
    if not by_dataset:
        counts = ", ".join(f"{name} {len(side)}" for name, side in sides.items())
        raise ResultsError(
            f"no ranking holds a score of all of them (rankings with one: {counts}); "
            "name those to compare, or run the others on the same datasets, shots and label sets"
        )
    table = {
        name: tuple(fmean(side[key][0][metric] for key in group) for group in by_dataset.values())
        for name, side in sides.items()
    }
    return _overall(metric, tuple(by_dataset), table, correction, num_left_out=_num_left_out(sides, keys))


def _comparison(
    a: str, b: str, metric: str, paired: Sequence[tuple[PairedCell, ScoredSetting]], *, num_left_out: int
) -> Comparison:
    cells = [cell for _, cell in paired]
    datasets = tuple(_dataset_differences(cells, metric))
    differences = [each.difference for each in datasets]
    enough = len(datasets) >= MIN_DATASETS
    optimism = (_mean(pair.a.optimism for pair, _ in paired), _mean(pair.b.optimism for pair, _ in paired))
    return Comparison(
        a=a,
        b=b,
        metric=metric,
        cells=tuple(pair for pair, _ in paired),
        datasets=datasets,
        difference=fmean(differences),
        interval=bootstrap_interval(cells, metric, draw_datasets=enough),
        about_others=enough,
        record=win_tie_loss(differences),
        probability_of_improvement=probability_of_improvement(cells),
        p_value=wilcoxon_p_value(differences) if enough else None,
        rank_biserial=rank_biserial(differences),
        optimism=optimism,
        notes=tuple(_notes(a, b, [pair for pair, _ in paired], optimism, len(datasets), num_left_out)),
    )


def _dataset_differences(cells: Sequence[ScoredSetting], metric: str) -> Iterator[DatasetDifference]:
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        own = [cell for cell in cells if cell.dataset == dataset]
        difference = round(fmean(fmean(cell.scores) for cell in own), 12)
        yield DatasetDifference(dataset, difference, bootstrap_interval(own, metric), len(own))


def _notes(
    a: str,
    b: str,
    cells: Sequence[PairedCell],
    optimism: tuple[float | None, float | None],
    num_datasets: int,
    num_left_out: int,
) -> Iterator[str]:
    yield from _too_few(num_datasets)
    for name, choices, bias in zip(
        (a, b), ([cell.a for cell in cells], [cell.b for cell in cells]), optimism, strict=True
    ):
        if any(choice.num_tried > 1 for choice in choices):
            most = max(choice.num_tried for choice in choices)
            if choices[0].config_id.startswith(name):
                yield f"{name} is one of {most} configurations that were tried: optimistic if picked by these scores"
            else:
                yield (
                    f"{name} is the best of up to {most} configurations, chosen by the validation images it is judged "
                    f"by: optimistic, {_amount(bias)}"
                )
    tried_a, tried_b = (sum(choices) for choices in zip(*((c.a.num_tried, c.b.num_tried) for c in cells), strict=True))
    if tried_a != tried_b:
        yield f"unequal search effort: {tried_a} configurations of {a}, {tried_b} of {b}"
    alone = sum(cell.num_label_sets == 1 for cell in cells)
    if alone:
        yield f"{alone} of {len(cells)} cells have a single label set: their intervals say nothing about others"
    if num_left_out:
        yield f"rankings left out, as the best of the two have no label set in common there: {num_left_out}"


def _expected_notes(
    store: Store, title: str, sides: Iterable[tuple[list[RankedRow], list[RankedRow]]], metric: str
) -> Iterator[str]:
    """Say of each ranking what the two, chosen and judged by different images, let expect on new ones."""
    for rows_a, rows_b in islice(sides, _MAX_EXPECTED):
        found = expected_difference(store.address, rows_a, rows_b, metric)
        if found:
            yield (
                f"{rows_a[0]['dataset']}, {shots_text(rows_a[0])}: {title} {found.score:+.3f} expected on new images "
                f"(95 %: {found.low:+.3f} to {found.high:+.3f}), chosen and judged by different ones"
            )


def _amount(bias: float | None) -> str:
    if bias is None:
        return "how much cannot be estimated here"
    return f"by about {bias:.3f}" if bias >= 0.0005 else "though its label sets show nothing of it"


def _too_few(num_datasets: int) -> Iterator[str]:
    if num_datasets < MIN_DATASETS:
        yield (
            f"{num_datasets} dataset{'s are' if num_datasets > 1 else ' is'} too few to test, {MIN_DATASETS} are "
            "needed: nothing is said about other datasets"
        )


def _overall(
    metric: str,
    datasets: tuple[str, ...],
    table: Mapping[str, tuple[float, ...]],
    correction: Correction,
    *,
    num_left_out: int,
) -> OverallComparison:
    sign = sign_of(metric)
    larger_is_better = {name: [sign * score for score in scores] for name, scores in table.items()}
    enough = len(datasets) >= MIN_DATASETS
    notes = list(_too_few(len(datasets)))
    if len(table) < 3:
        notes.append("two methods have no critical difference: compare them")
    if num_left_out:
        notes.append(f"rankings left out, as not all methods have a score there: {num_left_out}")
    return OverallComparison(
        metric=metric,
        methods=tuple(table),
        datasets=datasets,
        scores=tuple(table.values()),
        tests=paired_tests(larger_is_better, correction) if enough and len(table) > 1 else (),
        ranks=critical_difference(larger_is_better) if enough and len(table) > 2 else None,
        notes=tuple(notes),
    )


def _num_left_out(sides: Mapping[str, Side], kept: Sequence[Key]) -> int:
    """Rankings, label sets aside, that only some have."""
    position = RANKING.index("label_sets")
    every = {(*key[:position], *key[position + 1 :]) for side in sides.values() for key in side}
    return len(every) - len(kept)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
