"""The one truth of a search: studies in Optuna's journal, with states that mean what they say.

RUNNING    being trained, or was when the driver died: adopted again at the next start
COMPLETE   trained on every label set at full budget
PRUNED     stopped early; or diverged (user attribute `outcome`), with the worst value, so that the
           sampler learns to avoid it
FAIL       the infrastructure failed, or a repeat of known values: never a score. The same values are
           enqueued again, up to `retries` times
WAITING    enqueued: the default, the presets, retries
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.errors import ResultsError
from sparse_search.distributions import suggest
from sparse_search.sweep import Study, Sweep
from trainables.core.trial import Trial

WORST = 0.0
"""Value of a diverged trial: the least of every objective."""

MOST_REPEATS = 50
"""Known values in a row after which a space counts as exhausted."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class StudyStatus:
    """Where a study stands."""

    title: str
    planned: int
    complete: int
    pruned: int
    diverged: int
    failed: int
    """Given up after all retries."""

    running: int
    best: float | None
    """Best objective among the complete trials."""

    @property
    def finished(self) -> int:
        """Trials that need no more work."""
        return self.complete + self.pruned + self.diverged + self.failed


class StudyJournal:
    """One study: what is planned, what is known, what comes next."""

    def __init__(self, study: Study, storage: JournalStorage) -> None:
        self.study = study
        self._exhausted = False
        self._optuna = optuna.create_study(
            study_name=study.name,
            storage=storage,
            direction="maximize",
            pruner=_pruner(study.sweep),
            load_if_exists=True,
        )

    def propose_starts(self) -> None:
        """Enqueues the default and the presets, once in the life of the study."""
        known = {frozen.user_attrs.get("start") for frozen in self._trials()}
        for start in self.study.plan.starts:
            if start not in known:
                self._optuna.enqueue_trial(self._start_params(start), user_attrs={"start": start})

    def status(self) -> StudyStatus:
        """Counts and the best value."""
        outcomes = [_outcome(frozen) for frozen in self._trials()]
        complete = [frozen.value for frozen in self._trials() if frozen.state == TrialState.COMPLETE]
        done = {name: outcomes.count(name) for name in ("complete", "pruned", "diverged", "failed", "running")}
        planned = self.study.plan.trials
        if self._exhausted:
            planned = min(planned, sum(done.values()))
        return StudyStatus(
            title=self.study.title,
            planned=planned,
            best=max((value for value in complete if value is not None), default=None),
            **done,
        )

    def num_open(self) -> int:
        """Trials still to be asked for."""
        status = self.status()
        return max(0, status.planned - status.finished - status.running)

    def running(self) -> Iterator[tuple[optuna.Trial, Trial]]:
        """Trials that a driver left behind, with what they train."""
        for frozen in self._trials():
            if frozen.state == TrialState.RUNNING:
                trial = optuna.Trial(self._optuna, frozen._trial_id)
                yield trial, self._planned(trial)

    def ask(self) -> tuple[optuna.Trial, Trial] | None:
        """The next trial and what it trains; None when the space has nothing new."""
        for _ in range(MOST_REPEATS):
            self._optuna.sampler = _sampler(self.study, len(self._trials()))
            trial = self._optuna.ask()
            planned = self._planned(trial)
            if planned.trial_id not in self._known():
                trial.set_user_attr("trial_id", planned.trial_id)
                return trial, planned
            trial.set_user_attr("outcome", "repeat")
            self._optuna.tell(trial, state=TrialState.FAIL)
        self._exhausted = True
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

    def diverge(self, trial: optuna.Trial, reason: str, step: int) -> None:
        """The trial has no score: an outcome that the sampler should learn from."""
        trial.set_user_attr("outcome", "diverged")
        trial.set_user_attr("reason", reason)
        self.report(trial, step, WORST)
        self.prune(trial)

    def fail(self, trial: optuna.Trial, reason: str, *, retry: bool) -> None:
        """The trial failed through no fault of its values; they are tried again while retries are left."""
        attempt = trial.user_attrs.get("attempt", 0)
        attributes = {name: trial.user_attrs[name] for name in ("start",) if name in trial.user_attrs}
        trial.set_user_attr("reason", reason)
        if retry and attempt < self.study.sweep.retries:
            attributes |= {"attempt": attempt + 1, "checkpoints": checkpoint_number(trial)}
            self._optuna.enqueue_trial(trial.params, user_attrs=attributes)
        else:
            trial.set_user_attr("outcome", "failed")
        self._optuna.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def failures(self) -> list[str]:
        """Why trials were given up: one line for each different reason; tracebacks are in the records."""
        reasons: dict[str, list[int]] = {}
        for frozen in self._trials():
            if _outcome(frozen) == "failed":
                last_line = frozen.user_attrs["reason"].strip().splitlines()[-1]
                reasons.setdefault(last_line, []).append(frozen.number)
        return [f"{self.study.title}, trial {', '.join(map(str, numbers))}: {why}" for why, numbers in reasons.items()]

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_trials(deepcopy=False)

    def _known(self) -> set[str]:
        return {
            f.user_attrs["trial_id"]
            for f in self._trials()
            if f.state != TrialState.FAIL and "trial_id" in f.user_attrs
        }

    def _planned(self, trial: optuna.Trial) -> Trial:
        start: str | None = trial.user_attrs.get("start")
        names = self._start_params(start) if start else self.study.plan.space
        params = {name: suggest(trial, name, self.study.plan.space[name]) for name in names}
        return self.study.trial(start, params)

    def _start_params(self, start: str) -> dict[str, Any]:
        """The searched values of a start; one outside its range is no parameter of that trial."""
        config = self.study.plan.starts[start]
        values = {name: getattr(config, name) for name in self.study.plan.space}
        return {name: value for name, value in values.items() if value in self.study.plan.space[name]}


def open_journal(path: Path) -> JournalStorage:
    """The journal in a file, made when it is not there.

    Raises:
        ResultsError: it cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as problem:
        raise ResultsError(f"cannot open the journal {path}: {problem.strerror}") from problem


def checkpoint_number(trial: optuna.Trial) -> int:
    """Number under which a trial's checkpoints lie: a retry goes on from those of the first attempt."""
    number: int = trial.user_attrs.get("checkpoints", trial.number)
    return number


def _outcome(frozen: FrozenTrial) -> str:
    """`complete`, `pruned`, `diverged`, `failed`, `running`; empty for what will be tried again or is waiting."""
    match frozen.state:
        case TrialState.COMPLETE:
            return "complete"
        case TrialState.PRUNED:
            return str(frozen.user_attrs.get("outcome", "pruned"))
        case TrialState.RUNNING:
            return "running"
        case TrialState.FAIL if frozen.user_attrs.get("outcome") == "failed":
            return "failed"
    return ""


def _sampler(study: Study, num_known: int) -> BaseSampler:
    """A sampler for the next trial, seeded by what is known: a restarted driver asks what it would have asked."""
    seed = int.from_bytes(sha256(f"{study.sweep.seed}/{study.name}/{num_known}".encode()).digest()[:4], "big")
    if study.sweep.sampler == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=max(4, min(10, study.plan.trials // 3)),
            seed=seed,
        )


def _pruner(sweep: Sweep) -> BasePruner:
    match sweep.pruner:
        case "median":
            return MedianPruner(n_startup_trials=4)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=sweep.evaluate_every, reduction_factor=3)
    return NopPruner()
