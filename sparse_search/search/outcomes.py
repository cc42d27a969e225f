"""How trials end, and where a study stands: what is read from a study's trials, and nothing else."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

COUNTED = ("complete", "pruned", "collapsed", "diverged", "infeasible", "failed", "running")
"""Outcomes that a status counts."""


@dataclass(frozen=True)
class Result:
    """What is known of a complete trial beside its value."""

    measures: Mapping[str, float] = field(default_factory=dict)
    """`train_seconds`, `peak_memory_bytes`, `seconds_per_image`."""

    interval: tuple[float, float] | None = None


NO_RESULT = Result()


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
    infeasible: int = 0
    """Trained to the end, beyond a limit of memory or time."""

    failed: int = 0
    """Given up after all retries."""

    running: int = 0
    objective: str = ""
    """What it searches for."""

    best: float | None = None
    """Best objective among the complete trials."""

    interval: Sequence[float] | None = None
    """Its 95 % interval, lower and upper end."""

    seconds: float | None = None
    """Mean time from a trial's start to its end."""

    @property
    def finished(self) -> int:
        """Trials that need no more work."""
        return self.complete + self.pruned + self.collapsed + self.diverged + self.infeasible + self.failed

    @property
    def is_over(self) -> bool:
        """Whether nothing of its plan is open or running."""
        return not self.num_open and not self.running

    @property
    def num_open(self) -> int:
        """Trials still to be asked for."""
        return max(0, self.planned - self.finished - self.running)


def outcome_of(frozen: FrozenTrial, retried: Container[int]) -> str:
    """The state in our words; `retried` for what is tried again."""
    outcome = str(frozen.user_attrs.get("outcome", ""))
    if frozen.state == TrialState.FAIL and not outcome:
        return "retried" if frozen.number in retried else "failed"
    return outcome or frozen.state.name.lower()


def retried_ones(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of the failed trials that are tried again."""
    return {frozen.user_attrs["retry_of"] for frozen in trials if "retry_of" in frozen.user_attrs}


def best_of(complete: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The one with the best value."""
    return max(complete, key=lambda frozen: frozen.values[0], default=None)


def seconds_of(frozen: FrozenTrial) -> float | None:
    """How long a trial of this sweep took from its start to its end, pauses between drivers included."""
    if frozen.user_attrs.get("outcome") == "earlier" or not frozen.datetime_start or not frozen.datetime_complete:
        return None
    return (frozen.datetime_complete - frozen.datetime_start).total_seconds()


def original_number(trial: optuna.Trial | FrozenTrial) -> int:
    """Number of the first attempt: a retry has its label sets, and goes on from its checkpoints."""
    number: int = trial.user_attrs.get("original", trial.number)
    return number
