"""Words that tell rankings apart which are of one data set and number of shots."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparse_search.results.trials import RANKING
from trainables.core.conditions import CONDITIONS

_CONDITIONS = {condition.column: condition for condition in CONDITIONS}
_SETTING = ("dataset", "shots", "level")


def words_apart(shared: Mapping[str, Any], others: Iterable[Mapping[str, Any]], said: Sequence[str] = ()) -> list[str]:
    """Return what of a ranking differs among it and others of its data set, shots and level: `540 images`, `seed 1`.

    Args:
        shared: Columns in which the rows of the ranking are equal, those of `RANKING`.
        others: The same of all rankings that are shown, itself included or not.
        said: Columns that the heading tells anyway.
    """
    beside = [shared, *(other for other in others if all(other[name] == shared[name] for name in _SETTING))]
    differing = (name for name in RANKING if name not in said and len({one[name] for one in beside}) > 1)
    return [_words(name, shared[name]) for name in differing]


def _words(name: str, value: Any) -> str:
    if name in _CONDITIONS:
        return _CONDITIONS[name].heading(value)
    return f"{name.replace('_', ' ')} {value if value != '' else 'none'}"
