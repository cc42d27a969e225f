"""Which settings mattered: PED-ANOVA on the trials of the runs table, set against what chance gives.

1. A trial's score becomes its rank within its ranking, so that studies of any level can be pooled.
2. PED-ANOVA measures per setting how far the best trials are concentrated compared to all trials.
3. The same is done with the ranks shuffled. What a setting has beyond the mean of these is its importance; it is
   *clear* where at most 5 % of the shufflings have any setting that stands out as much (Westfall & Young's
   max-statistic, so the 5 % hold for all settings of a method together).

Sources: Watanabe et al., PED-ANOVA, arXiv:2304.10255; for settings with conditions arXiv:2601.20800;
Westfall & Young, Resampling-Based Multiple Testing (1993).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.methods import config_of, configured_methods
from search_spaces.core.ranges import Choice, Float, Int, Range, Scalar, Space, space_of
from sparse_search.analysis.leaderboard import query, rank
from sparse_search.results.mirror import read_store
from sparse_search.results.rows import CONFIRMATION
from sparse_search.results.trials import RANKING, searched_settings
from trainables.metrics.table import DEFAULT_METRIC

if TYPE_CHECKING:
    from optuna.study import Study

MIN_TRIALS = 20
"""With fewer, the best quarter is fewer than the five trials that PED-ANOVA wants above its quantile."""

_BEST_SHARE, _MIN_BEST = 0.1, 5
_SHUFFLINGS = 39
_MAX_TRIALS = 2000
"""Looked at, evenly over the levels; the cost of PED-ANOVA grows with their number."""


@dataclass(frozen=True)
class SettingImportance:
    """Importance of one setting."""

    name: str
    share: float
    """Share of all that the settings have beyond chance, in [0, 1]."""

    clear: bool
    """True where chance can be ruled out at 5 %, for all settings of the method together."""


@dataclass(frozen=True)
class Importance:
    """The settings of one method, the most important first."""

    method: str
    shared: Mapping[str, Any]
    """Values that the trials share: all that makes scores comparable; empty where they are pooled."""

    num_trials: int
    num_studies: int
    settings: tuple[SettingImportance, ...]
    doubt: str
    """Why it cannot be told; empty where it can."""


@dataclass(frozen=True)
class _Trial:
    values: Mapping[str, Scalar]
    """Values of the searched settings that have an effect in it."""

    level: float
    """From 0, the best of its ranking, to 1."""


def importance(
    results: Path | str = "results",
    *,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = DEFAULT_METRIC,
) -> list[Importance]:
    """The importance of each method's settings: first pooled over datasets and shots, then study by study.

    Only searched trials count, by the predictor that the search optimised; defaults, presets and confirmations were
    not drawn from the space. The same records give the same answer.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric.
    """
    return importance_of(query(read_store(results), dataset=dataset, shots=shots, method=method), metric)


def importance_of(runs: pa.Table, metric: str = DEFAULT_METRIC) -> list[Importance]:
    """The importance of each method's settings, from run rows."""
    searches = runs.filter(pc.invert(pc.ends_with(runs["study"], CONFIRMATION)))
    settings = searched_settings(searches)
    studies = _studies(rank(searches, metric), settings, _main_predictors(searches))
    found = []
    for method in dict.fromkeys(method for method, _ in studies):
        own = {key: trials for (name, key), trials in studies.items() if name == method}
        together = [trial for trials in own.values() for trial in trials]
        space = _observed(_space(method), together)
        if len(own) > 1:
            found.append(_explain(method, {}, together, space, len(own)))
        for key, trials in own.items():
            found.append(_explain(method, dict(zip(RANKING, key, strict=True)), trials, space, 1))
    return found


def _main_predictors(runs: pa.Table) -> dict[str, str]:
    """Per method, the predictor that its search optimises: the first row of a record."""
    firsts = runs.group_by("method", use_threads=False).aggregate([("predictor", "first")])
    return dict(zip(firsts["method"].to_pylist(), firsts["predictor_first"].to_pylist(), strict=True))


def _studies(
    ranked: pa.Table, settings: Mapping[str, Sequence[str]], predictors: Mapping[str, str]
) -> dict[tuple[str, tuple[Any, ...]], list[_Trial]]:
    """The searched trials of each method and ranking, best first; methods with nothing to tell apart are left out."""
    rows: dict[tuple[str, tuple[Any, ...]], list[dict[str, Any]]] = defaultdict(list)
    for row in ranked.select([*RANKING, "method", "predictor", "start", "config_json", "inactive"]).to_pylist():
        if settings[row["method"]] and not row["start"] and row["predictor"] == predictors[row["method"]]:
            rows[row["method"], tuple(row[name] for name in RANKING)].append(row)
    return {key: _trials(found, settings[key[0]]) for key, found in rows.items()}


