"""Journal of a search, its one truth: studies in Optuna's journal, with states that mean what they say.

    RUNNING    being trained, or was when the driver died: adopted again at the next start
    COMPLETE   trained on every label set at full budget, perhaps beyond a limit (attribute `outcome`: `infeasible`);
               diverged or collapsed, with the worst value, so that the sampler learns (among pruned trials it would
               take the longest for the best); or told by an earlier sweep (`earlier`), for the sampler only
    PRUNED     stopped early
    FAIL       the infrastructure failed, or a repeat of known values: never a score
    WAITING    enqueued: the default, the presets, and retries (attribute `retry_of`)

A failed trial without a retry has been given up; `retry_given_up` tries it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from statistics import fmean
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.ranges import conditions_of, inactive_fields
from sparse_search.distributions import distribution_of, suggest, suggest_active
from sparse_search.results.rows import config_id
from sparse_search.search.choices import (
    SamplerChoice,
    new_pruner,
    new_sampler,
    num_objectives,
    num_startup,
    read_sampler,
)
from sparse_search.search.journal_file import Journal
from sparse_search.search.outcomes import (
    COUNTED,
    NO_RESULT,
    Result,
    StudyStatus,
    best_of,
    original_number,
    outcome_of,
    rejected_value,
    retried_ones,
    seconds_of,
)
from sparse_search.search.sweep import Study
from sparse_search.search.transactions import Transactional, cached_until_write, transaction
from trainables.training.trial import Trial

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
"""Directions of the objective and, where they count, of the seconds of training."""

WORST_SECONDS = 1e9
"""Second objective of a rejected trial, where seconds count."""

REPEATS_OF_MODEL = 5
"""Known values in a row after which a trial is drawn at random: a model may insist on its best guess."""

MAX_REPEATS = 50
"""Known values in a row after which a space counts as exhausted."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Earlier:
    """Trial of an earlier sweep that was trained under the same conditions."""

    sweep: str
    config: MethodConfig
    values: tuple[float, ...]


