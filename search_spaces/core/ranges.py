"""Search ranges: frozen values that say where a search may look.

A range *directs the search*; what is *legal* is wider and belongs to the configuration class (its types
and its `__post_init__`). Both ends of a range are included. Conditions beside a range say when the field matters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from search_spaces.core.errors import ConfigError, suggestion

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Float:
    """Real numbers in [low, high]; `log` spreads them evenly over orders of magnitude.

    Ends that are given as whole numbers become real ones: equal ranges have one text, which names a study.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high, self.log)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def __str__(self) -> str:
        return f"{self.low:g} … {self.high:g}{', log' if self.log else ''}"

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def ends(self) -> tuple[Scalar, ...]:
        """The extreme values, to be checked against the legal domain."""
        return (float(self.low), float(self.high))


@dataclass(frozen=True, slots=True)
class Int:
    """Whole numbers in [low, high]; `log` spreads them evenly over orders of magnitude."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in (self.low, self.high)):
            raise ConfigError(f"the ends of a whole-number range must be whole, got {self.low}..{self.high}")
        _check_ends(self.low, self.high, self.log)

    def __str__(self) -> str:
        return f"{self.low} … {self.high}, whole{', log' if self.log else ''}"

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def ends(self) -> tuple[Scalar, ...]:
        """The extreme values, to be checked against the legal domain."""
        return (self.low, self.high)


@dataclass(frozen=True, slots=True, init=False)
class Choice:
    """One of a few values without an order: `Choice(8, 16, 24)`."""

    options: tuple[Scalar, ...]

    def __init__(self, *options: Scalar) -> None:
        if not options or len(set(map(repr, options))) != len(options):
            raise ConfigError(f"a choice needs different options, got {list(options)}")
        object.__setattr__(self, "options", options)

    def __str__(self) -> str:
        return " | ".join(map(str, self.options))

    def __contains__(self, value: object) -> bool:
        return any(value == option and type(value) is type(option) for option in self.options)

    def ends(self) -> tuple[Scalar, ...]:
        """Every option, to be checked against the legal domain."""
        return self.options


@dataclass(frozen=True, slots=True)
class When:
    """A condition beside a range: the field matters only where another one is above, or equals, or is among values.

    Several conditions must all hold. The other field need not be searched.
    """

    name: str
    _: KW_ONLY
    above: float | None = None
    equals: Scalar | None = None
    among: tuple[Scalar, ...] = ()

    def __post_init__(self) -> None:
        if sum((self.above is not None, self.equals is not None, bool(self.among))) != 1:
            raise TypeError(f"a condition on '{self.name}' needs either 'above', 'equals' or 'among'")

    def __str__(self) -> str:
        if self.above is not None:
            return f"{self.name} > {self.above:g}"
        if self.among:
            return f"{self.name} = {' or '.join(map(str, self.among))}"
        return f"{self.name} = {str(self.equals).lower() if isinstance(self.equals, bool) else self.equals}"

    def holds(self, value: Any) -> bool:
        """Return True if the condition holds at that value of the other field."""
        if self.among:
            return value in self.among
        return bool(value == self.equals if self.above is None else value > self.above)


Range = Float | Int | Choice
Space = dict[str, Range]
ActivityConditions = Mapping[str, tuple[When, ...]]


def space_of(config_type: type) -> Space:
    """The range of every searched field of a configuration class, in the order of its fields."""
    hints = get_type_hints(config_type, include_extras=True)
    found: Space = {}
    for field in fields(config_type):
        hint = hints[field.name]
        if get_origin(hint) is Annotated:
            (found[field.name],) = (extra for extra in get_args(hint)[1:] if isinstance(extra, Range))
    return found


def conditions_of(config_type: type) -> dict[str, tuple[When, ...]]:
    """The conditions of every searched field that has some, first the one that it shares with all inherited ones."""
    shared: When | None = getattr(config_type, "inherited_when", None)
    found: dict[str, tuple[When, ...]] = {}
    for name, hint in get_type_hints(config_type, include_extras=True).items():
        extras = getattr(hint, "__metadata__", ())
        own = tuple(extra for extra in extras if isinstance(extra, When))
        is_searched = any(isinstance(extra, Range) for extra in extras)
        is_inherited = name not in config_type.__annotations__
        found[name] = (shared, *own) if shared and is_searched and is_inherited else own
    return {name: conditions for name, conditions in found.items() if conditions}


def has_effect(name: str, values: Mapping[str, Any], conditions: ActivityConditions) -> bool:
    """Return True if a field matters, given all values: each of its conditions holds, on a field that matters."""
    needed = conditions.get(name, ())
    return all(when.holds(values[when.name]) and has_effect(when.name, values, conditions) for when in needed)


def inactive_fields(config_type: type, values: Mapping[str, Any]) -> list[str]:
    """The searched fields that have no effect in a configuration, given the values of all its fields."""
    conditions = conditions_of(config_type)
    return [name for name in space_of(config_type) if not has_effect(name, values, conditions)]


def parents_first(space: Space, conditions: ActivityConditions) -> Space:
    """Return the same space, each range behind those that its conditions lead to, else in the order given."""
    found: Space = {}

    def visit(name: str) -> None:
        for when in conditions.get(name, ()):
            visit(when.name)
        if name in space:
            found.setdefault(name, space[name])

    for name in space:
        visit(name)
    return found


def narrow(space: Space, overrides: Mapping[str, Any] | Sequence[str] | None) -> Space:
    """The part of a space that a sweep asks for.

    `None` keeps every range; a list of names keeps these with their own ranges; a mapping gives a range for
    each name: `{low: …, high: …, log: …}`, a list of options, or nothing for the range as it is. A range may
    also be widened: the legal domain is checked by whoever knows the configuration class.

    Raises:
        ConfigError: an unknown name, or something that is not a range.
    """
    if overrides is None:
        return dict(space)
    if isinstance(overrides, str) or not isinstance(overrides, Mapping | Sequence):
        raise ConfigError(f"'search' must be a list of names or a mapping of name to range, got {overrides!r}")
    if not all(isinstance(name, str) for name in overrides):
        raise ConfigError(f"'search' must be a list of names or a mapping of name to range, got {overrides!r}")
    wanted = overrides if isinstance(overrides, Mapping) else dict.fromkeys(overrides)
    for name in wanted:
        if name not in space:
            raise ConfigError(f"'{name}' is not a searched field{suggestion(str(name), space)}")
    return {name: _override(name, space[name], given) for name, given in wanted.items()}


def _override(name: str, own: Range, given: Any) -> Range:
    if given is None:
        return own
    try:
        if isinstance(given, list):
            return Choice(*given)
        if isinstance(given, Mapping) and not isinstance(own, Choice):
            _check_keys(given)
            values = {"low": own.low, "high": own.high, "log": own.log} | dict(given)
            return type(own)(**values)
    except OverflowError as problem:
        raise ConfigError(
            f"search range of '{name}': its ends are beyond all numbers that a range can hold"
        ) from problem
    except ConfigError as problem:
        raise ConfigError(f"search range of '{name}': {problem}") from problem
    raise ConfigError(
        f"search range of '{name}': expected {{low: …, high: …, log: true|false}} or a list of options, got {given!r}"
    )


def _check_keys(given: Mapping[Any, Any]) -> None:
    for key in given:
        if key not in ("low", "high", "log"):
            raise ConfigError(f"a range has no '{key}'{suggestion(str(key), ('low', 'high', 'log'))}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_ends(low: float, high: float, log: bool) -> None:
    if not (_is_number(low) and _is_number(high)) or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"the ends of a range must be finite numbers, got {low!r}..{high!r}")
    if not low < high:
        raise ConfigError(f"a range needs low < high, got {low}..{high}")
    if not isinstance(log, bool):
        raise ConfigError(f"'log' must be true or false, got {log!r}")
    if log and low <= 0:
        raise ConfigError(f"a logarithmic range must begin above 0, got {low}..{high}")
