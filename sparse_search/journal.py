"""The one truth of a search: studies in Optuna's journal, with states that mean what they say.

    RUNNING    being trained, or was when the driver died: adopted again at the next start
    COMPLETE   trained on every label set at full budget; or diverged or collapsed (attribute `outcome`), with the worst
               value, so that the sampler learns (among pruned trials it would take the longest for the best)
    PRUNED     stopped early
    FAIL       the infrastructure failed, or a repeat of known values: never a score
    WAITING    enqueued: the default, the presets, and retries (attribute `retry_of`)

A failed trial without a retry has been given up; `retry_given_up` tries it again.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.errors import ResultsError
from sparse_search.distributions import suggest
from sparse_search.samplers import new_pruner, new_sampler
from sparse_search.sweep import Study
from trainables.core.trial import Trial

WORST = 0.0
"""Value of a rejected trial: the least of every objective."""

MOST_REPEATS = 50
"""Known values in a row after which a space counts as exhausted."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class StudyStatus:
    """Where a study stands."""

    title: str
    planned: int
    complete: int = 0
    pruned: int = 0
    collapsed: int = 0
    """Trained to the end, to name one class for every validation image."""

    diverged: int = 0
    failed: int = 0
    """Given up after all retries."""

    running: int = 0
    best: float | None = None
    """Best objective among the complete trials."""

    @property
    def finished(self) -> int:
        """Trials that need no more work."""
        return self.complete + self.pruned + self.collapsed + self.diverged + self.failed

    @property
    def num_open(self) -> int:
        """Trials still to be asked for."""
        return max(0, self.planned - self.finished - self.running)


