"""Answers that a search offers, and the advice which to take, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparse_search.analysis.average_estimates import Draws
from sparse_search.analysis.averages import Weighted
from sparse_search.analysis.estimate import Expected
from sparse_search.analysis.gathering import Gathered
from sparse_search.best.averaged import MIN_MEMBERS, expected_text
from sparse_search.results.texts import score_text
from trainables.core.shots import shots_word
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.table import METRICS, sign_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that a search offers."""

    name: str
    """Name for people: `average, third of 24`, `best single`, `default of supervised`, `floor pixels`."""

    predictor: str
    config_id: str
    own_score: float | None
    """Score on the images that judged it; of what was chosen by it, it flatters."""

    expected: Expected | None
    """Score to expect on new images; None where that cannot be told."""

    num_models: int
    """Models that predict an image."""

    train_seconds: float
    """Seconds that training them takes, on one label set."""


def sentence_of(choices: Sequence[Answer], taken: Answer, gain: Expected | None, metric: str) -> str:
    """One sentence that says what to take."""
    words = f"take the {taken.name}: {METRICS[metric].title} {_expected_text(taken)}"
    if gain is not None:
        other = "best single" if taken is choices[0] else choices[0].name
        sign = 1 if taken is choices[0] else -1
        low, high = sorted((sign * gain.low, sign * gain.high))
        words += f", {sign * gain.score:+z.3f} (95 %: {low:+z.3f} to {high:+z.3f}) beside the {other}"
    if taken.num_models > 1:
        words += f"; it predicts with {taken.num_models} models instead of one"
    floors = [each for each in choices if each.name.startswith("floor ") and _is_as_good(each, taken, metric)]
    if floors:
        words += f"; but the {floors[0].name} is as good, so that nothing of a search is in it yet"
    return words


def _expected_text(choice: Answer) -> str:
    if choice.expected is None:
        return f"{score_text(choice.own_score)} on the images that chose it, which flatters"
    return f"expected {expected_text(choice.expected)}"


def _is_as_good(floor: Answer, taken: Answer, metric: str) -> bool:
    mine, other = (each.expected.score if each.expected else each.own_score for each in (floor, taken))
    return mine is not None and other is not None and sign_of(metric) * (mine - other) >= 0


def command_of(row: Mapping[str, Any], taken: Answer, rule: str) -> str:
    """Return the command that exports an answer."""
    how = f"--average {rule}" if taken.predictor == AVERAGE else f"--config-id {taken.config_id[:6]}"
    return f"sparse-search export --dataset {row['dataset']} --shots {shots_word(row['shots'])} {how}"


def notes_on(
    rows: Sequence[Mapping[str, Any]], found: tuple[Gathered, Weighted] | None, drawn: Draws | None
) -> Iterator[str]:
    """Sentences on what estimates rest on, and what is not averaged."""
    if found is None:
        yield (
            f"no average, and no estimate: fewer than {MIN_MEMBERS} configurations have predictions that were kept of "
            "the same images"
        )
        return
    judging = found[0].candidates.predictions.num_images
    if drawn is None:
        yield (
            "no estimate for new images: a class has a single image to judge by, or the metric needs more than "
            "predictions"
        )
    else:
        yield (
            f"expected on new images of the same kind, by bootstrap over {judging} judging images "
            f"({rows[0]['validation']} validation), each left out where it would score its own choice; no test label"
        )
    yield from (f"not averaged: {count} {why}" for why, count in found[0].left_out.items())


def overtuning_of(single: Answer, metric: str) -> Iterator[str]:
    """Sentence on how much the score of the chosen configuration flatters, where it does."""
    if single.expected is None or single.own_score is None:
        return
    excess = sign_of(metric) * (single.own_score - single.expected.score)
    if excess > 0:
        yield (
            f"overtuning: the best single has {score_text(single.own_score)} on the images that chose it and "
            f"{score_text(single.expected.score)} on others, so {score_text(excess)} of its score is luck"
        )
