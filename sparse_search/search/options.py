"""Options of samplers and pruners: the keyword-only parameters of what builds one, read from a sweep file and checked.

    def build(ask: Ask, *, candidates: Annotated[int, Int(1, 1000)] = 24) -> BaseSampler: ...

An option has a default and one legal range or more: `Annotated[int | str, Int(1, 1000), Choice("auto")]`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from search_spaces.core.errors import ConfigError, suggestion
from search_spaces.core.ranges import Range, Scalar

Build = Callable[..., Any]
"""Function whose keyword-only parameters are the options."""


@dataclass(frozen=True)
class Option:
    """Default and legal values of one option."""

    default: Scalar
    ranges: tuple[Range, ...]

    def __contains__(self, value: object) -> bool:
        return any(value in range_ for range_ in self.ranges)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.ranges))


@dataclass(frozen=True)
class NamedOptions:
    """Name of a sampler or pruner with the options that were given."""

    name: str
    options: tuple[tuple[str, Scalar], ...] = ()
    """Names and values that differ from the defaults, in the order of their declaration."""

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{option}={value}" for option, value in self.options)])


def options_of(build: Build) -> dict[str, Option]:
    """Return the options that a function declares, by name."""
    hints = get_type_hints(build, include_extras=True)
    parameters = [p for p in inspect.signature(build).parameters.values() if p.kind == p.KEYWORD_ONLY]
    return {p.name: Option(p.default, get_args(hints[p.name])[1:]) for p in parameters}


def read_named(
    kind: str, given: object, names: Sequence[str], build_of: Callable[[str], Build]
) -> tuple[str, tuple[tuple[str, Scalar], ...]]:
    """Return name and changed options of what a sweep file gives: a name, or a mapping of `name` and options.

    Args:
        kind: the key of the sweep file, for errors.
        build_of: finds the function that declares the options of one of the `names`.

    Raises:
        ConfigError: no such name, no such option, or a value outside the option's ranges.
    """
    body = {"name": given} if isinstance(given, str) else given
    if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
        known = ", ".join(names)
        raise ConfigError(f"{kind}: expected a name, or {{name: …, option: value}}, got {given!r}. Names: {known}")
    name, values = body["name"], {option: value for option, value in body.items() if option != "name"}
    if name not in names:
        raise ConfigError(f"{kind} '{name}' is unknown{suggestion(name, names)}")
    options = options_of(build_of(name))
    _check(f"{kind} {name}", values, options)
    changed = (o for o, option in options.items() if values.get(o, option.default) != option.default)
    return name, tuple((option, values[option]) for option in changed)


def _check(title: str, values: Mapping[str, object], options: Mapping[str, Option]) -> None:
    for name, value in values.items():
        if name not in options:
            hint = suggestion(str(name), options) if options else ": it has none"
            raise ConfigError(f"{title} has no option '{name}'{hint}")
        if value not in options[name]:
            raise ConfigError(f"{title}: {name}: {value!r} is impossible, expected {options[name]}")
