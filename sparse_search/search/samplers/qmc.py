"""Quasi-random search: one scrambled low-discrepancy sequence per study, also across restarts.

Optuna's QMCSampler takes the first trial's parameters for the whole space and draws all others independently: under one
fixed seed, as a sequence needs, they would be the same at every ask.
"""

from functools import lru_cache
from typing import Annotated, Any, final

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from search_spaces.core.ranges import Choice
from sparse_search.search.sampler import Ask, Sampler
from sparse_search.search.unit_interval import from_unit_interval

_BLOCK = 64
"""Coordinates that are scrambled together; a scrambling depends on their number."""


@lru_cache(maxsize=8)
def _point(sequence: str, seed: int, position: int, more_blocks: int) -> list[float]:
    """Return one point of a sequence in [0, 1), in one block of coordinates and so many more."""
    from scipy.stats import qmc  # half a second that no other sampler pays

    engine = {"sobol": qmc.Sobol, "halton": qmc.Halton}[sequence](_BLOCK * (1 + more_blocks), scramble=True, rng=seed)
    if position:
        engine.fast_forward(position)
    return list(map(float, engine.random(1)[0]))


@final
class _QuasiRandom(RandomSampler):
    """Points of one sequence in the order of the trials.

    A parameter has its own coordinate, in the order of first appearance, so a conditional space is covered as evenly.
    """

    def __init__(self, sequence: str, seed: int) -> None:
        super().__init__(seed=seed)
        self._sequence, self._seed = sequence, seed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the parameter's coordinate of the trial's point; an enqueued trial takes no point."""
        earlier = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        names = dict.fromkeys(name for known in (*earlier, trial) for name in known.params)
        coordinate = [*names, param_name].index(param_name)
        position = sum("fixed_params" not in other.system_attrs for other in earlier)
        point = _point(self._sequence, self._seed, position, coordinate // _BLOCK)
        return from_unit_interval(param_distribution, point[coordinate])


def build(ask: Ask, *, sequence: Annotated[str, Choice("sobol", "halton")] = "sobol") -> BaseSampler:
    """Make the sampler under the study's own seed, as the points of all asks are one sequence."""
    return _QuasiRandom(sequence, ask.study_seed)


SAMPLER = Sampler(build)
