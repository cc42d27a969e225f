"""Trackers by the names that a sweep file uses.

    tracker: tensorboard            tracker: [tensorboard, mlflow]

One is found by the name of its file in `kinds/`, and loaded, with its library, when a sweep runs that names it.
"""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from search_spaces.core.errors import ConfigError, suggestion
from sparse_search.trackers import kinds
from sparse_search.trackers.tracker import TrackerKind


def tracker_names() -> list[str]:
    """Return the names of all trackers, sorted."""
    return sorted(module.name for module in iter_modules(kinds.__path__))


def read_trackers(given: object) -> tuple[str, ...]:
    """Return the trackers that a sweep file gives: a name or a list of names.

    Raises:
        ConfigError: one is unknown or given twice.
    """
    names = tuple(given) if isinstance(given, list | tuple) else (given,)
    if len(set(map(str, names))) < len(names):
        raise ConfigError(f"tracker: expected different names, got {given!r}")
    for name in names:
        if name not in tracker_names():
            raise ConfigError(f"tracker '{name}' is unknown{suggestion(str(name), tracker_names())}")
    return names


def find_tracker(name: str) -> TrackerKind:
    """Load the tracker of that name.

    Raises:
        ConfigError: its library is not installed.
    """
    kind: TrackerKind = import_module(f"{kinds.__name__}.{name}").TRACKER
    if find_spec(kind.library) is None:
        raise ConfigError(
            f"tracker {name} needs {kind.library}: pip install 'sparse-search[{kind.extra}]', or leave it out"
        )
    return kind
