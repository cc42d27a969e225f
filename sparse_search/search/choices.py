"""Samplers and pruners by the names that a sweep file uses, each with its checked options.

    sampler: tpe                    sampler: {name: tpe, startup: 10}
    pruner: halving                 pruner: {name: hyperband, reduction: 2}

One is found by the name of its file in `samplers/` or `pruners/`, and loaded when it is named; nothing is registered.
"""

import warnings
from hashlib import sha256
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from sparse_search.search import pruners, samplers
from sparse_search.search.options import NamedOptions, options_of, read_named
from sparse_search.search.pruner import Pruner
from sparse_search.search.sampler import Ask, Constraints, Sampler


class SamplerChoice(NamedOptions):
    """A sampler with its options, as `read_sampler` checked them."""


class PrunerChoice(NamedOptions):
    """A pruner with its options, as `read_pruner` checked them."""


def sampler_names() -> list[str]:
    """Return the names of all samplers, sorted."""
    return _modules_in(samplers)


def pruner_names() -> list[str]:
    """Return the names of all pruners, sorted."""
    return _modules_in(pruners)


def find_sampler(name: str) -> Sampler:
    """Load the sampler of that name; import errors propagate."""
    sampler: Sampler = import_module(f"{samplers.__name__}.{name}").SAMPLER
    return sampler


def find_pruner(name: str) -> Pruner:
    """Load the pruner of that name; import errors propagate."""
    pruner: Pruner = import_module(f"{pruners.__name__}.{name}").PRUNER
    return pruner


def read_sampler(given: object) -> SamplerChoice:
    """Return the sampler that a sweep file gives: a name, or a mapping of name and options.

    Raises:
        ConfigError: unknown name or option, or an impossible value.
    """
    return SamplerChoice(*read_named("sampler", given, sampler_names(), lambda name: find_sampler(name).build))


def read_pruner(given: object) -> PrunerChoice:
    """Return the pruner that a sweep file gives: a name, or a mapping of name and options.

    Raises:
        ConfigError: unknown name or option, or an impossible value.
    """
    return PrunerChoice(*read_named("pruner", given, pruner_names(), lambda name: find_pruner(name).build))


def new_sampler(
    choice: SamplerChoice, *, seed: int, num_known: int, num_planned: int, constraints: Constraints | None = None
) -> BaseSampler:
    """Make the sampler of one ask.

    `seed` is that of the study: only `qmc` uses it as it is, because its points are one sequence; all others mix in
    `num_known`, the trials in the study. `constraints` reach `tpe`, `gp` and `nsga2`, and are evaluated by the sampler
    that the study has when a trial is told, so that one needs them too.
    """
    mixed = int.from_bytes(sha256(f"{seed}/{num_known}".encode()).digest()[:4], "big")
    build = find_sampler(choice.name).build
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # TPE's `group`
        warnings.filterwarnings("ignore", "`constraints_func` has been deprecated", FutureWarning)
        return build(Ask(seed, mixed, num_planned, constraints), **dict(choice.options))


def new_pruner(choice: PrunerChoice, *, num_rungs: int) -> BasePruner:
    """Make the pruner of a study whose trials report at `rung_steps`."""
    return find_pruner(choice.name).build(num_rungs, **dict(choice.options))


def num_startup(choice: SamplerChoice, num_planned: int) -> int:
    """Count the random trials before the model: finished ones (`tpe`, `cmaes`), complete ones (`gp`, `nsga2`); or 0."""
    sampler = find_sampler(choice.name)
    defaults = {name: option.default for name, option in options_of(sampler.build).items()}
    return sampler.num_startup(num_planned, defaults | dict(choice.options))


def num_objectives(choice: SamplerChoice) -> int:
    """Count the objectives: 2 where the seconds of a trial count too; such a study can neither report nor prune."""
    return find_sampler(choice.name).num_objectives


def _modules_in(package: ModuleType) -> list[str]:
    modules = iter_modules(package.__path__)
    return sorted(m.name for m in modules if not m.ispkg and not m.name.startswith("_"))
