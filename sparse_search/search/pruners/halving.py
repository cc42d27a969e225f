"""Asynchronous successive halving, judged from the reported values alone.

A trial goes on from a rung when it is among the best 1/reduction of all that reported there, itself included, and among
fewer than `reduction` when it is the best; nothing stops at the last rung, which is the end.

Optuna's SuccessiveHalvingPruner decides alike, but asked again, as after a restart, it lets go on what it had stopped.

Source: Li et al., MLSys 2020, arXiv:1810.05934.
"""

import math
from typing import Annotated, final
from zlib import crc32

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.ranges import Int
from sparse_search.search.outcomes import ascending_value
from sparse_search.search.pruner import Pruner, rung_steps

Reduction = Annotated[int, Int(2, 10)]
"""Number of trials at a rung of which one goes on."""


@final
class SuccessiveHalving(BasePruner):
    """Successive halving in one bracket or several: the b-th judges from rung b on, and compares within itself only."""

    def __init__(self, reduction: int, num_rungs: int, num_brackets: int = 1) -> None:
        self._reduction = reduction
        self._steps = rung_steps(num_rungs)
        self._shares = [math.ceil(num_brackets * reduction**left / (left + 1)) for left in range(num_brackets)][::-1]

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return True where the trial stops at the step that it reported last."""
        step, bracket = trial.last_step, self._bracket(study, trial)
        if step is None or step not in self._steps[bracket:-1]:
            return False
        others = [
            other
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
            and other.state != TrialState.FAIL
            and step in other.intermediate_values
            and self._bracket(study, other) == bracket
        ]
        value = ascending_value(study, trial.intermediate_values[step])
        num_better = sum(ascending_value(study, other.intermediate_values[step]) > value for other in others)
        return num_better >= max((len(others) + 1) // self._reduction, 1)

    def _bracket(self, study: Study, trial: FrozenTrial) -> int:
        """Draw a bracket from the trial's number, in proportion to the trials that each one starts with."""
        ticket = crc32(f"{study.study_name} {trial.number}".encode()) % sum(self._shares)
        return next(b for b in range(len(self._shares)) if ticket < sum(self._shares[: b + 1]))


def build(num_rungs: int, *, reduction: Reduction = 2) -> BasePruner:
    """Make the pruner, with a single bracket."""
    return SuccessiveHalving(reduction, num_rungs)


PRUNER = Pruner(build)
