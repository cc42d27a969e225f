"""Contract of a pruner: what a file in `pruners/` offers as `PRUNER`.

A pruner keeps nothing between two questions: it judges from the values in the study.
"""

from collections.abc import Callable
from dataclasses import dataclass

from optuna.pruners import BasePruner


@dataclass(frozen=True)
class Pruner:
    """Offer of a pruner's module as `PRUNER`."""

    build: Callable[..., BasePruner]
    """Makes the pruner for a number of rungs; its keyword-only parameters, with ranges and defaults, are options."""


def rung_steps(num_rungs: int) -> tuple[int, ...]:
    """Return the steps at which a trial reports: each has three times the budget of the one before, the last is all."""
    return tuple(3**rung for rung in range(num_rungs))
