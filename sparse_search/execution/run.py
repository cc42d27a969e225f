"""Run a sweep, or go on with it: the same call."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import LockedError, ResultsError
from sparse_search.analysis.expectation import sweep_expectations
from sparse_search.analysis.leaderboard import write_leaderboards
from sparse_search.execution.opening import close_orphans, ended_journals, open_journals, tell_edits
from sparse_search.execution.progress import Display, preparation
from sparse_search.execution.ray_log import LOG_NAME
from sparse_search.execution.remote_sync import hold_sweep
from sparse_search.execution.schedule import execute, is_machine_shared, num_workers, ray_session
from sparse_search.execution.searcher import JournalSearcher
from sparse_search.execution.status import fingerprint, note_plans
from sparse_search.execution.stored_checkpoints import checkpoint_folders, checkpoints_at, finish_removing
from sparse_search.execution.weights_kept import WeightsKept
from sparse_search.results.catalog import check_names
from sparse_search.results.mirror import store_at
from sparse_search.results.object_store import is_uri
from sparse_search.results.store import NO_LOCKS, Store, no_locks
from sparse_search.search.cost import Clock, Cost, OutOfTimeError, cost_of
from sparse_search.search.journal import StudyJournal
from sparse_search.search.naming import study_folder
from sparse_search.search.outcomes import StudyStatus
from sparse_search.search.sweep import DatasetFacts, Rung, Study, Sweep
from sparse_search.search.sweep_file import read_sweep
from sparse_search.search.transfer import portfolio_for
from sparse_search.search.warm_start import earlier_trials
from sparse_search.trackers.following import following
from trainables.core.shots import ALL_SHOTS, told_at_start
from trainables.data.draw import draw_few_shot
from trainables.data.source import data_root as resolve_root
from trainables.data.source import prepare

RESULTS = Path("results")


@dataclass(frozen=True)
class SweepSummary:
    """End of a sweep: where its studies stand, and what it has cost."""

    studies: tuple[StudyStatus, ...]
    failures: tuple[str, ...]
    """Trials given up after all retries, one line each."""

    leaderboards: tuple[Path, ...]
    expected: tuple[str, ...]
    """Sentences on what to expect on new images, by data set and number of shots."""

    cost: Cost
    out_of_time: bool = False
    """True if `max_hours` ended it before its plan was complete."""

    @property
    def ok(self) -> bool:
        """True if the plan is complete, or ended by its own limit, and nothing failed."""
        return not self.failures and (self.out_of_time or all(status.is_over for status in self.studies))


def run(
    sweep: Sweep | Mapping[str, Any] | Path | str,
    results: Path | str = RESULTS,
    *,
    data_root: Path | str | None = None,
    retry_failed: bool = False,
    console: Console | None = None,
) -> SweepSummary:
    """Run a sweep to its end and return how it ended; called again after any interruption, it goes on.

    Sweep, data and results folder are checked before the first trial. Test labels are not read.

    Args:
        sweep: A sweep file, the same keys and values as a mapping, or a sweep that was read already.
        results: The folder, or the URI of an object store, that keeps everything that is found.
        data_root: The folder of the data files; `$SPARSE_SEARCH_DATA`, else `~/.medmnist`, when not given.
        retry_failed: Try again the trials that were given up.
        console: The place to print progress; nothing is printed when not given.

    Raises:
        UserError: sweep, data or results folder cannot be used, or another driver holds the sweep.
    """
    sweep, of = read_sweep(sweep), fingerprint(sweep)
    root = resolve_root(Path(data_root) if data_root else None).resolve()
    store = store_at(results if is_uri(results) else Path(results).resolve())
    screen = console or Console(quiet=True)
    for dataset in sweep.datasets:
        with preparation(screen, dataset) as tell:
            prepare(dataset, root, tell, sweep.kind)
    if words := told_at_start(sweep.shots, sweep.conditions.validation):
        screen.print(words, highlight=False)
    studies = plan_studies(sweep, root)
    store.prepare()
    folder = sweep_folder(store.folder, sweep)
    with _lock(folder), hold_sweep(store, sweep.name, folder, partial(screen.print, highlight=False)):
        clock = Clock(folder / "clock.json", sweep.max_hours)
        driver = _Driver(sweep, store, root, folder, clock, screen)
        searches, confirmations = driver.open_journals(studies)
        note_plans(list(zip(searches, confirmations, strict=True)), of)
        if retry_failed:
            for journal in (*searches, *confirmations):
                journal.retry_given_up()
        with following(sweep.tracker, store.folder / "tracking", sweep.name, store.records, driver.say) as track:
            driver.drive(searches, confirmations, track)
        journals = [*searches, *(journal for journal in confirmations if journal.status().planned)]
        return SweepSummary(
            studies=tuple(journal.status() for journal in journals),
            failures=tuple(line for journal in journals for line in journal.failures()),
            leaderboards=tuple(write_leaderboards(store)),
            expected=tuple(sweep_expectations(store, sweep.name, sweep.objective)),
            cost=cost_of(store, sweep.name, clock),
            out_of_time=clock.is_over,
        )


def plan_studies(sweep: Sweep, data_root: Path | None) -> tuple[Study, ...]:
    """Return the studies of a sweep, its data checked: present, readable, enough images of every class.

    Raises:
        DataError: naming file, class or count.
    """
    facts, under = {}, sweep.conditions
    for dataset in sweep.datasets:
        for shots in sweep.shots:
            for label_set in (*(sweep.further_label_sets if sweep.confirm else ()), *sweep.label_sets):
                source, split = draw_few_shot(
                    dataset, shots, label_set, under.validation, data_root, kind=sweep.kind, folds=under.folds
                )
            num_labelled, num_unlabelled = (
                len(part) * source.patches_per_image for part in (split.labelled_indices, split.unlabelled_indices)
            )
            check_names({"dataset": source.name})
            folds = split.num_folds if shots == ALL_SHOTS and under.validation == "labelled-cv" else under.folds
            facts[dataset, shots] = DatasetFacts(source.content_hash, num_labelled, num_unlabelled, folds)
    return sweep.studies(facts)


def sweep_folder(results: Path, sweep: Sweep) -> Path:
    """Return where a sweep keeps journal, lock and checkpoints."""
    return results / "sweeps" / sweep.name


@dataclass(frozen=True)
class _Driver:
    """One start of a sweep, from its journals to its last trial."""

    sweep: Sweep
    store: Store
    data_root: Path
    folder: Path
    clock: Clock
    console: Console

    def open_journals(self, studies: Sequence[Study]) -> tuple[list[StudyJournal], list[StudyJournal]]:
        """Open the studies' journals and those of their confirmations, with what is proposed before any search."""
        searches, confirmations = open_journals(self.folder / "journal.log", studies, self.store, self.say)
        tell_edits(searches, self.say)
        for name in close_orphans((*searches, *confirmations), self.say):
            checkpoints_at(self.store.address, f"{self._checkpoints.as_posix()}/{study_folder(name)}").remove()
        for journal in searches:
            if not journal.is_blocked:
                self.begin(journal)
        return searches, confirmations

    def ended_journals(self, studies: Sequence[Study], of: str) -> tuple[list[StudyJournal], list[StudyJournal]] | None:
        """Open the journals of a sweep that has ended, to look at; None where there may be something to do."""
        journals = ended_journals(self.folder / "journal.log", studies, of)
        if journals:
            tell_edits(journals[0], self.say)
            self._remove_old_checkpoints([*journals[0], *journals[1]])
        return journals

    def begin(self, journal: StudyJournal) -> None:
        """Propose what comes before searching; done again it changes nothing."""
        study, title = journal.resolved, journal.study.title
        if study.plan.settings_from:
            inherited = ", ".join(f"{name} {getattr(study.plan.settings, name)}" for name in study.plan.inherited)
            self.console.print(f"{title}: from {study.plan.settings_from}: {inherited}", highlight=False)
        earlier = earlier_trials(study, self.store) if self.sweep.warm_start else []
        if told := journal.tell_earlier(earlier):
            self.console.print(f"{title}: {told} trials of earlier sweeps", highlight=False)
        journal.propose_starts()
        if earlier:
            journal.propose_earlier(earlier)
        if self.sweep.transfer and study.plan.space and not journal.has_transferred:
            proposed = journal.propose_from_elsewhere(self._portfolio(study))
            self.console.print(f"{title}: {proposed} configurations from elsewhere", highlight=False)

    def say(self, line: str) -> None:
        """Print a line as it is."""
        self.console.print(line, highlight=False, markup=False)

    def _portfolio(self, study: Study) -> tuple[MethodConfig, ...]:
        """Return what did well elsewhere; nothing where nothing is known."""
        try:
            return portfolio_for(study, self.store)
        except ResultsError as problem:
            self.console.print(f"{study.title}: {problem}", highlight=False)
            return ()

    def drive(
        self,
        searches: Sequence[StudyJournal],
        confirmations: Sequence[StudyJournal],
        track: Callable[[Mapping[str, Any]], object],
    ) -> None:
        """Run what is open, and have its records tracked; leave no checkpoint that nothing needs."""
        journals = (*searches, *confirmations)
        self._remove_old_checkpoints(journals)
        kept = self._weights_kept(journals)
        if self.clock.is_over or not _has_work(searches, confirmations):
            return
        if is_machine_shared():
            self.say("Ray runs on this machine already: both take all CPUs and GPUs; set `workers` in each sweep file")
        self.console.print("starting Ray …", highlight=False)
        with ray_session(self.folder / LOG_NAME) as may_come:
            searcher = JournalSearcher(
                searches,
                confirmations,
                self.store,
                checkpoints=self._checkpoints,
                data_root=self.data_root,
                begin=self.begin,
                track=track,
                ended=kept.add if kept else lambda records: None,
            )
            workers = num_workers(self.sweep)
            self._print_plan(searches, workers)
            with suppress(OutOfTimeError), Display(journals, self.console, self.clock) as display:
                execute(self.sweep, searcher, workers, self.folder, display, self.console.print, may_come=may_come)
        for journal in searches:
            if journal.is_exhausted:
                self.say(f"{journal.study.title}: its space has nothing new after {journal.status().finished} trials")
        if kept:
            kept.tidy()  # what is over has no more to come
        self.clock.note(searcher.busy_seconds, searcher.slot_seconds)
        self._remove_old_checkpoints(journals)

    def _weights_kept(self, journals: Sequence[StudyJournal]) -> WeightsKept | None:
        """Return who keeps weights, having looked at what is there; None where none shall be kept."""
        if self.sweep.keep_weights == "none":
            return None
        kept = WeightsKept(self.store, journals, self.sweep.keep_weights, self.sweep.keep_weights_gb * 1e9)
        kept.look()
        return kept

    def _print_plan(self, searches: Sequence[StudyJournal], workers: int) -> None:
        self.console.print(f"{self.sweep.name}: {len(searches)} studies, {workers} trials at a time", highlight=False)
        for study in (journal.study for journal in searches):
            trials, after = study.plan.trials, study.plan.settings_from
            words = f"  {study.title}: {trials} trial{'s' * (trials != 1)}, {_rungs_text(study.rungs)}"
            self.console.print(words + f", with the best settings of {after}" * bool(after), highlight=False)

    def _remove_old_checkpoints(self, journals: Sequence[StudyJournal]) -> None:
        """Remove what is left of a driver killed just after a trial's end, or of a worker writing as it was stopped."""
        for journal in journals:
            in_use = {str(number) for number in journal.checkpoints_in_use()}
            folder = f"{self._checkpoints.as_posix()}/{journal.study.folder}"
            for old in checkpoint_folders(self.store.address, folder) - in_use:
                checkpoints_at(self.store.address, f"{folder}/{old}").remove()
        finish_removing()

    @property
    def _checkpoints(self) -> Path:
        """Folder in the results."""
        return self.folder.relative_to(self.store.folder) / "checkpoints"


