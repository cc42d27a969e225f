"""Hyperband: successive halving in as many brackets as there are rungs, which begin to judge at different ones.

Optuna's HyperbandPruner hides from the sampler all brackets but one.

Source: Li et al., JMLR 18, arXiv:1603.06560.
"""

from optuna.pruners import BasePruner

from sparse_search.search.pruner import Pruner
from sparse_search.search.pruners.halving import Reduction, SuccessiveHalving


def build(num_rungs: int, *, reduction: Reduction = 3) -> BasePruner:
    """Make the pruner, with a bracket that begins at each rung."""
    return SuccessiveHalving(reduction, num_rungs, num_brackets=num_rungs)


PRUNER = Pruner(build)
