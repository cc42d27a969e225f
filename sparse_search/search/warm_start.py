"""Trials of earlier sweeps in the same results folder that a study may learn from."""

import json
from typing import Any

import pyarrow.compute as pc

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.errors import ResultsError
from sparse_search.analysis.leaderboard import rank
from sparse_search.results.store import Store
from sparse_search.search.choices import num_objectives
from sparse_search.search.journal import Earlier
from sparse_search.search.sweep import Study
from trainables.core.conditions import CONDITIONS, PROTOCOL, Conditions


def earlier_trials(study: Study, store: Store) -> list[Earlier]:
    """Return complete trials that a study may learn from: the same method and data under the same conditions.

    Settings that are not searched must be equal; the search ranges may differ, but a value outside the study's is none
    it can be told.

    Raises:
        ResultsError: a sweep that is named has no results here.
    """
    runs = store.runs()
    found = []
    for sweep in study.sweep.warm_start:
        own = runs.filter(pc.field("sweep") == sweep)
        if not len(own):
            known = sorted(pc.unique(runs["sweep"]).to_pylist())
            raise ResultsError(
                f"warm_start: no results of '{sweep}' in {store.address}; there are: {', '.join(known) or 'none'}"
            )
        rows = rank(own, study.plan.objective).to_pylist()
        found += [earlier for row in rows if (earlier := _earlier(study, sweep, row))]
    return found


def _earlier(study: Study, sweep: str, row: dict[str, Any]) -> Earlier | None:
    settings = study.plan.settings
    wanted = study.trial(settings, 0)
    main = wanted.find_method().predictors[0]
    same = _comparable(wanted.conditions) | {
        "method": wanted.method,
        "shots": wanted.shots,
        "predictor": main,
        "content_hash": study.facts.content_hash,
        "label_sets": study.label_sets_text,
        "protocol": PROTOCOL,
    }
    if any(row[name] != value for name, value in same.items()):
        return None
    config = read_config(type(settings), json.loads(row["config_json"]))
    if not _differs_within(study, config):
        return None
    values = (study.sign * row[study.plan.objective], row["train_seconds"] * row["num_runs"])
    return Earlier(sweep, config, values[: num_objectives(study.sweep.sampler)])


def _comparable(conditions: Conditions) -> dict[str, Any]:
    """Return the columns that must be equal for a trial's score to say something about another's."""
    own = conditions.as_columns()
    found = (each.column for each in CONDITIONS if each.changes == "scores" and not each.is_repetition)
    return {column: own[column] for column in found}


def _differs_within(study: Study, config: MethodConfig) -> bool:
    """Tell if a configuration is one of the study's space."""
    space, settings = study.plan.space, write_config(study.plan.settings)
    return all(
        value in space[name] if name in space else value == settings[name]
        for name, value in write_config(config).items()
    )
