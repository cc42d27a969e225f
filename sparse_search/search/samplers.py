"""Samplers and pruners by the names that a sweep file uses, each with its checked options.

    sampler: tpe                    sampler: {name: tpe, startup: 10}
    pruner: halving                 pruner: {name: hyperband, reduction: 2}

The keyword-only parameters of a maker below (`_tpe`, `_halving`, …) are its options. A sampler is made anew for every
ask and keeps nothing until the next: what it knows stands in the study, as plain values, so a restarted driver asks
what an undisturbed one would have asked, and nothing that is read from disk is ever executed.

`gp`, `cmaes` and `nsga2` model the parameters that every finished trial has; one that some trials lack is drawn at
random. `tpe` (by groups) and `qmc` (a coordinate of its own for each) search these too.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any, NamedTuple, final, get_args, get_type_hints
from zlib import crc32

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.errors import ConfigError, suggestion
from search_spaces.core.ranges import Choice, Float, Int, Range, Scalar

Constraints = Callable[[FrozenTrial], Sequence[float]]
"""How far a trial violates each constraint; 0 and less is feasible. Called before its values are stored."""

_Count = Annotated[int, Int(1, 1000)]
_Startup = Annotated[int | str, Int(1, 1000), Choice("auto")]
_Population = Annotated[int | str, Int(4, 1000), Choice("auto")]
_Share = Annotated[float, Float(0, 1)]
_Rate = Annotated[float | str, Float(0, 1), Choice("auto")]
_Sequence = Annotated[str, Choice("sobol", "halton")]
_Reduction = Annotated[int, Int(2, 10)]


@dataclass(frozen=True)
class _Named:
    name: str
    options: tuple[tuple[str, Scalar], ...] = ()
    """What differs from the defaults, in the order of the maker's parameters."""

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{option}={value}" for option, value in self.options)])


class SamplerChoice(_Named):
    """A sampler with its options, as `read_sampler` checked them."""


class PrunerChoice(_Named):
    """A pruner with its options, as `read_pruner` checked them."""


def read_sampler(given: object) -> SamplerChoice:
    """The sampler that a sweep file gives: a name, or a mapping of name and options; `ConfigError` says what is not."""
    return SamplerChoice(*_read("sampler", given, SAMPLERS))


def read_pruner(given: object) -> PrunerChoice:
    """The pruner that a sweep file gives: a name, or a mapping of name and options; `ConfigError` says what is not."""
    return PrunerChoice(*_read("pruner", given, PRUNERS))


def new_sampler(
    choice: SamplerChoice, *, seed: int, num_known: int, num_planned: int, constraints: Constraints | None = None
) -> BaseSampler:
    """The sampler of one ask.

    `seed` is that of the study: only `qmc` uses it as it is, because its points are one sequence; all others mix in
    `num_known`, the trials in the study. `constraints` reach `tpe`, `gp` and `nsga2`, and are evaluated by the sampler
    that the study has when a trial is told, so that one needs them too.
    """
    mixed = int.from_bytes(sha256(f"{seed}/{num_known}".encode()).digest()[:4], "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # TPE's `group`
        warnings.filterwarnings("ignore", "`constraints_func` has been deprecated", FutureWarning)
        return SAMPLERS[choice.name](_Ask(seed, mixed, num_planned, constraints), **dict(choice.options))


def new_pruner(choice: PrunerChoice, *, num_rungs: int) -> BasePruner:
    """Return the pruner of a study whose trials report at `rung_steps`; it keeps nothing between two questions."""
    return PRUNERS[choice.name](num_rungs, **dict(choice.options))


def num_startup(choice: SamplerChoice, num_planned: int) -> int:
    """Random trials before the model: finished ones (`tpe`, `cmaes`) or complete ones (`gp`, `nsga2`); 0 without."""
    values = _options(SAMPLERS[choice.name])[0] | dict(choice.options)
    if choice.name == "nsga2":
        return _population_of(values["population"], num_planned)
    return _startup_of(values.get("startup", 0), num_planned)


def num_objectives(choice: SamplerChoice) -> int:
    """2 where the seconds of a trial count beside its objective; such a study can neither report nor prune."""
    return 2 if choice.name == "nsga2" else 1


def rung_steps(num_rungs: int) -> tuple[int, ...]:
    """The steps at which a trial reports, each with three times the budget of the one before; the last is its end."""
    return tuple(3**rung for rung in range(num_rungs))


def _read(kind: str, given: object, makers: Mapping[str, Callable[..., Any]]) -> tuple[str, tuple[Any, ...]]:
    body = {"name": given} if isinstance(given, str) else given
    if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
        names = ", ".join(makers)
        raise ConfigError(f"{kind}: expected a name, or {{name: …, option: value}}, got {given!r}. Names: {names}")
    name, options = body["name"], {option: value for option, value in body.items() if option != "name"}
    if name not in makers:
        raise ConfigError(f"{kind} '{name}' is unknown{suggestion(name, makers)}")
    defaults, ranges = _options(makers[name])
    for option, value in options.items():
        if option not in ranges:
            hint = suggestion(str(option), ranges) if ranges else ": it has none"
            raise ConfigError(f"{kind} {name} has no option '{option}'{hint}")
        if not any(value in range_ for range_ in ranges[option]):
            expected = ", or ".join(map(str, ranges[option]))
            raise ConfigError(f"{kind} {name}: {option}: {value!r} is impossible, expected {expected}")
    changed = (option for option, default in defaults.items() if options.get(option, default) != default)
    return name, tuple((option, options[option]) for option in changed)


def _options(maker: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, tuple[Range, ...]]]:
    """Default and legal ranges of every option: the keyword-only parameters."""
    hints = get_type_hints(maker, include_extras=True)
    parameters = [p for p in inspect.signature(maker).parameters.values() if p.kind == p.KEYWORD_ONLY]
    return {p.name: p.default for p in parameters}, {p.name: get_args(hints[p.name])[1:] for p in parameters}


