"""Journals of a sweep as a driver opens them: mended, built again where they are lost, and compared with what is asked.

What an edit of the sweep file leaves behind is told: how many finished trials, of which study, and why. What was in
training there is closed, and its checkpoints are removed; if the edit is undone it is tried again.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import optuna
import pyarrow.compute as pc
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.config import write_config
from sparse_search.execution.status import is_noted
from sparse_search.results.rows import CONFIRMATION, config_id
from sparse_search.results.store import Store
from sparse_search.search.journal import StudyJournal, cores_of
from sparse_search.search.journal_file import DamagedJournalError, Journal, mend_journal
from sparse_search.search.restoring import by_trial, restored
from sparse_search.search.sweep import Study

Say = Callable[[str], object]
Journals = tuple[list[StudyJournal], list[StudyJournal]]

_MAX_CHANGES = 4
"""Changes of a sweep file that are told of a study, before the rest is counted."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def open_journals(path: Path, studies: Sequence[Study], store: Store, say: Say) -> Journals:
    """Open the journals of searches and of their confirmations, for the one driver of a sweep.

    A journal that is damaged is set aside; what it lacks then, or one that is gone, is built again from the records.

    Args:
        path: The journal's file.
        studies: What the sweep asks for.
        store: The results.
        say: Told in a line each: what was mended, what goes on, what is left behind.
    """
    if cut := mend_journal(path):
        say(f"the journal {path} ended in {cut} damaged line{'s' * (cut > 1)}, which never happened")
    storage: Journal | None = None
    damage: DamagedJournalError | None = None
    try:
        storage = Journal(path)
    except DamagedJournalError as problem:
        damage = problem
    if (damage or not cores_of(storage or Journal(path))) and _rebuilt(path, damage, studies, store, say):
        storage = None
    storage = storage or Journal(path)
    searches, confirmations = _on(storage, studies, cores_of(storage))
    for journal in (*searches, *confirmations):
        journal.try_left_again()
        _rank_again(journal, store)
    return searches, confirmations


def ended_journals(path: Path, studies: Sequence[Study], of: str) -> Journals | None:
    """Open the journals of a sweep that has ended, to look at: without the values of settings, in a tenth of the time.

    None where something is open, or sweep, data or journal are not what the last driver left.

    Args:
        path: The journal's file.
        studies: What the sweep asks for.
        of: Fingerprint of the sweep.
    """
    try:
        storage = Journal(path, look_only=True) if path.exists() else None
    except DamagedJournalError:
        return None
    if storage is None or not is_noted(storage, studies, of):
        return None
    searches, confirmations = _on(storage, studies, cores_of(storage), look_only=True)
    confirmed = [journal.status() for journal in confirmations]
    is_confirmed = all(status.planned or not studies[0].sweep.confirm for status in confirmed)
    is_over = is_confirmed and all(status.is_over for status in (*confirmed, *(each.status() for each in searches)))
    return (searches, confirmations) if is_over else None


def _rank_again(journal: StudyJournal, store: Store) -> None:
    """Write records as complete of trials that a limit kept out which is raised now; what was ranked stays so."""
    kept_out = journal.admitted_again()
    if not kept_out:
        return
    runs = store.runs(columns=["record_id", "study", "number", "status"], method=journal.study.plan.name)
    own = runs.filter((pc.field("study") == journal.study.name) & pc.field("number").isin(sorted(kept_out)))
    for row in own.group_by(["record_id", "status"]).aggregate([]).to_pylist():
        record = store.find(row["record_id"]) if row["status"] == "infeasible" else None
        name = row["record_id"].removesuffix("infeasible") + "complete"
        if record and store.find(name) is None:
            store.write(record | {"record_id": name, "status": "complete", "reason": ""})


def _on(storage: Journal, studies: Sequence[Study], cores: Mapping[str, str], *, look_only: bool = False) -> Journals:
    searches, confirmations = (
        [StudyJournal(study.as_begun(cores), storage, look_only=look_only) for study in each]
        for each in (studies, [study.confirming() for study in studies])
    )
    return searches, confirmations


