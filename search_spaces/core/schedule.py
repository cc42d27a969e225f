"""Settings that methods share: how step sizes follow the budget, and over what the weights that predict are averaged.

Both are shares of the budget, so that they mean the same however long a training is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Choice, Float, When

Schedule = Literal["constant", "cosine", "linear", "poly"]

NO_AVERAGE: Mapping[str, Any] = {"average": 0.0}
CONSTANT_RATE: Mapping[str, Any] = {"schedule": "constant", "warm_up": 0.0}
"""Differences from the defaults that presets have in common."""


@dataclass(frozen=True, kw_only=True)
class ScheduledConfig(MethodConfig):
    """Step sizes and the average of weights; defaults are ours."""

    schedule: Annotated[Schedule, Choice("constant", "cosine", "linear", "poly")] = "cosine"
    """Step sizes over the budget, set at every step: constant, half a cosine to 0, constant and then linearly to 0, or
    the share of the budget that is left to the power 0.9."""

    decay_start: Annotated[float, Float(0.0, 0.9), When("schedule", equals="linear")] = 0.5
    """Share of the budget after which a linear schedule falls."""

    warm_up: Annotated[float, Float(0.0, 0.2)] = 0.05
    """Share of the budget in which step sizes rise from 0."""

    average: Annotated[float, Float(0.0, 0.3)] = 0.1
    """Time constant, as a share of the budget, of the moving average of the weights that predict; 0: the weights
    themselves. The average starts short, so that it never holds mostly first weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("decay_start", "warm_up"):
            require(self, name, 0.0, 1.0)
        require(self, "average", 0.0, 10.0)
