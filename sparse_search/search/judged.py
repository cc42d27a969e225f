"""Trials as samplers and pruners are shown them: judged by the limits of today, what was rejected behind all others.

What diverged, collapsed or is beyond a limit violates a constraint, which every model sorts last. The journal keeps
what was measured, so that a limit that was changed judges again what was trained under another one.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy

from optuna.trial import FrozenTrial, TrialState

REJECTED = ("diverged", "collapsed")
"""Outcomes that were caused by a configuration, and say nothing of its score."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_CONSTRAINTS = "constraints"


def beyond(limits: Mapping[str, float], measures: Mapping[str, float]) -> str:
    """Name the limits that measures exceed, with numbers; empty when they keep them all."""
    names = (name for name, limit in limits.items() if measures.get(name, 0) > limit)
    return "; ".join(f"{name} {measures[name]:.4g}, at most {limits[name]:.4g} allowed" for name in names)


def judged_outcome(frozen: FrozenTrial, limits: Mapping[str, float]) -> str:
    """Return `complete` or `infeasible` of a trial that was trained to its end; of others what they were told as."""
    outcome = str(frozen.user_attrs.get("outcome", ""))
    if frozen.state != TrialState.COMPLETE or outcome not in ("", "infeasible"):
        return outcome
    if outcome and not any(name in frozen.user_attrs for name in ("peak_memory_bytes", "seconds_per_image")):
        return outcome
    return "infeasible" if beyond(limits, frozen.user_attrs) else "complete"


def violations(frozen: FrozenTrial, limits: Mapping[str, float]) -> list[float]:
    """Excess over each limit, as a factor less 1; what ended early was not seen to exceed any, what is rejected all."""
    if frozen.user_attrs.get("outcome") in REJECTED:
        return [1.0] * max(1, len(limits))
    return [frozen.user_attrs.get(name, limit) / limit - 1 for name, limit in limits.items()] or [0.0]


def is_feasible(frozen: FrozenTrial) -> bool:
    """Return False for a trial that every sampler ranks last."""
    return all(value <= 0 for value in frozen.constraints.values())


class Judge:
    """Judge of the trials of one study: as they are while nothing is limited or rejected."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        self._limits = limits
        self._shown: dict[int, FrozenTrial] = {}

    def shown(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials, the finished ones with what they violate."""
        if not self._limits and not any(_is_rejected(trials)):
            return list(trials)
        return [self._with_violations(frozen) if frozen.state in _FINISHED else frozen for frozen in trials]

    def _with_violations(self, frozen: FrozenTrial) -> FrozenTrial:
        known = self._shown.get(frozen.number)
        if known is None:
            known = copy(frozen)
            attributes = {k: v for k, v in frozen.system_attrs.items() if not k.startswith(f"{_CONSTRAINTS}:")}
            known.system_attrs = {**attributes, _CONSTRAINTS: violations(frozen, self._limits)}
            self._shown[frozen.number] = known
        return known


def _is_rejected(trials: Iterable[FrozenTrial]) -> Iterable[bool]:
    return (frozen.user_attrs.get("outcome") in REJECTED for frozen in trials)