class _Ask(NamedTuple):
    """What a sampler is made for."""

    study_seed: int
    seed: int
    num_planned: int
    constraints: Constraints | None


def _startup_of(startup: int | str, num_planned: int) -> int:
    return max(4, min(10, num_planned // 3)) if isinstance(startup, str) else startup


def _population_of(population: int | str, num_planned: int) -> int:
    """Without a number: five generations, as far as 4 to 50 in each allow."""
    return max(4, min(50, num_planned // 5)) if isinstance(population, str) else population


def _tpe(ask: _Ask, *, startup: _Startup = "auto", candidates: _Count = 24) -> BaseSampler:
    """Tree-structured Parzen estimators, all parameters together; running trials count as bad."""
    return TPESampler(
        multivariate=True,
        group=True,
        constant_liar=True,
        n_startup_trials=_startup_of(startup, ask.num_planned),
        n_ei_candidates=candidates,
        seed=ask.seed,
        constraints_func=ask.constraints,
    )


def _random(ask: _Ask) -> BaseSampler:
    return RandomSampler(seed=ask.seed)


def _qmc(ask: _Ask, *, sequence: _Sequence = "sobol") -> BaseSampler:
    return _QuasiRandom(sequence, ask.study_seed)


def _gp(ask: _Ask, *, startup: _Startup = "auto") -> BaseSampler:
    """A Gaussian process and its log expected improvement; learns nothing from pruned trials."""
    return GPSampler(
        n_startup_trials=_startup_of(startup, ask.num_planned),
        seed=ask.seed,
        constraints_func=ask.constraints,
        warn_independent_sampling=False,
    )


def _cmaes(ask: _Ask, *, startup: _Startup = "auto", population: _Population = "auto") -> BaseSampler:
    """A population that is not given grows with the logarithm of the number of parameters."""
    size = None if isinstance(population, str) else population
    return _CmaEs(ask.seed, _startup_of(startup, ask.num_planned), size)


def _nsga2(
    ask: _Ask, *, population: _Population = "auto", crossover: _Share = 0.9, mutation: _Rate = "auto"
) -> BaseSampler:
    """A genetic algorithm; without a number, one parameter of a child mutates on average."""
    return NSGAIISampler(
        population_size=_population_of(population, ask.num_planned),
        crossover_prob=crossover,
        mutation_prob=None if isinstance(mutation, str) else mutation,
        seed=ask.seed,
        constraints_func=ask.constraints,
    )


SAMPLERS: Mapping[str, Callable[..., BaseSampler]] = {
    "tpe": _tpe, "random": _random, "qmc": _qmc, "gp": _gp, "cmaes": _cmaes, "nsga2": _nsga2,
}  # fmt: skip


@final
class _QuasiRandom(RandomSampler):
    """The points of one scrambled low-discrepancy sequence, in the order of the trials.

    A parameter has its own coordinate, in the order of first appearance, so a conditional space is covered as evenly.
    Optuna's QMCSampler takes the first trial's parameters for the whole space and draws all others independently: under
    one fixed seed, as a sequence needs, they would be the same at every ask.
    """

    def __init__(self, sequence: str, seed: int) -> None:
        super().__init__(seed=seed)
        self._sequence, self._seed = sequence, seed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's coordinate of the trial's point; what is enqueued takes no point."""
        earlier = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        names = dict.fromkeys(name for known in (*earlier, trial) for name in known.params)
        coordinate = [*names, param_name].index(param_name)
        position = sum("fixed_params" not in other.system_attrs for other in earlier)
        point = _point(self._sequence, self._seed, position, coordinate // 64)
        return _from_unit(param_distribution, point[coordinate])


@lru_cache(maxsize=8)
def _point(sequence: str, seed: int, position: int, more: int) -> list[float]:
    """A point in 64 coordinates, or in as many `more` times again: a scrambling depends on their number."""
    from scipy.stats import qmc  # half a second that no other sampler pays

    engine = {"sobol": qmc.Sobol, "halton": qmc.Halton}[sequence](64 * (1 + more), scramble=True, rng=seed)
    if position:
        engine.fast_forward(position)
    return list(map(float, engine.random(1)[0]))


@final
class _CmaEs(RandomSampler):
    """CMA-ES over the numbers that all trials share, from the best trial of the start; the rest is drawn at random.

    Every trial notes its generation and the trial at the centre of the first; the state is rebuilt from these and the
    ranks of the trials at each ask. Optuna's CmaEsSampler pickles its state into the journal instead and executes
    whatever it finds there, and knows no pruned trials, which here rank below the complete ones.

    Source: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
    """

    def __init__(self, seed: int, startup: int, population: int | None) -> None:
        super().__init__(seed=seed)
        self._seed, self._startup, self._population = seed, startup, population

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The numbers that every finished trial has."""
        shared = intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)
        numbers = (FloatDistribution, IntDistribution)
        return {name: range_ for name, range_ in shared.items() if isinstance(range_, numbers) and not range_.single()}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """A draw from the distribution that all generations told so far lead to; nothing during the start."""
        from cmaes import CMA  # type: ignore[import-untyped]  # only this sampler needs it

        trials = study.get_trials(deepcopy=False)
        finished = [known for known in trials if known.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if not search_space or len(finished) < self._startup:
            return {}
        best_first = sorted(finished, key=lambda known: _merit(study, known), reverse=True)
        ranks = {known.number: rank for rank, known in enumerate(best_first)}
        places = {
            known.number: np.array([_to_unit(range_, known.params[name]) for name, range_ in search_space.items()])
            for known in finished
        }
        centres = (known.system_attrs["cmaes"]["centre"] for known in trials if "cmaes" in known.system_attrs)
        centre = next(centres, best_first[0].number)
        bounds = np.tile([0.0, 1.0], (len(search_space), 1))
        optimizer = CMA(places[centre], sigma=0.2, bounds=bounds, seed=self._seed, population_size=self._population)
        while len(told := _generation(finished, optimizer.generation)) >= optimizer.population_size:
            optimizer.tell([(places[number], ranks[number]) for number in told[: optimizer.population_size]])
        note = {"generation": optimizer.generation, "centre": centre}
        study._storage.set_trial_system_attr(trial._trial_id, "cmaes", note)
        drawn = zip(search_space.items(), optimizer.ask(), strict=True)
        return {name: _from_unit(range_, float(unit)) for (name, range_), unit in drawn}


def _generation(finished: Iterable[FrozenTrial], generation: int) -> list[int]:
    """Numbers of its trials in the order in which they finished, so that a late one changes nothing told before."""
    of_it = [known for known in finished if known.system_attrs.get("cmaes", {}).get("generation") == generation]
    return [known.number for known in sorted(of_it, key=lambda known: (known.datetime_complete, known.number))]


def _merit(study: Study, known: FrozenTrial) -> tuple[bool, int, float]:
    """Larger is better: complete trials by value, then pruned ones by how far they came and their last value."""
    is_complete = known.state == TrialState.COMPLETE
    return is_complete, 0 if is_complete else known.last_step or 0, _upward(study, known.value)


def _upward(study: Study, value: float | None) -> float:
    """The value as one to be maximised; none at all is the worst."""
    if value is None or math.isnan(value):
        return -math.inf
    return value if study.direction == StudyDirection.MAXIMIZE else -value


def _ends(range_: BaseDistribution) -> tuple[float, float]:
    """Of the interval that [0, 1] stands for; every whole number has an equal share of it."""
    assert isinstance(range_, FloatDistribution | IntDistribution)
    margin = 0.5 if isinstance(range_, IntDistribution) else 0.0
    low, high = range_.low - margin, range_.high + margin
    return (math.log(low), math.log(high)) if range_.log else (low, high)


def _to_unit(range_: FloatDistribution | IntDistribution, value: float) -> float:
    low, high = _ends(range_)
    return ((math.log(value) if range_.log else value) - low) / (high - low)


def _from_unit(range_: BaseDistribution, unit: float) -> Any:
    """The value at a place in [0, 1] of a range without steps."""
    if isinstance(range_, CategoricalDistribution):
        return range_.choices[min(int(unit * len(range_.choices)), len(range_.choices) - 1)]
    assert isinstance(range_, FloatDistribution | IntDistribution)
    low, high = _ends(range_)
    value = low + unit * (high - low)
    value = math.exp(value) if range_.log else value
    return min(max(round(value) if isinstance(range_, IntDistribution) else value, range_.low), range_.high)


def _halving(num_rungs: int, *, reduction: _Reduction = 2) -> BasePruner:
    return _SuccessiveHalving(reduction, num_rungs, num_brackets=1)


def _hyperband(num_rungs: int, *, reduction: _Reduction = 3) -> BasePruner:
    return _SuccessiveHalving(reduction, num_rungs, num_brackets=num_rungs)


def _median(num_rungs: int, *, startup: _Count = 4) -> BasePruner:
    """Stops what is worse, at its best so far, than the median of the complete trials at the same step."""
    return MedianPruner(n_startup_trials=startup)


def _none(num_rungs: int) -> BasePruner:
    return NopPruner()


PRUNERS: Mapping[str, Callable[..., BasePruner]] = {
    "halving": _halving, "hyperband": _hyperband, "median": _median, "none": _none,
}  # fmt: skip


@final
class _SuccessiveHalving(BasePruner):
    """Asynchronous successive halving, judged from the reported values alone.

    A trial goes on from a rung when it is among the best 1/reduction of all that reported there, itself included, and
    among fewer than `reduction` when it is the best; nothing stops at the last rung, which is the end. Of Hyperband's
    brackets, the b-th judges from rung b on, and a trial is only compared within its own.

    Optuna's SuccessiveHalvingPruner decides alike, but asked again, as after a restart, it lets go on what it had
    stopped; its HyperbandPruner hides from the sampler all other brackets.

    Sources: Li et al., MLSys 2020, arXiv:1810.05934 (asynchronous); Li et al., JMLR 18, arXiv:1603.06560 (Hyperband).
    """

    def __init__(self, reduction: int, num_rungs: int, num_brackets: int) -> None:
        self._reduction = reduction
        self._steps = rung_steps(num_rungs)
        self._shares = [math.ceil(num_brackets * reduction**left / (left + 1)) for left in range(num_brackets)][::-1]

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial stops at the step that it reported last."""
        step, bracket = trial.last_step, self._bracket(study, trial)
        if step is None or step not in self._steps[bracket:-1]:
            return False
        rivals = [
            t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.state != TrialState.FAIL
        ]
        others = [t for t in rivals if step in t.intermediate_values and self._bracket(study, t) == bracket]
        value = _upward(study, trial.intermediate_values[step])
        num_better = sum(_upward(study, other.intermediate_values[step]) > value for other in others)
        return num_better >= max((len(others) + 1) // self._reduction, 1)

    def _bracket(self, study: Study, trial: FrozenTrial) -> int:
        """Drawn from the trial's number, in proportion to the trials that each bracket starts with."""
        ticket = crc32(f"{study.study_name} {trial.number}".encode()) % sum(self._shares)
        return next(b for b in range(len(self._shares)) if ticket < sum(self._shares[: b + 1]))
