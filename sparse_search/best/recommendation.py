"""Recommendation for a data set and label budget: the average, the best configuration, defaults, floors, side by side.

Each with the score to expect on new images, and what it costs. Nothing is trained, and no test label is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.average_estimates import Draws, draws
from sparse_search.analysis.average_rows import words_for
from sparse_search.analysis.averages import DEFAULT_RULE, Weighted
from sparse_search.analysis.estimate import Expected
from sparse_search.analysis.gathering import Gathered
from sparse_search.analysis.leaderboard import query, rank
from sparse_search.analysis.pairing import FLOORS
from sparse_search.analysis.worth import WORTH_DRAWS, Addition, Worth, additions, worth
from sparse_search.best.advice import Answer, command_of, notes_on, overtuning_of, sentence_of
from sparse_search.best.averaged import find_average, largest_pool, ranked_average
from sparse_search.results.mirror import read_store
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.table import DEFAULT_METRIC, metric_for, sign_of


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Choices for a data set and label budget, and which one to take."""

    dataset: str
    shots: int
    metric: str
    choices: tuple[Answer, ...]
    sentence: str
    """Advice, and the reason for it."""

    command: str
    """Command that exports what is recommended."""

    gain: Expected | None
    """Score of the average over that of the best configuration, on the same draws of images; positive is better."""

    additions: tuple[Addition, ...]
    """Worth of each method to the average."""

    worth: Worth | None
    """Worth of having tried so many."""

    notes: tuple[str, ...]
    """Sentences on what the estimates rest on."""


def recommend(
    results: Path | str = "results",
    *,
    dataset: str,
    shots: int,
    metric: str = DEFAULT_METRIC,
    average: str = "",
    pretrained: bool | None = None,
) -> Recommendation:
    """Say what to take of everything that was tried on a data set with so many labels.

    Args:
        results: The results folder, or its URI.
        dataset: The data set.
        shots: The number of labelled images.
        metric: The score to expect.
        average: The rule of the average; `third` when not given.
        pretrained: Only what has weights from before, or only what has none.

    Raises:
        ResultsError: no finished run answers the question, or what was tried must not be mixed.
        ConfigError: an unknown metric or rule.
    """
    store = read_store(results)
    ranked = rank(query(store, dataset=dataset, shots=shots, method=None), metric).to_pylist()
    rows = [row for row in ranked if pretrained in (None, bool(row["pretrained"]))]
    pool = largest_pool(rows)
    if not pool or metric_for("image", metric) != metric:
        raise ResultsError(
            f"nothing to recommend on {dataset}: its rankings must not be mixed, or none is of whole images; "
            "see `sparse-search leaderboard`"
        )
    best_first = sorted(pool, key=lambda row: _rated(row, metric), reverse=True)
    found = find_average(store.address, pool, average)
    return _recommendation(best_first, found, metric)


def _rated(row: Mapping[str, Any], metric: str) -> float:
    return float("-inf") if row[metric] is None else sign_of(metric) * float(row[metric])


def _recommendation(
    rows: Sequence[Mapping[str, Any]], found: tuple[Gathered, Weighted] | None, metric: str
) -> Recommendation:
    """Put what there is side by side; rows are the best first."""
    drawn = draws(found[0].candidates, metric) if found else None
    choices, gain = list(_singles(rows, found, drawn, metric)), None
    if found:
        average_B = drawn.by_rule(found[1].rule) if drawn else None
        gain = drawn.expect_gain(average_B, drawn.by_choice()) if drawn and average_B is not None else None
        choices.insert(
            0, _average(*found, metric, drawn.expect(average_B) if drawn and average_B is not None else None)
        )
    taken = choices[0] if found and (gain is None or gain.score >= 0) else choices[1 if found else 0]
    few = draws(found[0].candidates, metric, WORTH_DRAWS) if found and drawn else None
    rule = found[1].rule if found else DEFAULT_RULE
    return Recommendation(
        dataset=rows[0]["dataset"],
        shots=rows[0]["shots"],
        metric=metric,
        choices=tuple(choices),
        sentence=sentence_of(choices, taken, gain, metric),
        command=command_of(rows[0], taken, rule),
        gain=gain,
        additions=tuple(additions(drawn, found[0].methods, rule)) if found and drawn else (),
        worth=worth(few, rule) if few else None,
        notes=(*overtuning_of(choices[1 if found else 0], metric), *notes_on(rows, found, drawn)),
    )


def _average(gathered: Gathered, average: Weighted, metric: str, expected: Expected | None) -> Answer:
    row = ranked_average(gathered, average, metric)
    return Answer(
        name=f"average, {words_for(average)}",
        predictor=AVERAGE,
        config_id=row["config_id"],
        own_score=row[metric],
        expected=expected,
        num_models=len(average.members),
        train_seconds=row["train_seconds"],
    )


def _singles(
    rows: Sequence[Mapping[str, Any]], found: tuple[Gathered, Weighted] | None, drawn: Draws | None, metric: str
) -> Iterator[Answer]:
    """The best configuration, then the default of each method that is no floor, then the floors."""
    places = {_key(row): place for place, row in enumerate(found[0].trials)} if found else {}

    def choice(name: str, row: Mapping[str, Any], expected: Expected | None) -> Answer:
        return Answer(
            name=name,
            predictor=row["predictor"],
            config_id=row["config_id"],
            own_score=row[metric],
            expected=expected,
            num_models=1,
            train_seconds=row["train_seconds"],
        )

    def alone(row: Mapping[str, Any]) -> Expected | None:
        place = places.get(_key(row))
        return drawn.expect(drawn.of(place)) if drawn and place is not None else None

    yield choice("best single", rows[0], drawn.expect(drawn.by_choice()) if drawn else None)
    starts = {row["method"]: row for row in reversed(rows) if row["start"] == "default"}
    for method, row in sorted(starts.items(), key=lambda each: each[0] in FLOORS):
        yield choice(f"floor {method}" if method in FLOORS else f"default of {method}", row, alone(row))


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["trial_id"], row["predictor"]
