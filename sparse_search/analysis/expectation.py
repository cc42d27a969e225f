"""Scores to expect of a ranking's answer on new images, without a test set, and beside it of what it has to beat."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from sparse_search.analysis.estimate import NUM_DRAWS, Expected, chosen_scores, draw_images, expected
from sparse_search.analysis.kept_predictions import Kept, kept_predictions
from sparse_search.analysis.leaderboard import query, rank, rankings
from sparse_search.analysis.pairing import FLOORS, Key, evidence_of, widest
from sparse_search.analysis.weighted_scores import has_weighted_score
from sparse_search.results.headings import words_apart
from sparse_search.results.predictions import has_predictions
from sparse_search.results.store import Store
from sparse_search.results.texts import score_text
from sparse_search.results.trials import RANKING, RankedRow, shots_text
from trainables.metrics.table import METRICS, family_of, metric_for
from trainables.metrics.thresholds import SORTED

NOTHING_KEPT = "no predictions are kept"

MAX_RUNS = 2000
"""Runs whose predictions are read: of a ranking with more, the best configurations by its own scores stand for all, as
the others would be chosen by hardly any draw."""

_CELL = ["dataset", "shots"]

SORTED_SHARE = 0.2
"""Share of the draws that is taken for metrics which sort images, configuration by configuration."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Scores to expect on new images of the same kind, of what a ranking leads to."""

    metric: str
    own_score: float | None
    """Score of the first in the ranking on the images that chose it: it flatters. None where its record lacks it."""

    winner: Expected
    """Of the whole procedure: the best on images like these is taken."""

    default: Expected | None
    """Of the default of the winner's method; None where it has no score, or is all there is."""

    gain: Expected | None
    """Winner over default on the same draws, positive where choosing pays."""

    runner_up: Expected | None
    """Of the best of all other methods; None where there is no other."""

    runner_up_name: str
    floors: Mapping[str, Expected]
    """By method."""

    num_images: int
    """Images that judge, each once."""

    num_groups: int | None
    """Groups that they are of, such as patients; None where none are known."""

    are_labelled: bool
    """True where these are the labelled images themselves, and every one of them also taught, in other folds."""

    num_candidates: int
    num_lacking: int
    """Configurations whose predictions are not there: no draw can choose them."""


