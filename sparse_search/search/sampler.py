"""Contract of a sampler: what a file in `samplers/` offers as `SAMPLER`.

A sampler is made anew for every ask and keeps nothing until the next: what it knows stands in the study, as plain
values, so a restarted driver asks what an undisturbed one would have asked, and nothing that is read from disk is ever
executed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search_spaces.core.ranges import Choice, Int, Scalar

Constraints = Callable[[FrozenTrial], Sequence[float]]
"""Violation of each constraint by a trial; 0 and less is feasible. Called before its values are stored."""

Startup = Annotated[int | str, Int(1, 1000), Choice("auto")]
"""Random trials before the model; `auto` is a third of those planned, from 4 to 10."""

Population = Annotated[int | str, Int(4, 1000), Choice("auto")]
"""Trials of a generation."""


class Ask(NamedTuple):
    """Circumstances of one ask, for which a sampler is made."""

    study_seed: int
    """Seed of the study, the same at every ask."""

    seed: int
    """Seed of this ask: the study's, mixed with the number of trials known."""

    num_planned: int
    """Trials that the study shall have."""

    constraints: Constraints | None


def no_startup(num_planned: int, options: Mapping[str, Scalar]) -> int:
    """Return 0: no model, no random start before it."""
    return 0


def random_startup(num_planned: int, options: Mapping[str, Scalar]) -> int:
    """Return the number of random trials that the option `startup` asks for."""
    return startup_trials(options["startup"], num_planned)


@dataclass(frozen=True)
class Sampler:
    """Offer of a sampler's module as `SAMPLER`."""

    build: Callable[..., BaseSampler]
    """Makes the sampler of an `Ask`; its keyword-only parameters, with ranges and defaults, are the options."""

    num_startup: Callable[[int, Mapping[str, Scalar]], int] = no_startup
    """Number of random trials before the model, given the trials planned and all options."""

    num_objectives: int = 1
    """2 where the seconds of training count beside the objective; such a study can neither report nor prune."""


def startup_trials(startup: Scalar, num_planned: int) -> int:
    """Return the number of random trials at the start."""
    return startup if isinstance(startup, int) else max(4, min(10, num_planned // 3))