def _rungs_text(rungs: Sequence[Rung]) -> str:
    """Return the images of each rung; with their label sets, told once where all rungs have as many."""
    images, counts = [f"{rung.images:,}" for rung in rungs], [rung.num_label_sets for rung in rungs]
    of_each = [f" label set{'s' * (count != 1)}" for count in counts]
    if len(set(counts)) == 1:
        return f"{' → '.join(images)} images × {counts[0]}{of_each[0]}"
    return " → ".join(
        f"{each} images × {count}{word}" for each, count, word in zip(images, counts, of_each, strict=True)
    )


def _has_work(searches: Sequence[StudyJournal], confirmations: Sequence[StudyJournal]) -> bool:
    for search, confirmation in zip(searches, confirmations, strict=True):
        if not search.status().is_over:
            return True
        if search.study.sweep.confirm:
            confirmation.propose_best_of(search)
        if not confirmation.status().is_over:
            return True
    return False


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the sweep for one driver; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "holder"
    try:
        with FileLock(folder / "lock", timeout=0):
            holder.write_text(f"process {os.getpid()} on {platform.node()}")
            yield
    except Timeout as problem:
        who = holder.read_text() if holder.exists() else "another process"
        raise LockedError(f"this sweep is being run by {who}; wait for it, or stop it first") from problem
    except OSError as problem:
        if problem.errno in NO_LOCKS:
            raise ResultsError(no_locks(folder)) from problem
        raise