def expectation_of(results: Path | str, rows: Sequence[RankedRow], metric: str) -> Expectation | str:
    """Estimate what to expect of the first of a ranking; where that cannot be told, the reason in words.

    Args:
        results: The results folder, or its URI.
        rows: All of one ranking, best first, as `rank` gives them.
        metric: The metric by which they are ranked.
    """
    if not has_weighted_score(metric):
        return f"predictions do not determine {METRICS[metric].title}"
    kept = kept_predictions(results, rows[: max(1, MAX_RUNS // rows[0]["num_runs"])])
    if kept.why_not or kept.predictions is None:
        return kept.why_not or NOTHING_KEPT
    if kept.rows[0] is not rows[0]:
        return "the predictions of the first are not kept"
    times_BN = _draws(kept, metric)
    if times_BN is None:
        return f"a class has a single {'image' if kept.predictions.groups_N is None else 'group'} to judge by"
    return _expectation(kept, times_BN, metric)


def expected_difference(
    results: Path | str, rows_a: Sequence[RankedRow], rows_b: Sequence[RankedRow], metric: str
) -> Expected | None:
    """Difference to expect on new images between the best of one side and of another, positive where the first leads.

    Both are chosen by the images of a draw and scored on those that it left out. None where predictions do not tell it.

    Args:
        results: The results folder, or its URI.
        rows_a: Of a ranking, best first.
        rows_b: Of the same ranking, best first.
        metric: The metric by which they are ranked.
    """
    if not has_weighted_score(metric):
        return None
    most = max(1, MAX_RUNS // rows_a[0]["num_runs"] // 2)
    kept = kept_predictions(results, [*rows_a[:most], *rows_b[:most]])
    is_of_a = np.isin([id(row) for row in kept.rows], [id(row) for row in rows_a[:most]])
    times_BN = _draws(kept, metric) if is_of_a.any() and not is_of_a.all() else None
    if times_BN is None:
        return None
    scores = _Scores(kept, times_BN, metric)
    difference_B = scores.of(np.flatnonzero(is_of_a)) - scores.of(np.flatnonzero(~is_of_a))
    return expected(METRICS[metric].sign * difference_B)


def _draws(kept: Kept, metric: str) -> NDArray[np.float64] | None:
    """Images drawn again; None where a class has a single one, or a single group."""
    assert kept.predictions is not None
    of = kept.predictions
    num_draws = int(NUM_DRAWS * (SORTED_SHARE if metric in SORTED else 1))
    return draw_images(of.labels_N, of.images_N, groups_N=of.groups_N, num_draws=num_draws)


def _expectation(kept: Kept, times_BN: NDArray[np.float64], metric: str) -> Expectation | str:
    first, scores = kept.rows[0], _Scores(kept, times_BN, metric)
    winner_B = scores.of(np.arange(len(kept.rows)))
    winner = scores.expected(winner_B)
    if winner is None:
        return f"too few images are left out for {METRICS[metric].title}"
    starts = [i for i, row in enumerate(kept.rows) if row["start"] == "default"]
    own_default = [i for i in starts if _is_of(kept.rows[i], first)]
    is_alone = len(kept.rows) == len(own_default) == 1  # beside itself nothing is said
    default_B = scores.of(np.array(own_default[:1])) if own_default and not is_alone else None
    others = [i for i, row in enumerate(kept.rows) if row["method"] not in (first["method"], *FLOORS)]
    floors = {kept.rows[i]["method"]: scores.expected(scores.of(np.array([i]))) for i in starts if _is_floor(kept, i)}
    return Expectation(
        metric=metric,
        own_score=first[metric],
        winner=winner,
        default=None if default_B is None else scores.expected(default_B),
        gain=None if default_B is None else expected(METRICS[metric].sign * (winner_B - default_B)),
        runner_up=scores.expected(scores.of(np.array(others))) if others else None,
        runner_up_name=kept.rows[others[0]]["predictor"] if others else "",
        floors={method: found for method, found in floors.items() if found},
        num_images=scores.num_images,
        num_groups=scores.num_groups,
        are_labelled=first["validation"] == "labelled-cv",
        num_candidates=len(kept.rows),
        num_lacking=kept.num_lacking,
    )


def _is_of(row: RankedRow, other: RankedRow) -> bool:
    return bool(row["method"] == other["method"] and row["predictor"] == other["predictor"])


def _is_floor(kept: Kept, place: int) -> bool:
    return kept.rows[place]["method"] in FLOORS and kept.rows[place]["method"] != kept.rows[0]["method"]


class _Scores:
    """Scores of groups of configurations on the same draws."""

    def __init__(self, kept: Kept, times_BN: NDArray[np.float64], metric: str) -> None:
        assert kept.predictions is not None
        self._predictions, self._times_BN, self._metric = kept.predictions, times_BN, metric
        labels_U = self._predictions.labels_N[np.unique(self._predictions.images_N, return_index=True)[1]]
        self._counts_K, self.num_images = np.bincount(labels_U).tolist(), len(labels_U)
        groups_N = self._predictions.groups_N
        self.num_groups = None if groups_N is None else len(np.unique(groups_N))

    def of(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores (B,) of whichever of some configurations is chosen."""
        return chosen_scores(self._predictions.take(places), self._times_BN, self._metric)

    def expected(self, scores_B: NDArray[np.float64]) -> Expected | None:
        """Return what these draws let expect."""
        return expected(scores_B, self._metric, self._counts_K)


def expectations(
    store: Store, metric: str, *, dataset: str | None = None, shots: int | None = None, method: str | None = None
) -> dict[Key, Expectation | str]:
    """What to expect, or why that cannot be told, by ranking; those of another family are judged by its default.

    Rankings are missing where nothing but records was ever kept.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric.
    """
    if not has_predictions(store.address):
        return {}
    ranked = rank(query(store, dataset=dataset, shots=shots, method=method), metric)
    return {
        tuple(shared[name] for name in RANKING): expectation_of(
            store.address, rows, metric_for(shared["level"], metric)
        )
        for shared, rows in rankings(ranked)
    }


def sweep_expectations(store: Store, sweep: str, metric: str) -> Iterator[str]:
    """Sentences on each data set and number of shots of a sweep: of its ranking that is founded best."""
    runs = store.runs()
    runs = runs.filter((pc.field("sweep") == sweep) & (pc.field("status") == "complete"))
    cells = runs.group_by(_CELL).aggregate([]).sort_by([(name, "ascending") for name in _CELL])
    for cell in cells.to_pylist():
        own = runs.filter((pc.field("dataset") == cell["dataset"]) & (pc.field("shots") == cell["shots"]))
        of_level = [
            rows for shared, rows in rankings(rank(own, metric)) if shared["level"] == family_of(metric).levels[0]
        ]
        by_key = {tuple(rows[0][name] for name in RANKING): rows for rows in of_level}
        told = [by_key[key] for key in widest({key: evidence_of(rows) for key, rows in by_key.items()})]
        for rows in told:
            about = [cell["dataset"], shots_text(rows[0]), *words_apart(rows[0], [each[0] for each in told])]
            lines = expectation_lines(expectation_of(store.address, rows, metric))
            yield f"{', '.join(about)}: {'. '.join(lines)}"


def expectation_lines(found: Expectation | str) -> Iterator[str]:
    """Sentences for people: the estimate beside the score that flatters, then what is to be beaten."""
    if isinstance(found, str):
        yield f"no estimate for new images: {found}; the score of the first is that of the best of many, and flatters"
        return
    title, number = METRICS[found.metric].title, "labels" if found.are_labelled else "validation images"
    number += "" if found.num_groups is None else f" of {found.num_groups} groups"
    own = "cross-validated" if found.are_labelled else "validation"
    excess = 0.0 if found.own_score is None else METRICS[found.metric].sign * (found.own_score - found.winner.score)
    yield (
        f"the best configuration: {title} {score_text(found.winner.score, 2)} expected on new images of the same kind "
        f"({_ends(found.winner)}), estimated from {found.num_images} {number} without a test set; its own {own} score "
        f"is {score_text(found.own_score, 2)}{', which flatters' if excess > 0 else ''}"
    )
    beside = [f"{name} {score_text(each.score, 2)} ({_ends(each)})" for name, each in _beside(found)]
    if beside:
        yield f"expected likewise: {'; '.join(beside)}"
    if found.gain:
        ends = f"{found.gain.low:+z.2f} to {found.gain.high:+z.2f}"
        yield f"choosing rather than the default, on the same draws: {found.gain.score:+z.2f} (95 %: {ends})"
    if found.num_lacking:
        yield f"{found.num_lacking} of {found.num_candidates + found.num_lacking} have no predictions to be judged by"


def _beside(found: Expectation) -> Iterator[tuple[str, Expected]]:
    if found.default:
        yield "its default", found.default
    if found.runner_up:
        yield f"the best of other methods, {found.runner_up_name},", found.runner_up
    yield from ((f"the floor {method}", floor) for method, floor in found.floors.items())


def _ends(each: Expected) -> str:
    return f"95 %: {score_text(each.low, 2)} to {score_text(each.high, 2)}"


def expectation_values(found: Expectation | str) -> dict[str, Any]:
    """Plain values for a file: the same as the sentences, and these."""
    told = {"in_words": " ".join(f"{line}." for line in expectation_lines(found))}
    if isinstance(found, str):
        return told
    parts = {"winner": found.winner, "default": found.default, "gain": found.gain, **found.floors}
    named = {name: vars(each) for name, each in parts.items() if each}
    return {
        "metric": found.metric, **named, "from_images": found.num_images, "from_configurations": found.num_candidates,
    } | told  # fmt: skip
