"""Ranges as the interval [0, 1], on which some samplers work."""

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Numeric = FloatDistribution | IntDistribution
"""Range of numbers without steps."""


def to_unit_interval(range_: Numeric, value: float) -> float:
    """Return the position of a value in [0, 1]; every whole number has an equal share of it."""
    low, high = _ends(range_)
    return ((math.log(value) if range_.log else value) - low) / (high - low)


def from_unit_interval(range_: BaseDistribution, unit: float) -> Any:
    """Return the value at a position in [0, 1]."""
    if isinstance(range_, CategoricalDistribution):
        return range_.choices[min(int(unit * len(range_.choices)), len(range_.choices) - 1)]
    assert isinstance(range_, FloatDistribution | IntDistribution)
    low, high = _ends(range_)
    value = low + unit * (high - low)
    value = math.exp(value) if range_.log else value
    return min(max(round(value) if isinstance(range_, IntDistribution) else value, range_.low), range_.high)


def _ends(range_: Numeric) -> tuple[float, float]:
    """Return the values, or their logarithms, that 0 and 1 stand for."""
    margin = 0.5 if isinstance(range_, IntDistribution) else 0.0
    low, high = range_.low - margin, range_.high + margin
    return (math.log(low), math.log(high)) if range_.log else (low, high)
