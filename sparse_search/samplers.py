"""Samplers and pruners by the names that a sweep file uses."""

import warnings
from hashlib import sha256

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from sparse_search.sweep import Study, Sweep


def new_sampler(study: Study, num_known: int) -> BaseSampler:
    """The sampler of the next trial, seeded by what is known: a restarted driver asks what it would have asked."""
    text = f"{study.sweep.seed}/{study.name}/{num_known}"
    seed = int.from_bytes(sha256(text.encode()).digest()[:4], "big")
    if study.sweep.sampler == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=max(4, min(10, study.plan.trials // 3)),
            seed=seed,
        )


def new_pruner(sweep: Sweep) -> BasePruner:
    """The pruner of a sweep; steps are epochs, summed over the runs of a trial."""
    match sweep.pruner:
        case "median":
            return MedianPruner(n_startup_trials=4)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=sweep.evaluate_every, reduction_factor=3)
    return NopPruner()
