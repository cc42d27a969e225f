"""Portfolios: a few configurations that did well on other data sets and shot counts, for a new search to try first.

Few configurations are trained in more than one setting, so a random forest per setting says how the others would have
ranked there; a greedy choice then covers all settings. Each setting is left out once, to measure what that is worth.

Source: greedy portfolios, Feurer et al. 2022, arXiv:2007.04074, on surrogate benchmarks, Eggensperger et al. 2015.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.errors import ResultsError
from search_spaces.core.ranges import Choice, Range, Space, inactive_fields, space_of
from sparse_search.analysis.leaderboard import query, rank
from sparse_search.results.headings import words_apart
from sparse_search.results.mirror import read_store
from sparse_search.results.rows import metric_of
from sparse_search.results.store import Store
from sparse_search.results.trials import RANKING
from sparse_search.search.sweep import Study
from trainables.core.conditions import PROTOCOL
from trainables.core.method import find_method
from trainables.core.shots import shots_title
from trainables.metrics.table import DEFAULT_METRIC, sign_of

MIN_TRIALS = 5
"""Complete trials that a setting needs before it has a say."""

SEARCH = tuple(name for name in RANKING if name != "label_sets")
"""Columns that make a setting; label sets are left out, as a confirmation is of the same one."""


@dataclass(frozen=True)
class Setting:
    """A data set, a number of shots and the conditions under which a method was searched."""

    title: str
    content_hash: str
    shots: int
    configs: tuple[MethodConfig, ...]
    ranks_N: NDArray[np.float64]
    """Ranks of the configurations, from 0, the worst, to 1."""

    default: float | None
    """Rank of the default, where it is among them."""


@dataclass(frozen=True)
class LeftOut:
    """Worth of a portfolio made elsewhere in a setting: ranks there, from 0 to 1."""

    title: str
    portfolio: float
    """Rank of its best member, measured or as the forest of the setting says."""

    default: float | None
    """Rank of the default, where it was trained."""

    random: float
    """Expected rank of the best of as many configurations drawn from those that were trained there."""


@dataclass(frozen=True)
class Portfolio:
    """Configurations to try first, the most useful one first."""

    configs: tuple[MethodConfig, ...]
    settings: tuple[str, ...]
    """Titles of the settings in which they were seen to do well."""

    left_out: tuple[LeftOut, ...]
    """One for each setting, if there are at least two."""


def transfer(
    results: Path | str,
    method: str,
    *,
    size: int = 3,
    metric: str = DEFAULT_METRIC,
    apart_from: tuple[str, int] | None = None,
) -> Portfolio:
    """Make the portfolio of a method from everything in a results folder.

    Args:
        apart_from: content hash and shots of the search that it is for: what is known of these is no transfer.

    Raises:
        ResultsError: no setting has enough complete trials.
    """
    found = [p for p in settings_of(read_store(results), method, metric) if (p.content_hash, p.shots) != apart_from]
    if not found:
        raise ResultsError(
            f"no other data set or number of shots in {results} has {MIN_TRIALS} complete trials of {method} to "
            "transfer from; run another sweep first"
        )
    left_out = [_left_out(setting, [p for p in found if p is not setting], size) for setting in found if len(found) > 1]
    return Portfolio(tuple(_greedy(found, size)), tuple(setting.title for setting in found), tuple(left_out))


def portfolio_for(study: Study, store: Store) -> tuple[MethodConfig, ...]:
    """Return what a study that begins tries first: searched values of a portfolio, the others as the study has them.

    Raises:
        ResultsError: nothing is known from elsewhere.
    """
    plan, apart_from = study.plan, (study.facts.content_hash, study.shots)
    found = transfer(store.folder, plan.name, size=study.sweep.transfer, metric=plan.objective, apart_from=apart_from)
    own = write_config(plan.settings)
    chosen = [
        own | {name: value for name, value in write_config(config).items() if value in plan.space.get(name, ())}
        for config in found.configs
    ]
    return tuple(read_config(type(plan.settings), values) for values in chosen)


def settings_of(store: Store, method: str, metric: str) -> Iterator[Setting]:
    """Yield where the method was searched with enough complete trials, each configuration by its search, once."""
    main, config_type = find_method(method).predictors[0], find_method(method).config
    runs = query(store, dataset=None, shots=None, method=method)
    runs = runs.filter((pc.field("predictor") == main) & (pc.field("protocol") == PROTOCOL))
    metric = metric_of(runs, metric)
    rows = rank(runs, metric).to_pylist()
    sign = sign_of(metric)

    def key(row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in SEARCH)

    everything = list({key(row): row for row in rows}.values())
    for _, group in groupby(sorted(rows, key=key), key=key):
        searched: dict[str, dict[str, Any]] = {}
        for row in sorted(group, key=lambda row: row["num_runs"]):  # the fewest label sets: what all of them have
            searched.setdefault(row["config_id"], row)
        own = list(searched.values())
        if len(own) >= MIN_TRIALS:
            scores = [sign * row[metric] for row in own]
            configs = tuple(read_config(config_type, json.loads(row["config_json"])) for row in own)
            apart = words_apart(own[0], everything, said=("label_sets",))
            title = ", ".join([f"{own[0]['dataset']}, {shots_title(own[0]['shots'])}", *apart])
            ranks = _ranks(scores)
            default = next((float(r) for row, r in zip(own, ranks, strict=True) if row["start"] == "default"), None)
            yield Setting(title, own[0]["content_hash"], own[0]["shots"], configs, ranks, default)


def _ranks(scores: Sequence[float]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = (rankdata(scores) - 1) / max(len(scores) - 1, 1)
    return ranks


def _greedy(settings: Sequence[Setting], size: int) -> list[MethodConfig]:
    """Return configurations that together leave settings, on average, with the best rank; ties go to the earlier."""
    candidates = list({_searched(config): config for setting in settings for config in setting.configs}.values())
    ranks_PC = np.stack([_ranks_in(setting, candidates) for setting in settings])
    chosen: list[int] = []
    reached_P = np.zeros(len(settings))
    for _ in range(min(size, len(candidates))):
        gains_C = np.maximum(reached_P[:, None], ranks_PC).mean(0) + 1e-6 * ranks_PC.mean(0)
        gains_C[chosen] = -1.0
        chosen.append(int(gains_C.argmax()))
        reached_P = np.maximum(reached_P, ranks_PC[:, chosen[-1]])
    return [candidates[number] for number in chosen]


def _left_out(setting: Setting, others: Sequence[Setting], size: int) -> LeftOut:
    portfolio = _greedy(others, size)
    best_last = np.sort(setting.ranks_N)
    count = len(best_last)
    at_most = (np.arange(1, count + 1) / count) ** size  # chance that the best of `size` draws is no better than each
    return LeftOut(
        setting.title,
        portfolio=float(_ranks_in(setting, portfolio).max()),
        default=setting.default,
        random=float((best_last * np.diff(at_most, prepend=0.0)).sum()),
    )


def _searched(config: MethodConfig) -> str:
    """Return the searched settings that have an effect, as a key."""
    values = write_config(config)
    inactive = inactive_fields(type(config), values)
    return repr([(name, values[name]) for name in space_of(type(config)) if name not in inactive])


def _ranks_in(setting: Setting, configs: Sequence[MethodConfig]) -> NDArray[np.float64]:
    """Return ranks of configurations in a setting: measured where they were trained there, else by its forest.

    A forest shrinks what it predicts towards the middle. So a prediction is not taken for a rank: its place among the
    forest's predictions of what was trained there, each by trees that did not see it, is.
    """
    from sklearn.ensemble import RandomForestRegressor

    space = space_of(type(setting.configs[0]))
    forest = RandomForestRegressor(n_estimators=100, oob_score=True, random_state=0, n_jobs=1)
    forest.fit([_features(config, space) for config in setting.configs], setting.ranks_N)
    predicted_C = forest.predict([_features(config, space) for config in configs])
    differences_CN = predicted_C[:, None] - np.asarray(forest.oob_prediction_, np.float64)
    places_C = (np.sign(differences_CN).mean(1) + 1) / 2
    known = {_searched(config): rank for config, rank in zip(setting.configs, setting.ranks_N, strict=True)}
    return np.array([known.get(_searched(c), place) for c, place in zip(configs, places_C, strict=True)])


def _features(config: MethodConfig, space: Space) -> list[float]:
    """Return the searched settings as numbers; one without effect is as in the default."""
    values, default = write_config(config), write_config(type(config)())
    inactive = inactive_fields(type(config), values)
    return [
        number
        for name, range_ in space.items()
        for number in _numbers(default[name] if name in inactive else values[name], range_)
    ]


def _numbers(value: Any, range_: Range) -> list[float]:
    if isinstance(range_, Choice):
        return [float(value == option) for option in range_.options]
    return [float(np.log(value)) if range_.log and value > 0 else float(value)]
