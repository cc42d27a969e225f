"""YAML as people write it: safe, `1e-4` is a number, `no` and `1:30` are texts, a repeated key is a mistake.

A number that begins with 0 is refused: `010` is 8 in one version of YAML and 10 in another, and `007` may be a name.
"""

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


_ZEROS, _MERGE = "!begins-with-0", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2 numbers and booleans (PyYAML reads `1e-4` as text, `no` as false, `1:30` as 90)."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; a repeated key is an error, not a silent overwrite. What `<<` brings gives way to what is there.

        PyYAML's own merging takes the wrong one of two values where a merged mapping has merged another one.
        """
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        own: dict[Any, Any] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif _name_of(key) in own:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            else:
                own[_name_of(key)] = key, value
        pairs: dict[Any, Any] = {}
        for each in reversed(merged):
            if not isinstance(each, yaml.MappingNode):
                raise yaml.constructor.ConstructorError(None, None, "<< stands before a mapping", each.start_mark)
            pairs |= {_name_of(key): (key, value) for key, value in each.value}
        node.value = list((pairs | own).values())
        return node

    def construct_ambiguous(self, node: yaml.ScalarNode) -> None:
        """Refuse a number that begins with 0, and say what may be meant."""
        number = node.value.replace("_", "").lstrip("+-0") or "0"
        words = f"{node.value} may be a text or two numbers; write {number}, or '{node.value}' in quotes for a text"
        raise yaml.constructor.ConstructorError(None, None, words, node.start_mark)


def _name_of(key: yaml.Node) -> Any:
    """Return what tells a key from others."""
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


class _Dumper(yaml.SafeDumper):
    """Safe dumper that quotes a text which the loader would take for a number."""


_TAGS_OF_1_1 = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_PATTERNS = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    _ZEROS: (r"[-+]?0[0-9_]+", "-+0"),
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
"""Pattern and first characters of what is no text, the first that fits."""

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TAGS_OF_1_1]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _side in (_Loader, _Dumper):
    for _tag, (_pattern, _first) in _PATTERNS.items():
        _side.add_implicit_resolver(_tag, re.compile(f"^({_pattern})$"), list(_first))  # type: ignore[no-untyped-call]
_Loader.add_constructor(_ZEROS, _Loader.construct_ambiguous)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text; `source` names it in errors.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        values = yaml.load(text, Loader=_Loader)  # a SafeLoader: nothing read can execute
    except yaml.YAMLError as problem:
        raise ConfigError(f"{source} is not valid YAML: {_words_of(problem)}") from problem
    except _ODD as problem:  # a date, a number or a depth that there is not
        raise ConfigError(f"{source} is not valid YAML: {str(problem)[:_MAX_SHOWN] or 'odd values'}") from problem
    _check_plain(values, source)
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected 'key: value' lines, got {type(values).__name__}")
    return values


def _words_of(problem: yaml.YAMLError) -> str:
    """Say in one line what is wrong, and in which line of the text."""
    if not isinstance(problem, yaml.MarkedYAMLError):
        return " ".join(str(problem).split())
    mark = problem.problem_mark or problem.context_mark
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return ", ".join(words for words in (problem.context, problem.problem) if words) + where


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
