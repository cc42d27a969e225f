"""Status of a sweep, for who only looks: no data file is opened, nothing is loaded that trains.

A driver notes with every study what of the plan a status is counted by, and of which sweep file. Where the file has
changed since, or nothing was started yet, it is read as a driver reads it, with what the journal knows of the data.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from optuna.study._frozen import FrozenStudy

from search_spaces.core.yaml_files import read_yaml
from sparse_search.search.journal_file import Journal
from sparse_search.search.outcomes import CountedPlan, StudyStatus, count_status

if TYPE_CHECKING:
    from sparse_search.search.journal import StudyJournal
    from sparse_search.search.sweep import Study, Sweep

NOTE = "counted"
"""Attribute of a study that holds its note."""


def status(
    sweep: "Sweep | Mapping[str, Any] | Path | str",
    results: Path | str = "results",
    *,
    data_root: Path | str | None = None,
) -> list[StudyStatus]:
    """Return the state of every study of a sweep, also while a driver works on it; changes nothing.

    Args:
        sweep: As `run` takes it.
        results: As `run` takes it.
        data_root: Taken as `run` takes it, and not looked at.

    Raises:
        UserError: the sweep, or its journal, cannot be read.
    """
    return status_of(sweep, results)()


def status_of(
    sweep: "Sweep | Mapping[str, Any] | Path | str", results: Path | str = "results"
) -> Callable[[], list[StudyStatus]]:
    """Return a function that does what `status` does, to be called again and again: of a journal it reads what is new.

    Raises:
        ConfigError: the sweep cannot be read.
    """
    return _Look(sweep, results)


def fingerprint(sweep: "Sweep | Mapping[str, Any] | Path | str") -> str:
    """Return twelve digits that tell a sweep, as it stands in a file, from others."""
    plain = read_yaml(Path(sweep)) if isinstance(sweep, Path | str) else sweep
    values = dict(plain) if isinstance(plain, Mapping) else {"sweep": plain}
    return sha256(json.dumps(values | {"name": sweep_name(sweep)}, default=repr).encode()).hexdigest()[:12]


def note_of(study: "Study", of: str, place: int) -> dict[str, Any]:
    """Return what a status of a study is counted by: the place that it has in a sweep file, and its plan there.

    Args:
        study: The study, or its confirmation.
        of: Fingerprint of the file.
        place: Number of the search in the sweep.
    """
    from sparse_search.search.study_view import counted_plan

    return {
        "of": of,
        "place": place,
        "plan": asdict(counted_plan(study)),
        "dataset": study.dataset,
        "shots": study.shots,
        "validation": study.sweep.conditions.validation,
        "facts": list(study.facts),
    }


def note_plans(journals: "Sequence[tuple[StudyJournal, StudyJournal]]", of: str) -> None:
    """Note with every search and its confirmation what their status is counted by; what is noted already stays.

    Args:
        journals: Searches with their confirmations, in the order of the sweep.
        of: Fingerprint of the sweep.
    """
    storage = journals[0][0].storage
    noted = {each.study_name: each.user_attrs.get(NOTE, {}) for each in storage.get_all_studies()}
    notes = {
        journal.study.name: note_of(journal.study, of, place) for place, pair in enumerate(journals) for journal in pair
    }
    left: dict[str, Any] = {name: {} for name, note in noted.items() if name not in notes and note.get("of") == of}
    with storage.step():
        for name, note in {**notes, **left}.items():
            if noted[name] != note:
                storage.set_study_user_attr(storage.get_study_id_from_name(name), NOTE, note)


def is_noted(storage: Journal, studies: "Sequence[Study]", of: str) -> bool:
    """Return True if a journal has all studies of a sweep and their confirmations, noted as they are asked for now."""
    known = {each.study_name: each for each in storage.get_all_studies()}
    cores = {name: str(each.user_attrs.get("core", "")) for name, each in known.items()}
    asked = [
        (study.as_begun(cores), place)
        for place, search in enumerate(studies)
        for study in (search, search.confirming())
    ]
    return all(
        study.name in known and known[study.name].user_attrs.get(NOTE) == note_of(study, of, place)
        for study, place in asked
    )


class _Counted(NamedTuple):
    """Study to count: its place in the sweep, its plan, and its name in the journal, if it is there."""

    is_confirmation: bool
    place: int
    plan: CountedPlan
    name: str


class _Look:
    """Look at a sweep, again and again."""

    def __init__(self, sweep: "Sweep | Mapping[str, Any] | Path | str", results: Path | str) -> None:
        self._sweep, self._results = sweep, results
        self._name, self._of = sweep_name(sweep), fingerprint(sweep)
        self._journal: Journal | None = None
        self._read: Sweep | None = None

    def __call__(self) -> list[StudyStatus]:
        """Return the states of the searches, then those of the confirmations that have begun."""
        path = self._path()
        if self._journal is None and path.exists():
            self._journal = Journal(path, look_only=True)
        known = {each.study_name: each for each in self._journal.get_all_studies()} if self._journal else {}
        noted = [_counted(name, note) for name, each in known.items() if (note := _note(each)).get("of") == self._of]
        counted = sorted(noted or self._planned(known), key=lambda each: (each.is_confirmation, each.place))
        found = [(each.is_confirmation, self._count(each, known)) for each in counted]
        return [status for is_confirmation, status in found if status.planned or not is_confirmation]

    def _path(self) -> Path:
        """Return the journal, or a copy of it as last sent where results are kept at a URI."""
        if ":/" not in str(self._results):
            return Path(self._results) / "sweeps" / self._name / "journal.log"
        from sparse_search.execution.remote_sync import watched_journal
        from sparse_search.results.mirror import store_at

        store = store_at(self._results)
        return watched_journal(store, self._name, store.folder / "sweeps" / self._name)

    def _count(self, each: _Counted, known: Mapping[str, FrozenStudy]) -> StudyStatus:
        if self._journal is None or each.name not in known:
            return StudyStatus(each.plan.title, each.plan.trials, objective=each.plan.objective)
        study = known[each.name]
        trials = self._journal.get_all_trials(study._study_id, deepcopy=False)
        return count_status(each.plan, trials, is_exhausted="exhausted" in study.user_attrs)

    def _planned(self, known: Mapping[str, FrozenStudy]) -> list[_Counted]:
        """Return the studies as a driver would plan them, with what the journal knows of the data."""
        from sparse_search.search.study_view import counted_plan
        from sparse_search.search.sweep import DatasetFacts
        from sparse_search.search.sweep_file import read_sweep

        sweep = self._read = self._read or read_sweep(self._sweep)
        facts: defaultdict[Any, DatasetFacts] = defaultdict(lambda: DatasetFacts("", 1, 0))
        for note in map(_note, known.values()):
            if note and note["validation"] == sweep.conditions.validation:
                facts[note["dataset"], note["shots"]] = DatasetFacts(*note["facts"])
        cores = {name: str(each.user_attrs.get("core", "")) for name, each in known.items()}
        found = []
        for place, search in enumerate(sweep.studies(facts)):
            for study in (search, search.confirming()):
                name = study.as_begun(cores).name
                if not facts[study.dataset, study.shots].content_hash:  # of an earlier version: the last one begun
                    name = next((each for each in reversed(list(known)) if study.is_of_same_setting(each)), "")
                if name in known or not study.confirmation:
                    found.append(_Counted(study.confirmation, place, counted_plan(study), name))
        return found


def sweep_name(sweep: "Sweep | Mapping[str, Any] | Path | str") -> str:
    """Return the name of a sweep, which is its folder's."""
    if isinstance(sweep, Path | str):
        return str(read_yaml(Path(sweep)).get("name", Path(sweep).stem))
    return str(sweep.get("name") if isinstance(sweep, Mapping) else sweep.name)


def _note(study: FrozenStudy) -> Mapping[str, Any]:
    note: Mapping[str, Any] = study.user_attrs.get(NOTE, {})
    return note


def _counted(name: str, note: Mapping[str, Any]) -> _Counted:
    plan = CountedPlan(**note["plan"])
    return _Counted(plan.confirmation, note["place"], plan, name)
