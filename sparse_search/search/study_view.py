"""One study as its journal has it: counts, outcomes, the best, and what a trial has trained."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.ranges import inactive_fields
from sparse_search.results.rows import config_id
from sparse_search.search.choices import num_startup
from sparse_search.search.journal_file import Journal
from sparse_search.search.judged import Judge, beyond
from sparse_search.search.outcomes import (
    CountedPlan,
    StudyStatus,
    count_status,
    original_number,
    outcome_of,
    rejected_value,
    retried_ones,
)
from sparse_search.search.sweep import Study
from sparse_search.search.transactions import Transactional, cached_until_write

optuna.logging.set_verbosity(optuna.logging.WARNING)


class StudyView(Transactional):
    """Study in a journal, to look at; `StudyJournal` writes."""

    def __init__(self, study: Study, storage: Journal, opened: optuna.Study, *, look_only: bool = True) -> None:
        super().__init__(storage, look_only=look_only)
        self.study = study
        self.shares: dict[int, float] = {}
        """Share of its full budget that each running trial has had, by number, as far as this driver knows."""

        self._optuna = opened
        storage.judge(opened._study_id, Judge(study.sweep.limits))

    @property
    def is_blocked(self) -> bool:
        """True while it waits for settings that it inherits from another study."""
        is_search = self.study.plan.settings_from and not self.study.confirmation
        return bool(is_search) and "taken" not in self._optuna.user_attrs

    @property
    def resolved(self) -> Study:
        """Study with the settings that it inherited."""
        plan, inherited = self.study.plan, self._inherited
        if not inherited:
            return self.study
        return replace(self.study, plan=replace(plan, settings=changed(plan.settings, inherited)))

    @property
    def _inherited(self) -> dict[str, Any]:
        inherited: dict[str, Any] = self._optuna.user_attrs.get("taken", {}) if self.study.plan.settings_from else {}
        return inherited

    @property
    def has_transferred(self) -> bool:
        """True once configurations that did well on other data have been enqueued."""
        return "from_elsewhere" in self._optuna.user_attrs

    @property
    def is_exhausted(self) -> bool:
        """True once its space has had nothing new."""
        return "exhausted" in self._optuna.user_attrs

    @cached_until_write
    def status(self) -> StudyStatus:
        """Count the trials by outcome, and find the best value."""
        return count_status(counted_plan(self.study), self._trials(), is_exhausted=self.is_exhausted)

    @cached_until_write
    def awaits_start(self) -> bool:
        """Return True while all its random start-up trials are in training: another one would be as blind."""
        searched = [frozen.state for frozen in self._trials() if "start" not in frozen.user_attrs]
        finished = len(searched) - searched.count(TrialState.RUNNING)
        return finished < num_startup(self.study.sweep.sampler, self.study.plan.trials) <= len(searched)

    def beyond_limits(self, measures: Mapping[str, float]) -> str:
        """Name the limits of the sweep that a trial exceeds, with numbers; empty when it keeps them all."""
        return beyond(self.study.sweep.limits, measures)

    def admitted_again(self) -> set[int]:
        """Return the numbers of the trials that were told as infeasible, and are not under the limits of today."""
        complete = self._with_outcome("complete")
        return {frozen.number for frozen in complete if frozen.user_attrs.get("outcome") == "infeasible"}

    def told(self, trial: optuna.Trial, value: float) -> dict[str, Any]:
        """Return what the journal is told of a trial, to be kept with its records: its value, and those at rungs."""
        reports = self._trials()[trial.number].intermediate_values
        return {"value": value, "reports": {str(step): reported for step, reported in reports.items()}}

    def failures(self) -> list[str]:
        """Reasons for which trials were given up, a line for each different one; tracebacks are in the records."""
        reasons: dict[str, list[int]] = {}
        for frozen in self._with_outcome("failed"):
            reason = str(frozen.user_attrs.get("reason", "")).strip() or "for an unknown reason"
            last_line = reason.splitlines()[-1]
            reasons.setdefault(last_line, []).append(frozen.number)
        return [f"{self.study.title}, trial {', '.join(map(str, numbers))}: {why}" for why, numbers in reasons.items()]

    def checkpoints_in_use(self) -> set[int]:
        """Numbers of the checkpoints that a running, waiting or given-up trial may still need."""
        return {original_number(frozen) for frozen in self._with_outcome("running", "waiting", "failed")}

    def ended(self) -> list[FrozenTrial]:
        """Return the trials that were trained, and need no more work."""
        return self._with_outcome("complete", "pruned", "collapsed", "diverged", "infeasible")

    def best(self, count: int) -> list[FrozenTrial]:
        """Return the best complete trials, and the default at whatever rank it has."""
        ranked = sorted(self._with_outcome("complete"), key=lambda frozen: (-frozen.values[0], frozen.number))
        return [f for rank, f in enumerate(ranked) if rank < count or f.user_attrs.get("start") == "default"]

    def config_of(self, frozen: FrozenTrial) -> MethodConfig:
        """Return the configuration of an admitted trial."""
        base = self._base_of(frozen)
        return base if "config" in frozen.user_attrs else changed(base, frozen.params)

    def _num_asked(self) -> int:
        """Count the trials so far, each once however often it was tried: a retry does not change the next ask."""
        return sum("retry_of" not in frozen.user_attrs for frozen in self._trials())

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_trials(deepcopy=False)

    def _with_outcome(self, *outcomes: str) -> list[FrozenTrial]:
        trials = self._trials()
        retried = retried_ones(trials)
        limits = self.study.sweep.limits
        return [frozen for frozen in trials if outcome_of(frozen, retried, limits) in outcomes]

    def _config_id(self, config: MethodConfig) -> str:
        return config_id(self.study.plan.name, write_config(config))

    def _base_of(self, trial: optuna.Trial | FrozenTrial) -> MethodConfig:
        """Return the configuration below the searched values: the proposed one, kept with the trial, or the default."""
        settings = self.resolved.plan.settings
        return read_config(type(settings), trial.user_attrs.get("config", write_config(settings)))

    def _params_of(self, config: MethodConfig) -> dict[str, Any]:
        return params_of(self.study, config)

    def _worst(self) -> float:
        known = [frozen.values[0] for frozen in self._with_outcome("complete")]
        return rejected_value(self.study.plan.objective, known)


def counted_plan(study: Study) -> CountedPlan:
    """Return what of a study's plan its status is counted by."""
    return CountedPlan(study.title, study.plan.trials, study.plan.objective, study.sweep.limits, study.confirmation)


def changed(config: MethodConfig, values: Mapping[str, Any]) -> MethodConfig:
    """Return a configuration with other values of some settings."""
    return read_config(type(config), write_config(config) | dict(values))


def params_of(study: Study, config: MethodConfig) -> dict[str, Any]:
    """Return the searched values of a configuration; one outside its range or without effect is no parameter."""
    space, inactive = study.plan.space, inactive_fields(type(config), write_config(config))
    values = {name: getattr(config, name) for name in space if name not in inactive}
    return {name: value for name, value in values.items() if value in space[name]}
