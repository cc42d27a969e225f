"""Genetic algorithm for two objectives, the score against the seconds of training.

Source: Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE TEC 6(2), 2002.
"""

from collections.abc import Mapping
from typing import Annotated

from optuna.samplers import BaseSampler, NSGAIISampler

from search_spaces.core.ranges import Choice, Float, Scalar
from sparse_search.search.sampler import Ask, Population, Sampler


def build(
    ask: Ask,
    *,
    population: Population = "auto",
    crossover: Annotated[float, Float(0, 1)] = 0.9,
    mutation: Annotated[float | str, Float(0, 1), Choice("auto")] = "auto",
) -> BaseSampler:
    """Make Optuna's sampler; with `mutation: auto`, one parameter of a child mutates on average."""
    return NSGAIISampler(
        population_size=_population_size(population, ask.num_planned),
        crossover_prob=crossover,
        mutation_prob=None if isinstance(mutation, str) else mutation,
        seed=ask.seed,
        constraints_func=ask.constraints,
    )


def _population_size(population: Scalar, num_planned: int) -> int:
    """Return the trials of a generation; without a number, five generations as far as 4 to 50 in each allow."""
    return population if isinstance(population, int) else max(4, min(50, num_planned // 5))


def _first_generation(num_planned: int, options: Mapping[str, Scalar]) -> int:
    return _population_size(options["population"], num_planned)


SAMPLER = Sampler(build, num_startup=_first_generation, num_objectives=2)
