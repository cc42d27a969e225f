"""Run a sweep, or go on with it: the same call."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from search_spaces.core.errors import LockedError
from sparse_search.journal import StudyJournal, StudyStatus, mend_journal, open_journal
from sparse_search.leaderboard import write_leaderboards
from sparse_search.progress import Display
from sparse_search.schedule import execute, num_workers, ray_session
from sparse_search.searcher import JournalSearcher
from sparse_search.store import Store
from sparse_search.sweep import Study, Sweep
from sparse_search.sweep_file import load_sweep
from trainables.core.checkpoint import Checkpoints
from trainables.data.draw import check_few_shot
from trainables.data.source import data_root as resolve_root

RESULTS = Path("results")


@dataclass(frozen=True)
class Summary:
    """How a sweep ended."""

    studies: tuple[StudyStatus, ...]
    failures: tuple[str, ...]
    """Trials given up after all retries, one line each."""

    leaderboards: tuple[Path, ...]

    @property
    def ok(self) -> bool:
        """Whether the plan is complete and nothing failed."""
        return not self.failures and all(status.finished >= status.planned for status in self.studies)


def run(
    sweep: Sweep | Path | str,
    results: Path | str = RESULTS,
    *,
    data_root: Path | str | None = None,
    retry_failed: bool = False,
    console: Console | None = None,
) -> Summary:
    """Runs a sweep to its end and returns how it ended; called again after any interruption, it goes on.

    Sweep, data and results folder are checked before the first trial. Test labels are not read. With `retry_failed`,
    trials that were given up are tried again.

    Raises:
        UserError: sweep, data or results folder cannot be used, or another driver holds the sweep.
    """
    sweep = sweep if isinstance(sweep, Sweep) else load_sweep(Path(sweep))
    root = resolve_root(Path(data_root) if data_root else None).resolve()
    store = Store(Path(results).resolve())
    studies = plan_studies(sweep, root)
    store.prepare()
    folder = sweep_folder(store.folder, sweep)
    with _lock(folder):
        journals = _journals(studies, folder, retry_failed)
        _remove_old_checkpoints(journals, folder / "checkpoints")
        if any(journal.status().finished < journal.status().planned for journal in journals):
            _execute(sweep, journals, store, root, console or Console(quiet=True))
            _remove_old_checkpoints(journals, folder / "checkpoints")
        return Summary(
            studies=tuple(journal.status() for journal in journals),
            failures=tuple(line for journal in journals for line in journal.failures()),
            leaderboards=tuple(write_leaderboards(store)),
        )


def status(
    sweep: Sweep | Path | str, results: Path | str = RESULTS, *, data_root: Path | str | None = None
) -> list[StudyStatus]:
    """Where every study of a sweep stands; looks only, also while a driver works on it."""
    sweep = sweep if isinstance(sweep, Sweep) else load_sweep(Path(sweep))
    studies = plan_studies(sweep, Path(data_root) if data_root else None)
    path = sweep_folder(Path(results).resolve(), sweep) / "journal.log"
    storage = open_journal(path) if path.exists() else None
    begun = {known.study_name for known in storage.get_all_studies()} if storage else set()
    return [
        StudyJournal(study, storage, look_only=True).status()
        if storage and study.name in begun
        else StudyStatus(study.title, study.plan.trials)
        for study in studies
    ]


def plan_studies(sweep: Sweep, data_root: Path | None) -> tuple[Study, ...]:
    """The studies of a sweep, its data checked: present, readable, enough images of every class.

    Raises:
        DataError: naming file, class or count.
    """
    hashes = {}
    for dataset in sweep.datasets:
        for shots in sweep.shots:
            for label_set in sweep.label_sets:
                hashes[dataset] = check_few_shot(dataset, shots, label_set, sweep.validation, data_root).content_hash
    return sweep.studies(hashes)


def sweep_folder(results: Path, sweep: Sweep) -> Path:
    """Where a sweep keeps journal, lock and checkpoints."""
    return results / "sweeps" / sweep.name


def _execute(
    sweep: Sweep, journals: Sequence[StudyJournal], store: Store, data_root: Path | None, console: Console
) -> None:
    folder = sweep_folder(store.folder, sweep)
    console.print("starting Ray …", highlight=False)
    with ray_session():
        searcher = JournalSearcher(journals, store, checkpoints=folder / "checkpoints", data_root=data_root)
        workers = num_workers(sweep)
        console.print(f"{sweep.name}: {len(journals)} studies, {workers} trials at a time", highlight=False)
        with Display(journals, console) as display:
            execute(sweep, searcher, workers, folder, display)


def _journals(studies: Sequence[Study], folder: Path, retry_failed: bool) -> list[StudyJournal]:
    mend_journal(folder / "journal.log")
    storage = open_journal(folder / "journal.log")
    journals = [StudyJournal(study, storage) for study in studies]
    for journal in journals:
        journal.propose_starts()
        if retry_failed:
            journal.retry_given_up()
    return journals


def _remove_old_checkpoints(journals: Sequence[StudyJournal], folder: Path) -> None:
    """What was left: by a driver killed just after a trial's end, or by a worker that was writing as it was stopped."""
    for journal in journals:
        in_use = {str(number) for number in journal.checkpoints_in_use()}
        for old in (folder / journal.study.folder).glob("*"):
            if old.name not in in_use:
                Checkpoints(old).remove()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One driver a sweep; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "holder"
    try:
        with FileLock(folder / "lock", timeout=0):
            holder.write_text(f"process {os.getpid()} on {platform.node()}")
            yield
    except Timeout as problem:
        who = holder.read_text() if holder.exists() else "another process"
        raise LockedError(f"this sweep is being run by {who}; wait for it, or stop it first") from problem
