"""From the scores of evaluations to those that a run is judged by, and whether these say anything."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TypeVar

import numpy as np

from trainables.core.conditions import SELECTIONS
from trainables.core.scores import AnyScores
from trainables.metrics.masks import MaskScores

S = TypeVar("S", bound=AnyScores)


def mean_scores(scores: Sequence[S]) -> S:
    """The mean of each metric over evaluations on the same images; None where any is None.

    The confusion is the mean of the counts, so no image counts twice, and (balanced) accuracy is still what the
    confusion gives. A single evaluation is its own mean.
    """
    first, *more = scores
    if not more:
        return first
    means = {name: _mean([each.metric(name) for each in scores]) for name in first.names}
    confusion_KK = np.mean([each.confusion for each in scores], axis=0)
    confusion = tuple(map(tuple, confusion_KK.tolist()))
    return replace(more[-1], num_images=first.num_images, values=means, confusion=confusion)


def select(history: Sequence[Mapping[str, AnyScores]], rule: str) -> dict[str, AnyScores]:
    """Scores by predictor that a run is judged by after these evaluations.

    Args:
        history: Scores of each evaluation so far, at least one; the newest last.
        rule: One of `SELECTIONS`; with fewer evaluations than it averages, the mean of those there are.
    """
    recent = history[-SELECTIONS[rule] :]
    return {name: mean_scores([scores[name] for scores in recent]) for name in recent[-1]}


def collapse(scores: AnyScores) -> str:
    """The reason why these predictions are worthless: `names class 1 for all 10 validation images`.

    Of masks, whose class 0 is the background: that it is named for all pixels. Empty when at least
    two classes are named, or when the labels hold fewer than two.
    """
    confusion_KK = np.array(scores.confusion)
    named, present = np.flatnonzero(confusion_KK.sum(0)), np.flatnonzero(confusion_KK.sum(1))
    if len(named) > 1 or len(present) < 2:
        return ""
    what = "all pixels of all" if isinstance(scores, MaskScores) else "all"
    return f"names class {named[0]} for {what} {scores.num_images} validation images"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
