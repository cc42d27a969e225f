"""Runs that were trained already, in whichever study or sweep: nothing that is in the records is trained again.

A run is known by all that its scores depend on. What only rounds otherwise, such as the number of threads, is none of
it, and the scores by another `selection` are computed from those of the evaluations.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc

from search_spaces.core.config import write_config
from sparse_search.results.rows import DEFAULTS_BEFORE, config_id
from sparse_search.results.store import Store
from sparse_search.search.sweep import Rung, Study
from trainables.core.conditions import PROTOCOL, RANKING_CONDITIONS
from trainables.metrics.scoring import read_scores
from trainables.metrics.selection import select
from trainables.training.run import Run

ENDED = ("complete", "infeasible", "collapsed")
"""Outcomes of trials whose runs were trained to their end."""

_CONDITIONS = tuple(name for name in RANKING_CONDITIONS if name != "selection")
_KEY = ("method", "config_id", "source", "content_hash", "shots", "label_set", "fold", "protocol", *_CONDITIONS)

_Key = tuple[Any, ...]


class _Place(NamedTuple):
    """Record of a run, and what else tells it from others that score the same."""

    record_id: str
    run_id: str
    selection: str


class KnownRuns:
    """Runs in the records of a results folder, looked up by what determines their scores."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[_Key, list[_Place]] | None = None

    def find(self, study: Study, run: Run) -> dict[str, Any] | None:
        """Return the record of an equal run, as one of the run that is asked for; None where there is none."""
        run_id = run.run_id(study.facts.content_hash)
        selection = run.trial.conditions.selection
        places = self._known().get(_key_of(study, run), [])
        for place in sorted(places, key=lambda each: (each.run_id != run_id, each.selection != selection)):
            record = self._store.find(place.record_id)
            if record and record["curve"]:
                return record if place.selection == selection else _selected(record, selection) | {"run_id": run_id}
        return None

    def _known(self) -> Mapping[_Key, Sequence[_Place]]:
        """Read once what there is: what this sweep trains itself is known to its journal."""
        if self._places is None:
            self._places = defaultdict(list)
            runs = self._store.runs(columns=[*_KEY, *_Place._fields, "status"])
            runs = runs.filter(pc.field("status").isin(ENDED))
            for row in runs.to_pylist():
                place = _Place(*(row[name] for name in _Place._fields))
                known = self._places[tuple(row[name] for name in _KEY)]
                if place not in known:  # a row for each predictor
                    known.append(place)
        return self._places

    def add(self, record: Mapping[str, Any]) -> None:
        """Remember a record that was written just now."""
        if self._places is not None and record["status"] in ENDED:
            about = {**DEFAULTS_BEFORE, **record, "config_id": config_id(record["method"], record["config"])}
            place = _Place(*(about[name] for name in _Place._fields))
            self._places.setdefault(tuple(about[name] for name in _KEY), []).append(place)


def _key_of(study: Study, run: Run) -> _Key:
    trial = run.trial
    about = trial.conditions.as_columns() | {
        "method": trial.method,
        "config_id": config_id(trial.method, write_config(trial.config)),
        "source": trial.dataset,
        "content_hash": study.facts.content_hash,
        "shots": trial.shots,
        "label_set": run.label_set,
        "fold": run.fold,
        "protocol": PROTOCOL,
    }
    return tuple(about[name] for name in _KEY)


def _selected(record: Mapping[str, Any], selection: str) -> dict[str, Any]:
    """Return a record with the scores that a run is judged by under another selection."""
    history: list[dict[str, Any]] = []
    curve = []
    for point in record["curve"]:
        history.append({name: read_scores(scores) for name, scores in point["scores"].items()})
        selected = {name: scores.as_dict() for name, scores in select(history, selection).items()}
        curve.append({**point, "selected": selected})
    return {**record, "selection": selection, "curve": curve}


def at_rungs(record: Mapping[str, Any], rungs: Sequence[Rung]) -> list[Mapping[str, Any]]:
    """Return the scores by predictor that a run had at each rung, from its record."""
    every = record["evaluate_every"]
    curve = [(point.get("budget") or every * number, point) for number, point in enumerate(record["curve"], 1)]
    last = record["curve"][-1]
    return [next((point for budget, point in curve if budget >= rung.images), last)["selected"] for rung in rungs]