def _trials(rows: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> list[_Trial]:
    trials = []
    for position, row in enumerate(rows):
        config, inactive = json.loads(row["config_json"]), set(row["inactive"].split(", "))
        values = {name: config[name] for name in settings if name in config and name not in inactive}
        trials.append(_Trial(values, position / max(1, len(rows) - 1)))
    return trials


def _space(method: str) -> Space:
    """The method's own ranges, from the module of its name in `search_spaces`; none for a method from elsewhere.

    `find_method` would import what trains it, which takes seconds.
    """
    return space_of(config_of(method)) if method in configured_methods() else {}


def _observed(space: Space, trials: Iterable[_Trial]) -> Space:
    """A range for each setting that holds every value seen: a sweep may have searched wider than the method says."""
    seen: dict[str, list[Scalar]] = defaultdict(list)
    for trial in trials:
        for name, value in trial.values.items():
            seen[name].append(value)
    return {name: _widened(space.get(name), values) for name, values in seen.items()}


def _widened(range_: Range | None, values: Sequence[Scalar]) -> Range:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if isinstance(range_, Choice) or len(numbers) < len(values) or (range_ is None and len(set(numbers)) < 2):
        options = [*(range_.options if isinstance(range_, Choice) else ()), *sorted(values, key=repr)]
        return Choice(*{repr(option): option for option in options}.values())
    ends = (*(range_.ends() if range_ else ()), *numbers)
    low, high = min(ends), max(ends)  # type: ignore[type-var]
    log = range_.log if range_ else high > 100 * low > 0  # type: ignore[operator]
    if isinstance(range_, Int) and all(isinstance(number, int) for number in numbers):
        return Int(int(low), int(high), log and low > 0)  # type: ignore[operator]
    return Float(float(low), float(high), log and low > 0)  # type: ignore[operator]


def _explain(
    method: str, shared: Mapping[str, Any], trials: Sequence[_Trial], space: Space, num_studies: int
) -> Importance:
    if len(trials) < MIN_TRIALS:
        doubt = f"{len(trials)} complete searched trials are too few to tell; it takes {MIN_TRIALS}"
        return Importance(method, shared, len(trials), num_studies, (), doubt)
    settings = _beyond_chance(_thinned(trials), space)
    doubt = "" if any(setting.clear for setting in settings) else "no setting stands out from chance"
    return Importance(method, shared, len(trials), num_studies, settings, doubt)


def _beyond_chance(trials: Sequence[_Trial], space: Space) -> tuple[SettingImportance, ...]:
    study, names = _study(trials, space), list(space)
    levels = np.array([trial.level for trial in trials])
    rng = np.random.default_rng(0)
    measured_S = _ped_anova(study, names, levels)
    by_chance_NS = np.array([_ped_anova(study, names, rng.permutation(levels)) for _ in range(_SHUFFLINGS)])
    beyond_NS = _beyond_the_others(np.sqrt(np.vstack([measured_S, by_chance_NS])))  # the root has lighter tails
    num_higher_S = (beyond_NS[1:].max(1)[:, None] >= beyond_NS[0]).sum(0)
    clear_S = (1 + num_higher_S) / (1 + _SHUFFLINGS) <= 0.05
    excess_S = np.maximum(0.0, measured_S - by_chance_NS.mean(0))
    share_S = excess_S / (excess_S.sum() or 1.0)
    order = np.argsort(-share_S, kind="stable")
    return tuple(SettingImportance(names[s], float(share_S[s]), bool(clear_S[s])) for s in order)


def _beyond_the_others(values_NS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per row and column, how many standard deviations of the other rows it lies above their mean.

    Every row is treated alike, so that the first is the highest as often as any if nothing matters.
    """
    others = [np.delete(values_NS, row, axis=0) for row in range(len(values_NS))]
    return np.array([(v - o.mean(0)) / (o.std(0) + 1e-12) for v, o in zip(values_NS, others, strict=True)])


def _thinned(trials: Sequence[_Trial]) -> Sequence[_Trial]:
    return trials[:: ceil(len(trials) / _MAX_TRIALS)]


def _study(trials: Sequence[_Trial], space: Space) -> "Study":
    """The trials as Optuna holds them; settings without effect are no parameters of a trial."""
    import optuna
    from optuna.trial import create_trial

    from sparse_search.distributions import distribution_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize")
    distributions = {name: distribution_of(range_) for name, range_ in space.items()}
    for trial in trials:
        own = {name: distributions[name] for name in trial.values}
        study.add_trial(create_trial(params=dict(trial.values), distributions=own, value=trial.level))
    return study


def _ped_anova(study: "Study", names: Sequence[str], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The importances (S,) if the trials had these levels (N,), low is good."""
    import warnings

    from optuna.importance import PedAnovaImportanceEvaluator

    best = max(_MIN_BEST, ceil(_BEST_SHARE * len(levels))) / len(levels)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*computes the importances of params to achieve low")
        found = evaluator.evaluate(study, list(names), target=lambda trial: float(levels[trial.number]))
    return np.array([found[name] for name in names])