class StudyJournal(Transactional):
    """Journal of one study: its plan, its trials and their states, and the next trial."""

    def __init__(self, study: Study, storage: Journal, *, look_only: bool = False) -> None:
        super().__init__(storage, look_only=look_only)
        self.study = study
        self.shares: dict[int, float] = {}
        """Share of its full budget that each running trial has had, by number, as far as this driver knows."""

        if look_only:
            self._optuna = optuna.load_study(study_name=study.name, storage=storage)
            return
        sampler = self._new_sampler(study.sweep.sampler, 0)  # a dead driver's trial may end before one is asked for
        self._optuna = optuna.create_study(
            study_name=study.name,
            storage=storage,
            sampler=sampler,
            directions=DIRECTIONS[: num_objectives(study.sweep.sampler)],
            pruner=new_pruner(study.sweep.pruner, num_rungs=len(study.rungs)),
            load_if_exists=True,
        )

    @transaction
    def propose_starts(self) -> None:
        """Enqueue the default and the presets, once in the life of the study."""
        known = {frozen.user_attrs.get("start") for frozen in self._trials()}
        for start, config in self.study.plan.starts.items():
            if start not in known:
                self._propose(_changed(config, self._inherited), {"start": start})

    @property
    def is_blocked(self) -> bool:
        """True while it waits for settings that it inherits from another study."""
        is_search = self.study.plan.settings_from and not self.study.confirmation
        return bool(is_search) and "taken" not in self._optuna.user_attrs

    @transaction
    def take_settings(self, source: "StudyJournal") -> dict[str, Any]:
        """Inherit the settings of the best configuration of a search that is over, once in the life of the study.

        They are empty where nothing was complete: then its own stay.
        """
        best = source.best(1)
        values = write_config(source.config_of(best[0])) if best else {}
        own = write_config(self.study.plan.settings)
        inherited = {name: value for name, value in values.items() if name in own}
        self._optuna.set_user_attr("taken", inherited)
        return inherited

    @property
    def resolved(self) -> Study:
        """Study with the settings that it inherited."""
        plan, inherited = self.study.plan, self._inherited
        if not inherited:
            return self.study
        return replace(self.study, plan=replace(plan, settings=_changed(plan.settings, inherited)))

    @property
    def _inherited(self) -> dict[str, Any]:
        inherited: dict[str, Any] = self._optuna.user_attrs.get("taken", {}) if self.study.plan.settings_from else {}
        return inherited

    @property
    def has_transferred(self) -> bool:
        """True once configurations that did well on other data have been enqueued."""
        return "from_elsewhere" in self._optuna.user_attrs

    @transaction
    def propose_from_elsewhere(self, configs: Sequence[MethodConfig]) -> int:
        """Enqueue configurations behind the default and presets as far as the plan has room; return their number."""
        room = max(0, self.study.plan.trials - len(self._trials()))
        for config in configs[:room]:  # proposed twice after a kill, the second is a repeat
            self._propose(config, {})
        self._optuna.set_user_attr("from_elsewhere", min(room, len(configs)))
        return min(room, len(configs))

    @transaction
    def propose_best_of(self, search: "StudyJournal") -> None:
        """Enqueue, for a confirmation, the best configurations of a search that is over, and its default."""
        proposed = {frozen.user_attrs.get("confirms") for frozen in self._trials()}
        for frozen in search.best(self.study.sweep.confirm):
            if frozen.number not in proposed:
                about = {"start": frozen.user_attrs.get("start", ""), "confirms": frozen.number}
                self._propose(search.config_of(frozen), about | {"original": original_number(frozen)})

    @transaction
    def tell_earlier(self, trials: Sequence[Earlier]) -> int:
        """Add comparable trials of earlier sweeps for the sampler to learn from; return the number of new ones."""
        known = {frozen.user_attrs.get("config_id") for frozen in self._trials()}
        new = [earlier for earlier in trials if self._config_id(earlier.config) not in known]
        limits = self.study.sweep.limits
        for earlier in new:
            params = self._params_of(earlier.config)
            self._optuna.add_trial(
                optuna.trial.create_trial(
                    values=earlier.values,
                    params=params,
                    distributions={name: distribution_of(self.study.plan.space[name]) for name in params},
                    system_attrs={"constraints": [0.0] * len(limits)} if limits else None,
                    user_attrs={
                        "outcome": "earlier",
                        "config_id": self._config_id(earlier.config),
                        "sweep": earlier.sweep,
                    },
                )
            )
        return len(new)

    @cached_until_write
    def status(self) -> StudyStatus:
        """Count the trials by outcome, and find the best value."""
        trials = self._trials()
        retried = retried_ones(trials)
        outcomes = [outcome_of(frozen, retried) for frozen in trials]
        done = {name: outcomes.count(name) for name in COUNTED}
        planned = self._num_planned(sum(done.values()) + outcomes.count("waiting"))
        best = best_of([frozen for frozen, outcome in zip(trials, outcomes, strict=True) if outcome == "complete"])
        seconds = [s for frozen in trials if (s := seconds_of(frozen)) is not None]
        return StudyStatus(
            self.study.title,
            planned,
            **done,
            objective=self.study.plan.objective,
            best=self.study.sign * best.values[0] if best else None,
            interval=best.user_attrs.get("interval") if best else None,
            seconds=fmean(seconds) if seconds else None,
        )

    def _num_planned(self, known: int) -> int:
        if self.study.confirmation:
            return known
        planned = self.study.plan.trials
        return min(planned, known) if "exhausted" in self._optuna.user_attrs else planned

    @transaction
    def running(self) -> list[tuple[optuna.Trial, Trial]]:
        """Return the trials that a driver left behind, each with what it trains."""
        left = [frozen._trial_id for frozen in self._trials() if frozen.state == TrialState.RUNNING]
        trials = [optuna.Trial(self._optuna, trial_id) for trial_id in left]
        return [(trial, planned) for trial in trials if (planned := self._admit(trial))]

    @transaction
    def ask(self) -> tuple[optuna.Trial, Trial] | None:
        """Return the next trial and what it trains; None when the space has nothing new."""
        for repeats in range(MAX_REPEATS):
            choice = self.study.sweep.sampler if repeats < REPEATS_OF_MODEL else read_sampler("random")
            self._optuna.sampler = self._new_sampler(choice, self._num_asked())
            trial = self._optuna.ask()
            planned = self._admit(trial)
            if planned:
                return trial, planned
        self._optuna.set_user_attr("exhausted", True)
        return None

    @cached_until_write
    def awaits_start(self) -> bool:
        """Return True while all its random start-up trials are in training: another one would be as blind."""
        searched = [frozen.state for frozen in self._trials() if "start" not in frozen.user_attrs]
        finished = len(searched) - searched.count(TrialState.RUNNING)
        return finished < num_startup(self.study.sweep.sampler, self.study.plan.trials) <= len(searched)

    def report(self, trial: optuna.Trial, step: int, value: float) -> bool:
        """Note an intermediate value; return True to stop here. Default and presets always run to the end."""
        if num_objectives(self.study.sweep.sampler) > 1:
            return False
        if step not in self._trials()[trial.number].intermediate_values:
            trial.report(value, step)
        return "start" not in trial.user_attrs and trial.should_prune()

    @transaction
    def complete(self, trial: optuna.Trial, value: float, result: Result = NO_RESULT, *, infeasible: str = "") -> None:
        """Close a trial at its full budget, perhaps beyond a limit: `infeasible` says which."""
        for name, measured in result.measures.items():
            trial.set_user_attr(name, measured)
        if result.interval:
            trial.set_user_attr("interval", list(result.interval))
        if infeasible:
            trial.set_user_attr("outcome", "infeasible")
            trial.set_user_attr("reason", infeasible)
        self._tell_values(trial, value, result.measures.get("train_seconds", 0.0))

    def beyond_limits(self, measures: Mapping[str, float]) -> str:
        """Name the limits of the sweep that a trial exceeds, with numbers; empty when it keeps them all."""
        limits = self.study.sweep.limits
        beyond = [name for name, limit in limits.items() if measures.get(name, 0) > limit]
        return "; ".join(f"{name} {measures[name]:.4g}, at most {limits[name]:.4g} allowed" for name in beyond)

    @transaction
    def prune(self, trial: optuna.Trial) -> None:
        """Close a trial that was stopped early."""
        self._optuna.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    @transaction
    def reject(self, trial: optuna.Trial, outcome: str, reason: str) -> None:
        """Close a trial that diverged or collapsed: it gets the worst value, from which the sampler learns."""
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("reason", reason)
        self._tell_values(trial, self._worst(), WORST_SECONDS)

    @transaction
    def fail(self, trial: optuna.Trial, reason: str, *, retry: bool) -> None:
        """Close a trial that failed through no fault of its values; they are tried again while retries are left."""
        attempt = trial.user_attrs.get("attempt", 0)
        trial.set_user_attr("reason", reason)
        if retry and attempt < self.study.sweep.retries:
            self._try_again(self._trials()[trial.number], attempt + 1)  # before the tell: a kill in between repeats it
        self._optuna.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    @transaction
    def retry_given_up(self) -> None:
        """Enqueue once more every trial that was given up."""
        for frozen in self._with_outcome("failed"):
            self._try_again(frozen, 0)

    def failures(self) -> list[str]:
        """Reasons for which trials were given up, a line for each different one; tracebacks are in the records."""
        reasons: dict[str, list[int]] = {}
        for frozen in self._with_outcome("failed"):
            last_line = frozen.user_attrs["reason"].strip().splitlines()[-1]
            reasons.setdefault(last_line, []).append(frozen.number)
        return [f"{self.study.title}, trial {', '.join(map(str, numbers))}: {why}" for why, numbers in reasons.items()]

    def checkpoints_in_use(self) -> set[int]:
        """Numbers of the checkpoints that a running, waiting or given-up trial may still need."""
        return {original_number(frozen) for frozen in self._with_outcome("running", "waiting", "failed")}

    def best(self, count: int) -> list[FrozenTrial]:
        """Return the best complete trials, and the default at whatever rank it has."""
        ranked = sorted(self._with_outcome("complete"), key=lambda frozen: (-frozen.values[0], frozen.number))
        return [f for rank, f in enumerate(ranked) if rank < count or f.user_attrs.get("start") == "default"]

    def config_of(self, frozen: FrozenTrial) -> MethodConfig:
        """Return the configuration of an admitted trial."""
        base = self._base_of(frozen)
        return base if "config" in frozen.user_attrs else _changed(base, frozen.params)

    def _num_asked(self) -> int:
        """Count the trials so far, each once however often it was tried: a retry does not change the next ask."""
        return sum("retry_of" not in frozen.user_attrs for frozen in self._trials())

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_trials(deepcopy=False)

    def _with_outcome(self, *outcomes: str) -> list[FrozenTrial]:
        trials = self._trials()
        retried = retried_ones(trials)
        return [frozen for frozen in trials if outcome_of(frozen, retried) in outcomes]

    def _new_sampler(self, choice: SamplerChoice, num_known: int) -> BaseSampler:
        """Make the sampler of the next trial, seeded by the trials known: a restarted driver asks the same."""
        study = self.study
        seed = int.from_bytes(sha256(f"{study.sweep.conditions.seed}/{study.name}".encode()).digest()[:4], "big")
        constraints = self._violations if study.sweep.limits else None
        planned = study.plan.trials
        return new_sampler(choice, seed=seed, num_known=num_known, num_planned=planned, constraints=constraints)

    def _violations(self, frozen: FrozenTrial) -> list[float]:
        """Excess over each limit, as a factor less 1; a trial that ended early was not seen to exceed any."""
        limits = self.study.sweep.limits
        return [frozen.user_attrs.get(name, limit) / limit - 1 for name, limit in limits.items()]

    def _worst(self) -> float:
        known = [frozen.values[0] for frozen in self._with_outcome("complete")]
        return rejected_value(self.study.plan.objective, known)

    def _tell_values(self, trial: optuna.Trial, value: float, seconds: float) -> None:
        values = [value, seconds][: num_objectives(self.study.sweep.sampler)]
        self._optuna.tell(trial, values, skip_if_finished=True)

    def _propose(self, config: MethodConfig, about: Mapping[str, Any]) -> None:
        self._optuna.enqueue_trial(self._params_of(config), user_attrs={**about, "config": write_config(config)})

    def _try_again(self, frozen: FrozenTrial, attempt: int) -> None:
        names = ("start", "config", "confirms")
        kept = {name: frozen.user_attrs[name] for name in names if name in frozen.user_attrs}
        attributes = kept | {"retry_of": frozen.number, "attempt": attempt, "original": original_number(frozen)}
        self._optuna.enqueue_trial(frozen.params, user_attrs=attributes)

    def _admit(self, trial: optuna.Trial) -> Trial | None:
        """Return what the trial trains; close it and return None when another one has this configuration already."""
        config, space = self._base_of(trial), self.study.plan.space
        if "config" in trial.user_attrs:
            for name in self._params_of(config):
                suggest(trial, name, space[name])
        else:
            conditions = conditions_of(type(config))
            config = _changed(config, suggest_active(trial, space, write_config(config), conditions))
        if self._config_id(config) in self._known_beside(trial.number):
            trial.set_user_attr("outcome", "repeat")
            self._optuna.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("config_id", self._config_id(config))
        return self.study.trial(config, original_number(trial))

    def _known_beside(self, number: int) -> set[str]:
        others = (frozen for frozen in self._trials() if frozen.number != number and frozen.state != TrialState.FAIL)
        return {frozen.user_attrs["config_id"] for frozen in others if "config_id" in frozen.user_attrs}

    def _config_id(self, config: MethodConfig) -> str:
        return config_id(self.study.plan.name, write_config(config))

    def _base_of(self, trial: optuna.Trial | FrozenTrial) -> MethodConfig:
        """Return the configuration below the searched values: the proposed one, kept with the trial, or the default."""
        settings = self.resolved.plan.settings
        return read_config(type(settings), trial.user_attrs.get("config", write_config(settings)))

    def _params_of(self, config: MethodConfig) -> dict[str, Any]:
        """Return the searched values of a configuration; one outside its range or without effect is no parameter."""
        space, inactive = self.study.plan.space, inactive_fields(type(config), write_config(config))
        values = {name: getattr(config, name) for name in space if name not in inactive}
        return {name: value for name, value in values.items() if value in space[name]}


def _changed(config: MethodConfig, values: Mapping[str, Any]) -> MethodConfig:
    return read_config(type(config), write_config(config) | dict(values))
