"""Independent draws from every range."""

from optuna.samplers import BaseSampler, RandomSampler

from sparse_search.search.sampler import Ask, Sampler


def build(ask: Ask) -> BaseSampler:
    """Make Optuna's sampler, seeded for this ask."""
    return RandomSampler(seed=ask.seed)


SAMPLER = Sampler(build)
