"""Method configurations: their base class, and how they are read and written.

One frozen keyword-only dataclass per method is the single source of truth for defaults, search ranges,
validation, documentation and export.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from search_spaces.core.errors import ConfigError, suggestion
from search_spaces.core.ranges import Range, When, conditions_of


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Settings that every method honours. A method adds its own fields, each documented below its definition."""

    image_size: int = 128
    """Side in pixels at which images reach the networks; others are resized on the device."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings from publications, as differences from the defaults; tried first in every search."""

    inherited_when: ClassVar[When | None] = None
    """Condition on the searched fields that a method has from another one's configuration."""

    def __post_init__(self) -> None:
        require(self, "image_size", 8, 1024)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_defaults(cls)
        _check_conditions(cls)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The named preset, with changes on top."""
        if name not in cls.presets:
            raise ConfigError(f"preset '{name}' is unknown to {cls.__name__}{suggestion(name, cls.presets)}")
        return cls(**{**cls.presets[name], **changes})


C = TypeVar("C", bound=MethodConfig)

LARGEST = 2**63 - 1
"""Largest whole number that a configuration, and a table of configurations, can hold."""


def require(config: MethodConfig, name: str, low: float, high: float = math.inf) -> None:
    """Check that a field lies in its legal domain [low, high].

    Raises:
        ConfigError: naming field, value and domain.
    """
    value = getattr(config, name)
    if not (low <= value <= high):
        domain = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ConfigError(f"{type(config).__name__}.{name}: {value!r} is impossible, expected {domain}")


def read_config(config_type: type[C], values: Mapping[str, Any]) -> C:
    """A configuration from plain values, strictly: no unknown key, no wrong type, no impossible value.

    Raises:
        ConfigError: naming field, value and what was expected.
    """
    hints = get_type_hints(config_type)
    known = [field.name for field in fields(config_type)]
    for name in values:
        if name not in known:
            raise ConfigError(f"{config_type.__name__} has no field '{name}'{suggestion(str(name), known)}")
    checked = {name: _coerce(value, hints[name], f"{config_type.__name__}.{name}") for name, value in values.items()}
    return config_type(**checked)


def write_config(config: MethodConfig) -> dict[str, Any]:
    """Every field as plain values; `read_config` gives back an equal configuration."""
    return asdict(config)


def canonical_json(values: Mapping[str, Any]) -> str:
    """One text per content: sorted keys, no spaces, exact floats, no NaN."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def short_hash(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that name a content."""
    return sha256(canonical_json(values).encode()).hexdigest()[:12]


def _coerce(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        return _coerce(value, get_args(hint)[0], where)
    if origin is Literal:
        if value not in get_args(hint):
            options = ", ".join(map(str, get_args(hint)))
            raise ConfigError(f"{where}: {value!r} is impossible, expected one of: {options}")
        return value
    if origin in (Union, UnionType):
        raise TypeError(f"{where}: configurations hold plain scalars and Literals, not unions")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{where}: a number of {value.bit_length()} bits is impossible, expected at most {LARGEST}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where}: expected {_NAMES[hint]}, got {value!r}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value!r}")
    return value


_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


def _check_defaults(config_type: type[MethodConfig]) -> None:
    """A default outside its own range is a mistake of ours: it fails when the module is imported.

    Runs before `@dataclass` has seen the class, so it reads annotations and class attributes directly.
    """
    hints = get_type_hints(config_type, include_extras=True)
    for name, hint in hints.items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, Range) and name in vars(config_type) and vars(config_type)[name] not in extra:
                raise TypeError(
                    f"{config_type.__name__}.{name}: default {vars(config_type)[name]!r} is outside {extra}"
                )


def _check_conditions(config_type: type[MethodConfig]) -> None:
    """A condition on an unknown field, or in a circle, is a mistake of ours too."""
    hints, conditions = get_type_hints(config_type), conditions_of(config_type)
    parents = {name: [when.name for when in whens] for name, whens in conditions.items()}
    for name, known in parents.items():
        for parent in known:
            if parent not in hints:
                raise TypeError(f"{config_type.__name__}.{name}: condition on an unknown field '{parent}'")
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as problem:
        raise TypeError(f"{config_type.__name__}: conditions in a circle: {' → '.join(problem.args[1])}") from problem
