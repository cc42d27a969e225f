"""Spaces with finitely many configurations, of which the last ones are found by counting, not by chance."""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, Int, Range, Scalar, Space, inactive_fields

MAX_LISTED = 20_000
"""Configurations of a space that is looked through."""


def first_unknown(base: MethodConfig, space: Space, is_known: Callable[[MethodConfig], bool]) -> MethodConfig | None:
    """Return the first configuration of a finite space that is not known; None where all are, or none can be listed.

    Args:
        base: Configuration below the searched settings, whose values those without effect have.
        space: Ranges of the searched settings.
        is_known: Tells if a configuration need not be trained.
    """
    if prod(_size(range_) for range_ in space.values()) > MAX_LISTED:
        return None
    plain = write_config(base)
    for values in product(*map(_options, space.values())):
        given = plain | dict(zip(space, values, strict=True))
        inactive = inactive_fields(type(base), given)
        try:
            config = read_config(type(base), given | {name: plain[name] for name in inactive if name in space})
        except ConfigError:  # together what they are not alone
            continue
        if not is_known(config):
            return config
    return None


def _size(range_: Range) -> int:
    match range_:
        case Choice(options):
            return len(options)
        case Int(low, high):
            return high - low + 1
    return MAX_LISTED + 1


def _options(range_: Range) -> Sequence[Scalar]:
    return range_.options if isinstance(range_, Choice) else range(int(range_.low), int(range_.high) + 1)
