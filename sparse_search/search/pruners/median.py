"""Median rule: a trial stops where its best so far is below the median of the complete trials at the same step."""

from typing import Annotated

from optuna.pruners import BasePruner, MedianPruner

from search_spaces.core.ranges import Int
from sparse_search.search.pruner import Pruner


def build(num_rungs: int, *, startup: Annotated[int, Int(1, 1000)] = 4) -> BasePruner:
    """Make Optuna's pruner, which stops nothing before `startup` trials are complete."""
    return MedianPruner(n_startup_trials=startup)


PRUNER = Pruner(build)
