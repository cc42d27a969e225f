"""Tree-structured Parzen estimators over all parameters together; running trials count as bad.

Source: Bergstra et al., NeurIPS 2011; Watanabe, arXiv:2304.11127 (multivariate, groups, constant liar).
"""

from typing import Annotated

from optuna.samplers import BaseSampler, TPESampler

from search_spaces.core.ranges import Int
from sparse_search.search.sampler import Ask, Sampler, Startup, random_startup, startup_trials


def build(ask: Ask, *, startup: Startup = "auto", candidates: Annotated[int, Int(1, 1000)] = 24) -> BaseSampler:
    """Make Optuna's sampler; of `candidates` draws from the good trials' density the most promising is proposed."""
    return TPESampler(
        multivariate=True,
        group=True,
        constant_liar=True,
        n_startup_trials=startup_trials(startup, ask.num_planned),
        n_ei_candidates=candidates,
        seed=ask.seed,
        constraints_func=ask.constraints,
    )


SAMPLER = Sampler(build, num_startup=random_startup)
