"""A trial written down: one configuration of one method on one few-shot problem, under its conditions.

The same value goes to a cluster worker, into a leaderboard row and into the exported file, and
`python -m trainables --config FILE` trains exactly it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from search_spaces.core.config import MethodConfig, read_config, short_hash, write_config
from search_spaces.core.errors import ConfigError, suggestion
from trainables.core.conditions import CONDITIONS, PROTOCOL, Conditions
from trainables.core.method import Method, find_method
from trainables.core.shots import ALL_SHOTS, WORD
from trainables.metrics.pictures import PictureRule

_TYPES: Mapping[str, type] = {
    "method": str, "config": dict, "dataset": str, "shots": int, "label_sets": list,
    **{condition.name: condition.type for condition in CONDITIONS},
}  # fmt: skip
"""Keys of a trial in plain values."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration of one method on one few-shot problem, trained on one or more label sets.

    Raises:
        ConfigError: shots or label sets are impossible.
    """

    method: str
    config: MethodConfig
    dataset: str
    shots: int
    """Labelled images per class, or in all where the dataset counts them so; `ALL_SHOTS`: every one."""

    label_sets: tuple[int, ...] = (0,)
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        if self.shots < ALL_SHOTS:
            raise ConfigError(f"shots: {self.shots} is impossible, expected at least 1, or all")
        if self.shots == ALL_SHOTS and self.conditions.validation == "realistic":
            raise ConfigError("shots: all leaves no labelled image for realistic validation: labelled-cv or official")
        if not self.label_sets or len(set(self.label_sets)) != len(self.label_sets) or min(self.label_sets) < 0:
            raise ConfigError(f"label_sets: expected different numbers from 0, got {list(self.label_sets)}")

    @property
    def picture_rule(self) -> PictureRule:
        """Rule by which pictures are judged by their patches."""
        return PictureRule(self.conditions.aggregate, self.conditions.threshold)

    def find_method(self) -> Method[Any]:
        """Return the method that trains it."""
        return find_method(self.method)

    @cached_property
    def trial_id(self) -> str:
        """Hash of everything that determines the results."""
        return short_hash(self.identity() | {"protocol": PROTOCOL})

    def identity(self) -> dict[str, Any]:
        """Return what determines the results, but the protocol and the content of the data."""
        return self._problem() | self.conditions.identity()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for YAML and JSON; `from_dict` gives back an equal trial."""
        return self._problem() | self.conditions.as_dict()

    def _problem(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "config": write_config(self.config),
            "dataset": self.dataset,
            "shots": self.shots,
            "label_sets": list(self.label_sets),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read a trial from plain values; conditions that are not there have their defaults.

        With `shots: all` that of the validation is `labelled-cv`.

        Raises:
            ConfigError: a key is missing or unknown, or a value has the wrong type or is impossible.
        """
        values = with_shots(values)
        _check_types(values)
        config = read_config(find_method(values["method"]).config, values.get("config", {}))
        conditions = {each.name: values[each.name] for each in CONDITIONS if each.name in values}
        return cls(
            method=values["method"],
            config=config,
            dataset=values["dataset"],
            shots=values["shots"],
            label_sets=tuple(values.get("label_sets", cls.label_sets)),
            conditions=Conditions(**conditions),
        )


def with_shots(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return plain values of a trial with `shots` as a number, and what to validate by where all are in use."""
    shots = values.get("shots")
    if isinstance(shots, bool) or shots not in (ALL_SHOTS, WORD):
        return values
    return {**values, "shots": ALL_SHOTS, "validation": values.get("validation", "labelled-cv")}


def _check_types(values: Mapping[str, Any]) -> None:
    if "methods" in values:
        raise ConfigError("this is a sweep, not one trial: give it to `sparse-search run`")
    for name, value in values.items():
        if name not in _TYPES:
            raise ConfigError(f"a trial has no '{name}'{suggestion(str(name), _TYPES)}")
        if type(value) is not _TYPES[name]:
            raise ConfigError(f"{name}: expected {_TYPES[name].__name__}, got {value!r}")
    missing = [name for name in ("method", "dataset", "shots") if name not in values]
    if missing:
        raise ConfigError(f"a trial needs: {', '.join(missing)}")
    if not all(type(label_set) is int for label_set in values.get("label_sets", [])):
        raise ConfigError(f"label_sets: expected whole numbers, got {values['label_sets']}")
