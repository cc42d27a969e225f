"""Translation of search ranges to Optuna: the only module in which the two meet."""

from collections.abc import Mapping
from typing import cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from search_spaces.core.ranges import (
    ActivityConditions,
    Choice,
    Float,
    Int,
    Range,
    Scalar,
    Space,
    has_effect,
    parents_first,
)


def suggest(trial: Trial, name: str, range_: Range) -> Scalar:
    """Suggest a value of the range, both ends included; the same one when asked again."""
    match range_:
        case Float(low, high, log):
            return trial.suggest_float(name, low, high, log=log)
        case Int(low, high, log):
            return trial.suggest_int(name, low, high, log=log)
        case Choice(options):
            return cast("Scalar", trial.suggest_categorical(name, options))


def distribution_of(range_: Range) -> BaseDistribution:
    """Return the distribution that `suggest` samples from."""
    match range_:
        case Float(low, high, log):
            return FloatDistribution(low, high, log=log)
        case Int(low, high, log):
            return IntDistribution(low, high, log=log)
        case Choice(options):
            return CategoricalDistribution(options)


def suggest_active(
    trial: Trial, space: Space, base_values: Mapping[str, Scalar], conditions: ActivityConditions
) -> dict[str, Scalar]:
    """Suggest a value for each field of the space that has an effect: only these become parameters of the trial.

    Args:
        base_values: values of all fields, below the suggested ones; what is not suggested keeps its value from here.
    """
    suggested: dict[str, Scalar] = {}
    for name, range_ in parents_first(space, conditions).items():
        if has_effect(name, {**base_values, **suggested}, conditions):
            suggested[name] = suggest(trial, name, range_)
    return suggested
