"""Outcomes of trials and the status of a study, read from the trials of the study alone."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sparse_search.search.judged import judged_outcome
from trainables.metrics.table import DEFAULT_METRIC, METRICS, TIE_BREAKERS, sign_of

COUNTED = ("complete", "pruned", "collapsed", "diverged", "infeasible", "failed", "running")
"""Outcomes that a status counts."""

WORST_SECONDS = 1e9
"""Second objective of a rejected trial, where seconds count."""

TIE_BREAK = 1e-6
"""Weight of the first tie-breaker beside the objective: few validation images leave many configurations equal, and
less than one image in a million changes nothing else."""

BALANCED_BRIER = "balanced_brier"
"""Measure by which averages choose their members, and weights are kept."""

FAR, MIN_GAP = -1e4, 1e-3
"""Objective of a rejected trial where no distance is known yet, and the least gap to the worst known one."""


@dataclass(frozen=True)
class Result:
    """Measures and interval of a complete trial."""

    measures: Mapping[str, float] = field(default_factory=dict)
    """`train_seconds`, `peak_memory_bytes`, `seconds_per_image`, and `BALANCED_BRIER` where images have classes."""

    interval: tuple[float, float] | None = None


NO_RESULT = Result()


@dataclass(frozen=True)
class StudyStatus:
    """Status of a study: counts by outcome and the best value."""

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
    objective: str = DEFAULT_METRIC
    """Name of the metric that is searched for."""

    best: float | None = None
    """Best objective among the complete trials."""

    interval: Sequence[float] | None = None
    """Its 95 % interval, lower and upper end."""

    seconds: float | None = None
    """Mean time from a trial's start to its end."""

    @property
    def finished(self) -> int:
        """Number of trials that need no more work."""
        return self.complete + self.pruned + self.collapsed + self.diverged + self.infeasible + self.failed

    @property
    def is_over(self) -> bool:
        """True when nothing of its plan is open or running."""
        return not self.num_open and not self.running

    @property
    def num_open(self) -> int:
        """Number of trials still to be asked for."""
        return max(0, self.planned - self.finished - self.running)


@dataclass(frozen=True)
class CountedPlan:
    """What of a study's plan its status is counted by."""

    title: str
    trials: int
    """Those planned; of a confirmation it is told by its journal."""

    objective: str
    limits: Mapping[str, float]
    confirmation: bool = False


def count_status(plan: CountedPlan, trials: Sequence[FrozenTrial], *, is_exhausted: bool) -> StudyStatus:
    """Count the trials of a study by outcome, and find the best value."""
    retried = retried_ones(trials)
    outcomes = [outcome_of(frozen, retried, plan.limits) for frozen in trials]
    done = {name: outcomes.count(name) for name in COUNTED}
    begun = sum(done.values())
    known = begun + outcomes.count("waiting")
    planned = known if plan.confirmation else min(plan.trials, known) if is_exhausted else plan.trials
    best = best_of([frozen for frozen, outcome in zip(trials, outcomes, strict=True) if outcome == "complete"])
    seconds = [each for frozen in trials if (each := seconds_of(frozen)) is not None]
    return StudyStatus(
        plan.title,
        max(begun, planned),
        **done,
        objective=plan.objective,
        best=sign_of(plan.objective) * best.values[0] if best else None,
        interval=best.user_attrs.get("interval") if best else None,
        seconds=fmean(seconds) if seconds else None,
    )


def outcome_of(frozen: FrozenTrial, retried: Container[int], limits: Mapping[str, float]) -> str:
    """Name the outcome of a trial under the limits of today; `retried` for a failure that is tried again."""
    outcome = judged_outcome(frozen, limits)
    if frozen.state == TrialState.FAIL and not outcome:
        return "retried" if frozen.number in retried else "failed"
    return outcome or frozen.state.name.lower()


def retried_ones(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of the failed trials that are tried again."""
    return {frozen.user_attrs["retry_of"] for frozen in trials if "retry_of" in frozen.user_attrs}


def best_of(complete: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial with the best value; None without any."""
    return max(complete, key=lambda frozen: frozen.values[0], default=None)


def ascending_value(study: optuna.Study, value: float | None) -> float:
    """Return a value so that larger is better; none at all is the worst."""
    if value is None or math.isnan(value):
        return -math.inf
    return value if study.direction == StudyDirection.MAXIMIZE else -value


def seconds_of(frozen: FrozenTrial) -> float | None:
    """Seconds from a trial's start to its end, pauses between drivers included; None for one of another sweep."""
    if frozen.user_attrs.get("outcome") == "earlier" or not frozen.datetime_start or not frozen.datetime_complete:
        return None
    return (frozen.datetime_complete - frozen.datetime_start).total_seconds()


def original_number(trial: optuna.Trial | FrozenTrial) -> int:
    """Number of the first attempt: a retry has its label sets, and goes on from its checkpoints."""
    number: int = trial.user_attrs.get("original", trial.number)
    return number


def search_value(objective: str, metric: Callable[[str], float | None]) -> float:
    """Return what the search compares, larger being better: the objective and, where it is equal, the tie-breaker."""
    second = TIE_BREAKERS[0]
    return sign_of(objective) * (metric(objective) or 0.0) + TIE_BREAK * sign_of(second) * (metric(second) or 0.0)


def rejected_value(objective: str, known: Sequence[float]) -> float:
    """Return what a rejected trial is told with: the worst end of the objective, greater being better.

    An objective without an end, such as a distance, gives one worse than all known values, and no worse than that, as
    a model by values, not ranks, would see nothing else any more.
    """
    end = METRICS[objective].worst
    if end is not None:
        return sign_of(objective) * end
    return min(known) - max(max(known) - min(known), abs(min(known)), MIN_GAP) if known else FAR
