"""YAML as people write it: safe, `1e-4` is a number, `no` is a text, a repeated key is a mistake."""

import re
from pathlib import Path
from typing import Any

import yaml

from search_spaces.core.errors import ConfigError

MAX_VALUES = 100_000
"""Values that a file may hold, each counted as often as aliases repeat it."""

_MAX_SHOWN = 100
_ODD = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
"""Errors of PyYAML that are none of its own."""


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2 numbers and booleans (PyYAML reads `1e-4` as text, `no` as false)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; a repeated key is an error, not a silent overwrite."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Safe dumper that quotes a text which the loader would take for a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(  # type: ignore[no-untyped-call]
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text; `source` names it in errors.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        values = yaml.load(text, Loader=_Loader)  # a SafeLoader: nothing read can execute
    except yaml.YAMLError as problem:
        line = " ".join(str(problem).split())
        raise ConfigError(f"{source} is not valid YAML: {line}") from problem
    except _ODD as problem:  # a date, a number or a depth that there is not
        raise ConfigError(f"{source} is not valid YAML: {str(problem)[:_MAX_SHOWN] or 'odd values'}") from problem
    _check_plain(values, source)
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected 'key: value' lines, got {type(values).__name__}")
    return values


def _check_plain(values: Any, source: str) -> None:
    """Refuse what grows beyond all bounds when it is copied or printed, and texts that nothing can write."""
    sizes: dict[int, int] = {}

    def size(value: Any, above: tuple[int, ...] = ()) -> int:
        if isinstance(value, str):
            value.encode()
            return 1
        if not isinstance(value, dict | list):
            return 1
        if id(value) in above:
            raise ValueError("a value holds itself")
        if id(value) not in sizes:
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(part, (*above, id(value))) for part in parts)
        return sizes[id(value)]

    try:
        total = size(values)
    except ValueError as problem:
        why = "a text has half a character" if isinstance(problem, UnicodeError) else problem
        raise ConfigError(f"{source}: {why}") from problem
    if total > MAX_VALUES:
        raise ConfigError(f"{source}: it holds more than {MAX_VALUES:,} values; leave the aliases out")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "not a text file"
        raise ConfigError(f"cannot read {path}: {reason}") from problem


def dump_yaml(values: dict[str, Any]) -> str:
    """YAML text in the order of the keys; `parse_yaml` gives back equal values."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
