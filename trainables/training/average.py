"""An average written down: trials whose predictions are averaged, each with a predictor and a weight.

It is what `sparse-search export` writes where the answer of a search is more than one configuration: the keys of a
trial without `method` and `config`, and below `average` the rule and the members, which have these. A member may also
have a key of a trial that differs from what the others share, such as the threads that it was trained with.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose, isfinite
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError
from trainables.data.names import read_name
from trainables.metrics.averaging import AVERAGE, score_average
from trainables.metrics.classes import ClassScores
from trainables.training.prediction import Predicted
from trainables.training.trial import Trial, with_shots

_OWN = ("predictor", "weight", "run_ids")
"""Keys of a member that no trial has."""

RUN_NAME = re.compile(r"\w[\w.-]*")
"""Form of the name of a run: it is one of a folder too."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trial, and what it has to say in an average."""

    trial: Trial
    predictor: str
    """Name of the one of its method's predictors that is averaged."""

    weight: float
    run_ids: tuple[str, ...] = ()
    """Names of the runs whose predictions made the weights."""


@dataclass(frozen=True, kw_only=True)
class Average:
    """Members whose probabilities are averaged, on the same label sets of the same images.

    Raises:
        ConfigError: there is no member, the weights do not add up to 1, or the members learn from other images.
    """

    rule: str
    """Rule that made the weights."""

    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        weights = [member.weight for member in self.members]
        if not weights or not all(isfinite(each) and each > 0 for each in weights) or not isclose(sum(weights), 1.0):
            raise ConfigError(f"average: expected members with weights above 0 that add up to 1, got {weights[:8]}")
        for member in self.members:
            _check(member, self.members[0])

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the members, in their order."""
        return tuple(member.weight for member in self.members)

    def score(self, said: Sequence[Predicted], labels_N: NDArray[np.int64]) -> ClassScores:
        """Return the scores of what members say together of the same images, given in their order."""
        names = [member.predictor for member in self.members]
        pool_means = [each.pool_means[name] for each, name in zip(said, names, strict=True) if name in each.pool_means]
        return score_average(
            [each.predictions[name] for each, name in zip(said, names, strict=True)],
            self.weights,
            labels_N,
            decision=self.members[0].trial.conditions.decision,
            pool_means=pool_means if len(pool_means) == len(said) else (),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read an average from the plain values of an exported file, without its evidence.

        Raises:
            ConfigError: a key is missing or unknown, or a value has the wrong type or is impossible.
        """
        shared = dict(with_shots(values))
        told = shared.pop(AVERAGE, None)
        if not isinstance(told, dict) or not isinstance(told.get("rule"), str):
            raise ConfigError(f"average: expected `rule` and `members`, got {str(told)[:80]}; export it again")
        listed = told.get("members")
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise ConfigError(f"average: expected a list of members, got {str(listed)[:80]}; export it again")
        return cls(rule=told["rule"], members=tuple(_member(each, shared) for each in listed))


def _member(values: Mapping[str, Any], shared: Mapping[str, Any]) -> Member:
    """Read a member, which has the keys of a trial that it does not share, and its own."""
    missing = [name for name in ("method", "config", "predictor", "weight") if name not in values]
    if missing:
        raise ConfigError(f"a member of an average needs: {', '.join(missing)}; export it again")
    own = {name: value for name, value in values.items() if name not in _OWN}
    weight, run_ids = values["weight"], values.get("run_ids", [])
    is_named = isinstance(run_ids, list) and all(isinstance(each, str) and RUN_NAME.fullmatch(each) for each in run_ids)
    if type(weight) not in (int, float) or not isinstance(values["predictor"], str) or not is_named:
        raise ConfigError(f"a member of an average has an odd weight, predictor or run_ids: {str(values)[:80]}")
    return Member(
        trial=Trial.from_dict({**shared, **own}),
        predictor=values["predictor"],
        weight=float(weight),
        run_ids=tuple(run_ids),
    )


def _check(member: Member, first: Member) -> None:
    """Refuse a member that does not have its predictor, or whose images are not those of the first."""
    trial, method = member.trial, member.trial.find_method()
    if member.predictor not in method.predictors:
        raise ConfigError(f"average: {trial.method} has no predictor '{member.predictor}'")
    if method.judged_as != "classification":
        raise ConfigError(f"average: {trial.method} names no classes, so there is nothing to average")
    for name, mine, others in (
        ("side and grid of the dataset", read_name(trial.dataset)[1:], read_name(first.trial.dataset)[1:]),
        ("shots", trial.shots, first.trial.shots),
        ("label_sets", trial.label_sets, first.trial.label_sets),
        ("validation", trial.conditions.validation, first.trial.conditions.validation),
        ("decision", trial.conditions.decision, first.trial.conditions.decision),
    ):
        if mine != others:
            raise ConfigError(f"average: its members differ in {name}: {others} and {mine}")
