"""Ray Tune's two interfaces over the journal: what to run next, and when to stop early.

Tune executes; it remembers nothing that matters. Every start is a fresh Tuner.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search_spaces.core.errors import UserError
from sparse_search.journal import StudyJournal, checkpoint_number
from sparse_search.store import Store
from sparse_search.worker import VALUE, Job
from trainables.core.checkpoint import Checkpoints
from trainables.core.trial import Trial

MOST_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True)
class _Live:
    """A trial in training."""

    journal: StudyJournal
    trial: optuna.Trial
    job: Job
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of its runs so far, by id: a report brings only what is new."""

    def take(self, result: Mapping[str, Any]) -> None:
        """Adds what a report brings; the same report again changes nothing."""
        for record in json.loads(result["records"]):
            known = self.records.get(record["record_id"], {"curve": []})["curve"]
            done = known[-1]["epoch"] if known else 0
            curve = known + [point for point in record["curve"] if point["epoch"] > done]
            self.records[record["record_id"]] = record | {"curve": curve}


class JournalSearcher(Searcher):
    """Serves many studies to one Tuner: first what a dead driver left, then what the least served study asks."""

    def __init__(
        self, journals: Sequence[StudyJournal], store: Store, *, checkpoints: Path, data_root: Path | None
    ) -> None:
        super().__init__(metric=VALUE, mode="max")
        self.journals = journals
        self._store = store
        self._checkpoints = checkpoints
        self._data_root = data_root
        self.problem = ""
        """Why the sweep has to end early; empty while all is well."""

        self._failures_in_a_row = 0
        self._live: dict[str, _Live] = {}
        self._left = [(journal, *left) for journal in journals for left in journal.running()]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; None while only running trials are left; FINISHED at the end."""
        if self.problem:
            return None if self._live else Searcher.FINISHED
        if self._left:
            return self._start(trial_id, *self._left.pop(0))
        for journal in sorted(self.journals, key=_share_started):
            asked = journal.ask() if journal.status().num_open else None
            if asked:
                return self._start(trial_id, journal, *asked)
        return None if self._live else Searcher.FINISHED

    def should_stop(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Notes an intermediate result; whether the pruner stops the trial here, or the sweep is ending."""
        live = self._live[trial_id]
        live.take(result)
        if self.problem:
            return True
        return not result["final"] and live.journal.report(live.trial, result["step"], result[VALUE])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keeps the records, then tells the journal: a kill in between repeats only this step.

        Nothing is raised into Tune: a driver that cannot write ends the sweep, its trials stay RUNNING in the journal
        and are adopted by the next one.
        """
        live = self._live.pop(trial_id, None)
        if live is None or self.problem:
            return
        try:
            status = self._tell(live, None if error else result)
            self._watch_failures(status, live)
        except (UserError, OSError) as problem:
            self.problem = str(problem)

    def _tell(self, live: _Live, result: dict[str, Any] | None) -> str:
        if not result or VALUE not in result:
            live.journal.fail(live.trial, "the worker process died", retry=True)
            return "failed"
        status: str = result["outcome"] or ("complete" if result["final"] else "pruned")
        live.take(result)
        for record in live.records.values():
            ending = {"status": status, "reason": result["reason"], "record_id": f"{record['record_id']}-{status}"}
            self._store.write(record | ending)
        match status:
            case "complete":
                live.journal.complete(live.trial, result[VALUE])
            case "pruned":
                live.journal.prune(live.trial)
            case "diverged" | "collapsed":
                live.journal.reject(live.trial, status, result["reason"])
            case _:
                live.journal.fail(live.trial, result["reason"], retry=result["retry"])
        if status != "failed":
            Checkpoints(Path(live.job.checkpoints)).remove()
        return status

    def _watch_failures(self, status: str, live: _Live) -> None:
        """Ends a sweep in which nothing works any more, before it burns the whole plan."""
        self._failures_in_a_row = self._failures_in_a_row + 1 if status == "failed" else 0
        if self._failures_in_a_row == MOST_FAILURES_IN_A_ROW:
            reasons = live.journal.failures() or ["the worker process died"]
            self.problem = f"{MOST_FAILURES_IN_A_ROW} trials in a row failed, so the sweep was stopped: {reasons[-1]}"

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its parts for a restore that never happens."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def get_state(self) -> dict[str, Any]:
        """Nothing: the journal is the state."""
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the journal is the state."""

    def _start(self, trial_id: str, journal: StudyJournal, trial: optuna.Trial, planned: Trial) -> dict[str, Any]:
        study = journal.study
        job = Job(
            trial=planned.as_dict(),
            sweep=study.sweep.name,
            study=study.name,
            number=trial.number,
            start=trial.user_attrs.get("start", ""),
            objective=study.sweep.objective,
            checkpoints=str(self._checkpoints / study.folder / str(checkpoint_number(trial))),
            data_root=str(self._data_root) if self._data_root else None,
        )
        self._live[trial_id] = _Live(journal, trial, job)
        return {"job": job.to_json()}


def _share_started(journal: StudyJournal) -> float:
    return 1 - journal.status().num_open / journal.study.plan.trials


class JournalPruner(FIFOScheduler):
    """Stops a trial when the journal's pruner says so; otherwise first come, first served."""

    def __init__(self, searcher: JournalSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """CONTINUE or STOP."""
        stop = self._searcher.should_stop(trial.trial_id, result)
        decision: str = TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
        return decision
