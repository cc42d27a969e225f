"""Gaussian process and its log expected improvement; learns nothing from pruned trials."""

from optuna.samplers import BaseSampler, GPSampler

from sparse_search.search.sampler import Ask, Sampler, Startup, random_startup, startup_trials


def build(ask: Ask, *, startup: Startup = "auto") -> BaseSampler:
    """Make Optuna's sampler, which draws at random until so many trials are complete."""
    return GPSampler(
        n_startup_trials=startup_trials(startup, ask.num_planned),
        seed=ask.seed,
        constraints_func=ask.constraints,
        warn_independent_sampling=False,
    )


SAMPLER = Sampler(build, num_startup=random_startup)