def _rebuilt(path: Path, damage: DamagedJournalError | None, studies: Sequence[Study], store: Store, say: Say) -> bool:
    """Put a journal in place that is built from the records and from what is intact of a damaged one.

    Until it is complete the old one stays where it is: after a kill all this is done again.

    Returns:
        False where there is nothing to build it from, and no damage.
    """
    sweep = studies[0].sweep.name
    own = store.runs(columns=["sweep"]).filter(pc.field("sweep") == sweep)
    if not damage and not len(own):
        return False
    made = path.with_name(f".{path.name}.rebuilt")
    made.unlink(missing_ok=True)
    with TemporaryDirectory() as scratch:
        before = _intact_part(path, damage, Path(scratch) / path.name) if damage else None
        journals = _on(Journal(made), studies, cores_of(before) if before else {})
        num_known = _restore(*journals, [record for record in store.records() if record["sweep"] == sweep], before)
    if damage:
        aside = path.with_name(f"{path.name}.damaged-{uuid4().hex[:6]}")
        shutil.copyfile(path, aside)
        say(f"line {damage.number} of the journal is damaged ({damage.why}); it is kept as {aside}")
    made.replace(path)
    say(f"the search is built again from the records: {num_known} finished trials are known and not trained again")
    return True


def _intact_part(path: Path, damage: DamagedJournalError, scratch: Path) -> Journal | None:
    """Return the lines before the damaged one as a journal, if they are one."""
    with path.open("rb") as file:
        scratch.write_bytes(b"".join(islice(file, damage.number - 1)))
    with suppress(DamagedJournalError):
        return Journal(scratch)
    return None


def _restore(
    searches: Sequence[StudyJournal],
    confirmations: Sequence[StudyJournal],
    records: Iterable[Mapping[str, Any]],
    before: Journal | None,
) -> int:
    """Fill empty journals with what is known of their trials; return the number of those that are finished."""
    trials, num_known = by_trial(records), 0
    for search, confirmation in zip(searches, confirmations, strict=True):
        searched: dict[str, int] = {}
        for journal in (search, confirmation):
            study = journal.study
            old, attributes = _before(before, study.name)
            found = restored(study, trials.get(study.name, {}), searched, old)
            journal.restore(found, attributes)
            num_known += sum(frozen.state in _FINISHED for frozen in found)
            for frozen in search.best(len(found)) if journal is search else ():
                name = config_id(study.plan.name, write_config(search.config_of(frozen)))
                searched[name] = frozen.number
    return num_known


def _before(before: Journal | None, name: str) -> tuple[list[FrozenTrial], Mapping[str, Any]]:
    """Return trials and attributes of a study in the intact part of a journal."""
    if before is None or name not in cores_of(before):
        return [], {}
    study = optuna.load_study(study_name=name, storage=before)
    return study.get_trials(), study.user_attrs


def tell_edits(searches: Sequence[StudyJournal], say: Say) -> None:
    """Say of each study what goes on, and what an edit of the sweep file leaves behind."""
    storage = searches[0].storage
    known = {each.study_name: each for each in storage.get_all_studies()}
    current = {journal.study.name for journal in searches}
    for journal in searches:
        study, status = journal.study, journal.status()
        if status.finished or status.running:
            running = f", {status.running} in training is taken up" if status.running else ""
            say(f"{study.title}: goes on with {status.finished} of {status.planned} trials finished{running}")
            continue
        for name in known.keys() - current:
            num_finished = _num_finished(storage, known[name]._study_id)
            if study.is_of_same_setting(name) and num_finished:
                why = changes(known[name].user_attrs.get("asked"), study.asked)
                left = f"{num_finished} finished trials of '{name}' are left behind"
                say(f"{study.title}: a new search begins, as {why}; {left}; of these, equal runs are not trained again")


def changes(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Return in words what differs between two searches."""
    if before is None:
        return "what makes its scores comparable has changed"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    words = [f"{name} is {now.get(name, 'not there')}, was {before.get(name, 'not there')}" for name in names]
    more = f" and {len(words) - _MAX_CHANGES} more" if len(words) > _MAX_CHANGES else ""
    return f"{'; '.join(words[:_MAX_CHANGES])}{more}" or "its limits or its objectives have changed"


def close_orphans(journals: Sequence[StudyJournal], say: Say) -> list[str]:
    """Close what was in training in studies that the sweep does not ask for any more; return the names of these."""
    storage, current = journals[0].storage, {journal.study.name for journal in journals}
    orphans = [each for each in storage.get_all_studies() if each.study_name not in current]
    for orphan in orphans:
        study = optuna.load_study(study_name=orphan.study_name, storage=storage)
        running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        with storage.step():
            for frozen in running:
                storage.set_trial_user_attr(frozen._trial_id, "outcome", "left")
                study.tell(frozen.number, state=TrialState.FAIL)
        if running and not orphan.study_name.endswith(CONFIRMATION):
            say(f"{len(running)} trials in training of '{orphan.study_name}' are closed, as nothing asks for them")
    return [orphan.study_name for orphan in orphans]


def _num_finished(storage: Journal, study_id: int) -> int:
    trials = storage.get_all_trials(study_id, deepcopy=False, states=_FINISHED)
    return sum(frozen.user_attrs.get("outcome") != "earlier" for frozen in trials)
