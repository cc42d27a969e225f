"""CMA-ES over the numbers that all trials share, from the best trial of the start; the rest is drawn at random.

Every trial notes its generation and the trial at the centre of the first; the state is rebuilt from these and the ranks
of the trials at each ask. Optuna's CmaEsSampler pickles its state into the journal instead and executes whatever it
finds there, and knows no pruned trials, which here rank below the complete ones.

Source: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

from sparse_search.search.judged import is_feasible
from sparse_search.search.outcomes import ascending_value
from sparse_search.search.sampler import Ask, Population, Sampler, Startup, random_startup, startup_trials
from sparse_search.search.unit_interval import Numeric, from_unit_interval, to_unit_interval

SIGMA = 0.2
"""First standard deviation, in units of a parameter's whole range."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def _merit(study: Study, known: FrozenTrial) -> tuple[bool, bool, int, float]:
    """Key that is larger for the better: complete trials by value, then pruned ones by last step and last value.

    What violates a constraint comes last.
    """
    is_complete = known.state == TrialState.COMPLETE
    return (
        is_feasible(known),
        is_complete,
        0 if is_complete else known.last_step or 0,
        ascending_value(study, known.value),
    )


def _numbers_of(finished: Sequence[FrozenTrial], generation: int) -> list[int]:
    """Return a generation's trials by number, in the order in which they finished: a late one changes nothing told."""
    members = [known for known in finished if known.system_attrs.get("cmaes", {}).get("generation") == generation]
    return [known.number for known in sorted(members, key=lambda known: (known.datetime_complete, known.number))]


def _centre(trials: Sequence[FrozenTrial]) -> int | None:
    """Return the number of the trial at the centre of the first generation; None before that."""
    return next((known.system_attrs["cmaes"]["centre"] for known in trials if "cmaes" in known.system_attrs), None)


def _point(search_space: Mapping[str, Numeric], params: Mapping[str, Any]) -> np.ndarray:
    return np.array([to_unit_interval(range_, params[name]) for name, range_ in search_space.items()])


@final
class _CmaEs(RandomSampler):
    """CMA-ES whose state is rebuilt from the study at each ask."""

    def __init__(self, seed: int, startup: int, population: int | None) -> None:
        super().__init__(seed=seed)
        self._seed, self._startup, self._population = seed, startup, population

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the ranges of the numbers that every finished trial has."""
        shared = intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)
        numbers = (FloatDistribution, IntDistribution)
        return {name: range_ for name, range_ in shared.items() if isinstance(range_, numbers) and not range_.single()}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """Draw from the distribution that all generations told so far lead to; return nothing during the start."""
        trials = study.get_trials(deepcopy=False)
        finished = [known for known in trials if known.state in _FINISHED]
        if not search_space or len(finished) < self._startup:
            return {}
        best_first = sorted(finished, key=lambda known: _merit(study, known), reverse=True)
        noted = _centre(trials)
        centre = best_first[0].number if noted is None else noted
        optimizer = self._rebuilt(search_space, finished, best_first, centre)
        note = {"generation": optimizer.generation, "centre": centre}
        study._storage.set_trial_system_attr(trial._trial_id, "cmaes", note)
        drawn = zip(search_space.items(), optimizer.ask(), strict=True)
        return {name: from_unit_interval(range_, float(unit)) for (name, range_), unit in drawn}

    def _rebuilt(
        self,
        search_space: Mapping[str, Numeric],
        finished: Sequence[FrozenTrial],
        best_first: Sequence[FrozenTrial],
        centre: int,
    ) -> Any:
        """Return the optimiser after it was told the ranks of every full generation."""
        from cmaes import CMA  # type: ignore[import-untyped]  # only this sampler needs it

        ranks = {known.number: rank for rank, known in enumerate(best_first)}
        points = {known.number: _point(search_space, known.params) for known in finished}
        bounds = np.tile([0.0, 1.0], (len(search_space), 1))
        optimizer = CMA(points[centre], sigma=SIGMA, bounds=bounds, seed=self._seed, population_size=self._population)
        size = optimizer.population_size
        while len(told := _numbers_of(finished, optimizer.generation)) >= size:
            optimizer.tell([(points[number], ranks[number]) for number in told[:size]])
        return optimizer


def build(ask: Ask, *, startup: Startup = "auto", population: Population = "auto") -> BaseSampler:
    """Make the sampler; a population that is not given grows with the logarithm of the number of parameters."""
    size = None if isinstance(population, str) else population
    return _CmaEs(ask.seed, startup_trials(startup, ask.num_planned), size)


SAMPLER = Sampler(build, num_startup=random_startup)
