"""Searcher and scheduler of Ray Tune over the journal: what to run next, and when to stop early.

Tune executes; it remembers nothing that matters. Every start is a fresh Tuner.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search_spaces.core.errors import UserError
from sparse_search.execution.draining import NODE_LOST, NodeLeavesError
from sparse_search.execution.multi_node import NodeLostError
from sparse_search.execution.stored_checkpoints import checkpoints_at
from sparse_search.execution.worker import QUIET_SECONDS, VALUE, Job, record_id
from sparse_search.results.store import Store
from sparse_search.search.journal import StudyJournal
from sparse_search.search.known_runs import KnownRuns, at_rungs
from sparse_search.search.outcomes import Result, StudyStatus, original_number
from sparse_search.search.restoring import result_of
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial

MAX_FAILURES_IN_A_ROW = 10

MAX_NODES_LOST = 3
"""Nodes that a trial may lose before it counts as their end, and so as failed."""

MAX_SIGNS_OF_LIFE = 20
"""Signs of life per second, of all trials together: Tune needs 3 ms for each, beside all else that it does."""

_NODE_LOST = (*NODE_LOST, NodeLeavesError.__name__, NodeLostError.__name__)
"""Texts in an error that say that a worker did not end by itself."""


@dataclass(frozen=True)
class _Live:
    """Trial in training."""

    journal: StudyJournal
    trial: optuna.Trial
    planned: Trial
    job: Job
    started: float
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Records of its runs so far, by id, with those that need no training."""

    def take(self, result: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Add the records of a report, and return them; the same report again changes nothing."""
        records: list[dict[str, Any]] = json.loads(result.get("records", "[]"))
        self.records.update((record["record_id"], record) for record in records)
        return records


class JournalSearcher(Searcher):
    """Searcher that serves many studies to one Tuner: what a dead driver left, then the least served study.

    The journals of `searches` come with those of their confirmations, which begin when a search is over. So does a
    search that has settings from another one: `begin` proposes then what comes before searching. `ended` hears
    the records of each trial that needs no more work.
    """

    def __init__(
        self,
        searches: Sequence[StudyJournal],
        confirmations: Sequence[StudyJournal],
        store: Store,
        *,
        checkpoints: Path,
        data_root: Path | None,
        begin: Callable[[StudyJournal], object] = StudyJournal.propose_starts,
        track: Callable[[Mapping[str, Any]], object] = lambda record: None,
        ended: Callable[[Iterable[Mapping[str, Any]]], object] = lambda records: None,
    ) -> None:
        super().__init__()  # without a metric: Tune would end everything at a report that lacks it
        self.journals = (*searches, *confirmations)
        self._pairs = tuple(zip(searches, confirmations, strict=True))
        self._store = store
        self._checkpoints = checkpoints
        self._data_root = data_root
        self._begin = begin
        self._track = track
        self._ended = ended
        self._known = KnownRuns(store)
        self.problem = ""
        """Reason for which the sweep has to end early; empty while all is well."""

        self.busy_seconds = 0.0
        """Time that workers have spent on trials which ended."""

        self.slot_seconds = 0.0
        """Time from the start of the first trial to the end of the last, counted for each slot that there was."""

        self.num_ended = 0
        """Trials that ended, in whatever way."""

        self.slots: Callable[[], int] = lambda: sys.maxsize
        """Number of trials that may be in training now: at least one."""

        self._counted = time.monotonic()
        self._failures_in_a_row = 0
        self._nodes_lost: Counter[tuple[str, int]] = Counter()
        self._live: dict[str, _Live] = {}
        self._left = [(journal, *left) for journal in self.journals for left in journal.running()]

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Return True: `slots` says how many trials run at a time, as nodes come and go."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's job; None while only running trials are left, or no slot; FINISHED at the end."""
        if not self.problem and len(self._live) < self.slots():
            try:
                next_one = self._next()
            except (UserError, OSError) as problem:
                self.problem = str(problem)
            else:
                if next_one:
                    return self._start(trial_id, *next_one)
        return None if self._live else Searcher.FINISHED

    def should_stop(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Note an intermediate result; return True where the pruner stops the trial, or the sweep is ending."""
        live = self._live[trial_id]
        for record in live.take(result):
            self._track(record)
        if self.problem:
            return True
        live.journal.shares[live.trial.number] = result.get("share", 0.0)
        if VALUE not in result or result["final"] or not result["at_rung"]:
            return False
        try:
            return live.journal.report(live.trial, result["step"], result[VALUE])
        except (UserError, OSError) as problem:  # nothing may be written behind half a line
            self.problem = str(problem)
            return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep the records, then tell the journal: a kill in between repeats only this step.

        Nothing is raised into Tune: a driver that cannot write ends the sweep, its trials stay RUNNING in the journal
        and are adopted by the next one.
        """
        live = self._live.pop(trial_id, None)
        if live is None or self.problem:
            return
        self.num_ended += 1
        live.journal.shares.pop(live.trial.number, None)
        now = time.monotonic()
        self.busy_seconds += now - live.started
        self.slot_seconds += (now - self._counted) * self.slots()
        self._counted = now
        try:
            status = self._tell(live, None if error else result)
            self._watch_failures(status, live)
        except (UserError, OSError) as problem:
            self.problem = str(problem)

    def lost_node(self, trial_id: str) -> None:
        """Queue a trial whose node is gone, through no fault of its own: it goes on from its last checkpoint."""
        live = self._live[trial_id]
        name = live.job.study, live.job.number
        self._nodes_lost[name] += 1
        if self._nodes_lost[name] <= MAX_NODES_LOST:
            self._left.append((live.journal, live.trial, live.planned))
            live.journal.shares.pop(live.trial.number, None)
            del self._live[trial_id]

    def lost(self, reason: str) -> None:
        """Queue what was in training when Tune broke down, for the next Tuner. A trial that was alone is at fault."""
        live = list(self._live.values())
        self._live.clear()
        for each in live:
            each.journal.shares.pop(each.trial.number, None)
        if len(live) > 1:
            self._left += [(each.journal, each.trial, each.planned) for each in live]
            return
        for alone in live:
            self.num_ended += 1
            alone.journal.fail(alone.trial, reason, retry=True)
            self._watch_failures("failed", alone)

    def _next(self) -> tuple[StudyJournal, optuna.Trial, Trial] | None:
        """Return the next trial: one left by a dead driver, or asked by the study that has been served least."""
        if self._left:
            return self._left.pop(0)
        for search, confirmation in self._pairs:
            if confirmation.study.sweep.confirm and search.status().is_over:
                confirmation.propose_best_of(search)
        self._begin_waiting()
        journals = [journal for journal in self.journals if not journal.is_blocked]
        open_ones = [(journal, status) for journal in journals if (status := journal.status()).num_open]
        for journal, _ in sorted(open_ones, key=lambda each: (each[0].awaits_start(), _share_started(each[1]))):
            if asked := journal.ask():
                return journal, *asked
        return self._next() if open_ones else None  # their spaces are exhausted: they are over, and others may begin

    def _begin_waiting(self) -> None:
        """Begin each search that inherits settings from another one, when that is over.

        Where all that it tried has failed, and may be tried again, this waits for it.
        """
        searches = [search for search, _ in self._pairs]
        for search in searches:
            if search.is_blocked:
                (source,) = (each for each in searches if each.study.setting == search.study.upstream)
                status = source.status()
                if status.planned and status.is_over and (source.best(1) or not status.failed):
                    search.take_settings(source)
                    self._begin(search)

    def _tell(self, live: _Live, result: dict[str, Any] | None) -> str:
        if not result or VALUE not in result:
            died = "the worker process died" if not result else "a report without a value"
            live.journal.fail(live.trial, died, retry=True)
            return "failed"
        live.take(result)
        status: str = result["outcome"] or ("complete" if result["final"] else "pruned")
        reason = result["reason"]
        facts = result_of(live.journal.study, list(live.records.values())) if status == "complete" else Result()
        if status == "complete" and (reason := live.journal.beyond_limits(facts.measures)):
            status = "infeasible"
        try:
            for record in live.records.values():
                ending = {"status": status, "reason": reason, "record_id": _ended(record["record_id"], status)}
                self._store.write(record | ending | {"told": live.journal.told(live.trial, result[VALUE])})
                self._known.add(record | ending)
                self._track(record | ending)
        except ValueError as problem:  # it would be so again
            status, reason = "failed", str(problem)
        match status:
            case "complete" | "infeasible":
                live.journal.complete(live.trial, result[VALUE], facts, infeasible=reason)
            case "pruned":
                live.journal.prune(live.trial)
            case "diverged" | "collapsed":
                live.journal.reject(live.trial, status, reason)
            case _:
                live.journal.fail(live.trial, reason, retry=result.get("retry", False))
        if status != "failed":
            checkpoints_at(live.job.results, live.job.checkpoints).remove()
            self._ended(live.records.values())
        return status

    def _watch_failures(self, status: str, live: _Live) -> None:
        """End a sweep in which nothing works any more, before it burns the whole plan."""
        self._failures_in_a_row = self._failures_in_a_row + 1 if status == "failed" else 0
        if self._failures_in_a_row == MAX_FAILURES_IN_A_ROW:
            reasons = live.journal.failures() or ["the worker process died"]
            self.problem = f"{MAX_FAILURES_IN_A_ROW} trials in a row failed, so the sweep was stopped: {reasons[-1]}"

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its parts for a restore that never happens."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def get_state(self) -> dict[str, Any]:
        """Return nothing: the journal is the state."""
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the journal is the state."""

    def _start(self, trial_id: str, journal: StudyJournal, trial: optuna.Trial, planned: Trial) -> dict[str, Any]:
        study = journal.study
        known = self._known_records(journal, trial, planned)
        job = Job(
            trial=planned.as_dict(),
            sweep=study.sweep.name,
            study=study.name,
            number=trial.number,
            start=trial.user_attrs.get("start", ""),
            label_sets=study.label_sets_text,
            objective=study.plan.objective,
            rungs=study.rungs,
            known={run: record["curve"][-1]["selected"] for run, record in known.items()},
            known_at_rungs={run: at_rungs(record, study.rungs) for run, record in known.items()},
            gpus=study.sweep.gpus_per_trial,
            nodes=study.sweep.nodes_per_trial,
            quiet_seconds=max(QUIET_SECONDS, len(self._live) / MAX_SIGNS_OF_LIFE),
            results=self._store.address,
            checkpoints=(self._checkpoints / study.folder / str(original_number(trial))).as_posix(),
            data_root=str(self._data_root) if self._data_root else None,
            keep_weights=study.sweep.keep_weights != "none",
        )
        live = _Live(journal, trial, planned, job, time.monotonic())
        live.records.update((record["record_id"], record) for record in known.values())
        self._live[trial_id] = live
        return {"job": job.to_json()}

    def _known_records(self, journal: StudyJournal, trial: optuna.Trial, planned: Trial) -> dict[str, dict[str, Any]]:
        """Return what was trained already, by whichever study or sweep, as records of this trial, by run."""
        known = {}
        study, runs = journal.study, runs_of_trial(planned)
        for run in runs:
            if record := self._known.find(study, run):
                known[run.name] = record | {
                    "record_id": record_id(record["run_id"], study.name, trial.number, study.sweep.name),
                    "trial_id": planned.trial_id,
                    "num_runs": len(runs),
                    "label_sets": study.label_sets_text,
                    "start": trial.user_attrs.get("start", ""),
                    "sweep": study.sweep.name,
                    "study": study.name,
                    "number": trial.number,
                }
        return known


def _ended(name: str, status: str) -> str:
    """Return the id of a record once the outcome of its trial is known."""
    return f"{name}-{status}"


def _share_started(status: StudyStatus) -> float:
    return 1 - status.num_open / max(status.planned, 1)


class JournalPruner(FIFOScheduler):
    """Scheduler that stops a trial when the journal's pruner says so; otherwise first come, first served."""

    def __init__(self, searcher: JournalSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return CONTINUE or STOP."""
        stop = self._searcher.should_stop(trial.trial_id, result)
        decision: str = TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
        return decision

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tell the searcher of a lost node; called before its `on_trial_complete`."""
        error = Path(trial.error_file).read_text() if trial.error_file else ""  # get_error finds it only later
        if any(text in error for text in _NODE_LOST):
            self._searcher.lost_node(trial.trial_id)