class StudyJournal:
    """One study: what is planned, what is known, what comes next."""

    def __init__(self, study: Study, storage: JournalStorage, *, look_only: bool = False) -> None:
        self.study = study
        if look_only:
            self._optuna = optuna.load_study(study_name=study.name, storage=storage)
            return
        self._optuna = optuna.create_study(
            study_name=study.name,
            storage=storage,
            direction="maximize",
            pruner=new_pruner(study.sweep),
            load_if_exists=True,
        )

    def propose_starts(self) -> None:
        """Enqueues the default and the presets, once in the life of the study."""
        known = {frozen.user_attrs.get("start") for frozen in self._trials()}
        for start, config in self.study.plan.starts.items():
            if start not in known:
                attributes = {"start": start, "config": write_config(config)}
                self._optuna.enqueue_trial(self._params_of(config), user_attrs=attributes)

    def status(self) -> StudyStatus:
        """Counts and the best value."""
        trials = self._trials()
        outcomes = [self._outcome(frozen) for frozen in trials]
        names = ("complete", "pruned", "collapsed", "diverged", "failed", "running")
        done = {name: outcomes.count(name) for name in names}
        planned = self.study.plan.trials
        if "exhausted" in self._optuna.user_attrs:
            planned = min(planned, sum(done.values()) + outcomes.count("waiting"))
        scored = (frozen for frozen, outcome in zip(trials, outcomes, strict=True) if outcome == "complete")
        best = max((frozen.value for frozen in scored if frozen.value is not None), default=None)
        return StudyStatus(self.study.title, planned, best=best, **done)

    def running(self) -> Iterator[tuple[optuna.Trial, Trial]]:
        """Trials that a driver left behind, with what they train."""
        for frozen in self._trials():
            if frozen.state == TrialState.RUNNING:
                trial = optuna.Trial(self._optuna, frozen._trial_id)
                planned = self._admit(trial)
                if planned:
                    yield trial, planned

    def ask(self) -> tuple[optuna.Trial, Trial] | None:
        """The next trial and what it trains; None when the space has nothing new."""
        for _ in range(MOST_REPEATS):
            self._optuna.sampler = new_sampler(self.study, len(self._trials()))
            trial = self._optuna.ask()
            planned = self._admit(trial)
            if planned:
                return trial, planned
        self._optuna.set_user_attr("exhausted", True)
        return None

    def report(self, trial: optuna.Trial, step: int, value: float) -> bool:
        """Notes an intermediate value; whether to stop here. Default and presets always run to the end."""
        if step not in self._trials()[trial.number].intermediate_values:
            trial.report(value, step)
        return "start" not in trial.user_attrs and trial.should_prune()

    def complete(self, trial: optuna.Trial, value: float) -> None:
        """The trial reached its full budget."""
        self._optuna.tell(trial, value, skip_if_finished=True)

    def prune(self, trial: optuna.Trial) -> None:
        """The trial was stopped early."""
        self._optuna.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    def reject(self, trial: optuna.Trial, outcome: str, reason: str) -> None:
        """The trial diverged or collapsed: no score counts, and the sampler should learn from that."""
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("reason", reason)
        self.complete(trial, WORST)

    def fail(self, trial: optuna.Trial, reason: str, *, retry: bool) -> None:
        """The trial failed through no fault of its values; they are tried again while retries are left."""
        attempt = trial.user_attrs.get("attempt", 0)
        trial.set_user_attr("reason", reason)
        if retry and attempt < self.study.sweep.retries:
            self._try_again(self._trials()[trial.number], attempt + 1)  # before the tell: a kill in between repeats it
        self._optuna.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def retry_given_up(self) -> None:
        """Enqueues once more what was given up."""
        for frozen in self._given_up():
            self._try_again(frozen, 0)

    def failures(self) -> list[str]:
        """Why trials were given up: one line for each different reason; tracebacks are in the records."""
        reasons: dict[str, list[int]] = {}
        for frozen in self._given_up():
            last_line = frozen.user_attrs["reason"].strip().splitlines()[-1]
            reasons.setdefault(last_line, []).append(frozen.number)
        return [f"{self.study.title}, trial {', '.join(map(str, numbers))}: {why}" for why, numbers in reasons.items()]

    def checkpoints_in_use(self) -> set[int]:
        """Numbers of the checkpoints that a running, waiting or given-up trial may still need."""
        needed = (f for f in self._trials() if self._outcome(f) in ("running", "waiting", "failed"))
        return {checkpoint_number(frozen) for frozen in needed}

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_trials(deepcopy=False)

    def _given_up(self) -> list[FrozenTrial]:
        return [frozen for frozen in self._trials() if self._outcome(frozen) == "failed"]

    def _outcome(self, frozen: FrozenTrial) -> str:
        """The state in our words; empty for a repeat and for what is tried again."""
        outcome = str(frozen.user_attrs.get("outcome", ""))
        if frozen.state == TrialState.FAIL:
            retried = any(other.user_attrs.get("retry_of") == frozen.number for other in self._trials())
            return "" if outcome == "repeat" or retried else "failed"
        return outcome or frozen.state.name.lower()

    def _try_again(self, frozen: FrozenTrial, attempt: int) -> None:
        kept = {name: frozen.user_attrs[name] for name in ("start", "config") if name in frozen.user_attrs}
        attributes = kept | {"retry_of": frozen.number, "attempt": attempt, "checkpoints": checkpoint_number(frozen)}
        self._optuna.enqueue_trial(frozen.params, user_attrs=attributes)

    def _admit(self, trial: optuna.Trial) -> Trial | None:
        """What the trial trains; None, and the trial is told so, when another one has these values already."""
        base = self._base_of(trial)
        names = self._params_of(base) if "start" in trial.user_attrs else self.study.plan.space
        params = {name: suggest(trial, name, self.study.plan.space[name]) for name in names}
        planned = self.study.trial(base, params)
        if planned.trial_id in self._known_beside(trial.number):
            trial.set_user_attr("outcome", "repeat")
            self._optuna.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("trial_id", planned.trial_id)
        return planned

    def _known_beside(self, number: int) -> set[str]:
        others = (frozen for frozen in self._trials() if frozen.number != number and frozen.state != TrialState.FAIL)
        return {frozen.user_attrs["trial_id"] for frozen in others if "trial_id" in frozen.user_attrs}

    def _base_of(self, trial: optuna.Trial) -> MethodConfig:
        """The configuration below the searched values: the start's own, kept with it, else the sweep's default."""
        settings = self.study.plan.settings
        return read_config(type(settings), trial.user_attrs.get("config", write_config(settings)))

    def _params_of(self, start: MethodConfig) -> dict[str, Any]:
        """The searched values of a start; one outside its range is no parameter of that trial."""
        values = {name: getattr(start, name) for name in self.study.plan.space}
        return {name: value for name, value in values.items() if value in self.study.plan.space[name]}


def open_journal(path: Path) -> JournalStorage:
    """The journal in a file, made when it is not there.

    Raises:
        ResultsError: it cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except (OSError, ValueError) as problem:
        raise ResultsError(f"cannot read the journal {path}: {problem}") from problem


def mend_journal(path: Path) -> None:
    """Removes a last line that a full disk or a power cut left half written: that step never happened.

    Only for the one driver of a sweep.
    """
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def checkpoint_number(trial: optuna.Trial | FrozenTrial) -> int:
    """Number under which a trial's checkpoints lie: a retry goes on from those of the first attempt."""
    number: int = trial.user_attrs.get("checkpoints", trial.number)
    return number
