"""Journal of a search, its one truth: studies in Optuna's journal, with states that mean what they say.

    RUNNING    being trained, or was when the driver died: adopted again at the next start
    COMPLETE   trained on every label set at full budget, perhaps beyond a limit (attribute `outcome`: `infeasible`);
               diverged or collapsed, with the worst value and, for samplers, a violated constraint, which they sort
               last; or told by an earlier sweep (`earlier`), for the sampler only
    PRUNED     stopped early
    FAIL       the infrastructure failed, or a repeat of known values: never a score
    WAITING    enqueued: the default, the presets, and retries (attribute `retry_of`)

A failed trial without a retry has been given up; `retry_given_up` tries it again.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from math import isfinite
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.config import MethodConfig, write_config
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import conditions_of
from sparse_search.distributions import distribution_of, suggest, suggest_active
from sparse_search.search.choices import (
    SamplerChoice,
    new_pruner,
    new_sampler,
    num_objectives,
    read_sampler,
)
from sparse_search.search.finite import first_unknown
from sparse_search.search.journal_file import Journal
from sparse_search.search.judged import violations
from sparse_search.search.outcomes import (
    NO_RESULT,
    WORST_SECONDS,
    Result,
    original_number,
    retried_ones,
)
from sparse_search.search.study_view import StudyView, changed
from sparse_search.search.sweep import Study
from sparse_search.search.transactions import transaction
from trainables.training.trial import Trial

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
"""Directions of the objective and, where they count, of the seconds of training."""

REPEATS_OF_MODEL = 5
"""Known values in a row after which a trial is drawn at random: a model may insist on its best guess."""

MAX_REPEATS = 50
"""Known values in a row after which a space counts as exhausted."""


@dataclass(frozen=True)
class Earlier:
    """Trial of an earlier sweep that was trained under the same conditions."""

    sweep: str
    config: MethodConfig
    values: tuple[float, ...]


class StudyJournal(StudyView):
    """Journal of one study: its plan, its trials and their states, and the next trial."""

    def __init__(self, study: Study, storage: Journal, *, look_only: bool = False) -> None:
        if look_only:
            opened = optuna.load_study(study_name=study.name, storage=storage)
        else:
            sampler = _new_sampler(study, study.sweep.sampler, 0)  # a dead driver's trial may end before one is asked
            opened = optuna.create_study(
                study_name=study.name,
                storage=storage,
                sampler=sampler,
                directions=DIRECTIONS[: num_objectives(study.sweep.sampler)],
                pruner=new_pruner(study.sweep.pruner, num_rungs=len(study.rungs)),
                load_if_exists=True,
            )
        super().__init__(study, storage, opened, look_only=look_only)
        if not look_only and "asked" not in opened.user_attrs:
            with storage.step():
                opened.set_user_attr("core", study.core)
                opened.set_user_attr("asked", study.asked)

    @transaction
    def restore(self, trials: Sequence[FrozenTrial], attributes: Mapping[str, Any]) -> None:
        """Fill an empty journal with trials that were known before, each under its old number."""
        for name, value in attributes.items():
            self._optuna.set_user_attr(name, value)
        for frozen in trials:
            self._optuna.add_trial(frozen)

    @transaction
    def propose_starts(self) -> None:
        """Enqueue the default and the presets, once in the life of the study."""
        known = {frozen.user_attrs.get("start") for frozen in self._trials()}
        for start, config in self.study.plan.starts.items():
            if start not in known:
                self._propose(changed(config, self._inherited), {"start": start})

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
        for earlier in new:
            params = self._params_of(earlier.config)
            self._optuna.add_trial(
                optuna.trial.create_trial(
                    values=earlier.values,
                    params=params,
                    distributions={name: distribution_of(self.study.plan.space[name]) for name in params},
                    user_attrs={
                        "outcome": "earlier",
                        "config_id": self._config_id(earlier.config),
                        "sweep": earlier.sweep,
                    },
                )
            )
        return len(new)

    @transaction
    def propose_earlier(self, trials: Sequence[Earlier]) -> int:
        """Enqueue the best of earlier sweeps as far as the plan has room, once in the life of the study."""
        if "from_earlier" in self._optuna.user_attrs:
            return 0
        own = [f for f in self._trials() if f.user_attrs.get("outcome") != "earlier"]
        known = {frozen.user_attrs.get("config_id") for frozen in own}
        known |= {self._config_id(self.config_of(frozen)) for frozen in own if "config" in frozen.user_attrs}
        best = sorted(trials, key=lambda earlier: -earlier.values[0])
        new = [earlier for earlier in best if self._config_id(earlier.config) not in known]
        room = max(0, self.study.plan.trials - len(own))
        proposed = new[: min(room, max(1, self.study.sweep.confirm))]
        for earlier in proposed:
            self._propose(earlier.config, {"from_sweep": earlier.sweep})
        self._optuna.set_user_attr("from_earlier", len(proposed))
        return len(proposed)

    @transaction
    def running(self) -> list[tuple[optuna.Trial, Trial]]:
        """Return the trials that a driver left behind, each with what it trains."""
        left = [frozen for frozen in self._trials() if frozen.state == TrialState.RUNNING]
        retried = retried_ones(self._trials())
        trials = [optuna.Trial(self._optuna, frozen._trial_id) for frozen in left]
        for trial in trials:
            if trial.number in retried:  # killed before it was told as failed
                self._optuna.tell(trial, state=TrialState.FAIL)
        return [(each, planned) for each in trials if each.number not in retried and (planned := self._admit(each))]

    @transaction
    def ask(self) -> tuple[optuna.Trial, Trial] | None:
        """Return the next trial and what it trains; None when there is nothing new. A confirmation searches nothing."""
        for repeats in range(MAX_REPEATS):
            if self.study.confirmation and not self._with_outcome("waiting"):
                return None
            choice = self.study.sweep.sampler if repeats < REPEATS_OF_MODEL else read_sampler("random")
            self._optuna.sampler = _new_sampler(self.study, choice, self._num_asked())
            trial = self._optuna.ask()
            planned = self._admit(trial)
            if planned:
                return trial, planned
        return self._ask_rest()

    def _ask_rest(self) -> tuple[optuna.Trial, Trial] | None:
        """Return a trial of what is left of a finite space; None where nothing is, which the study remembers."""
        known = {frozen.user_attrs.get("config_id") for frozen in self._trials() if frozen.state != TrialState.FAIL}
        base, space = self.resolved.plan.settings, self.study.plan.space
        rest = first_unknown(base, space, lambda config: self._config_id(config) in known)
        if rest is not None:
            self._propose(rest, {})
            trial = self._optuna.ask()
            if planned := self._admit(trial):
                return trial, planned
        self._optuna.set_user_attr("exhausted", True)
        return None

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
        if not isfinite(value):
            self.reject(trial, "diverged", f"its score is {value}")
            return
        for name, measured in result.measures.items():
            trial.set_user_attr(name, measured)
        if result.interval:
            trial.set_user_attr("interval", list(result.interval))
        if infeasible:
            trial.set_user_attr("outcome", "infeasible")
            trial.set_user_attr("reason", infeasible)
        self._tell_values(trial, value, result.measures.get("train_seconds", 0.0))

    @transaction
    def prune(self, trial: optuna.Trial) -> None:
        """Close a trial that was stopped early."""
        self._optuna.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    @transaction
    def reject(self, trial: optuna.Trial, outcome: str, reason: str) -> None:
        """Close a trial that diverged or collapsed: with the worst value, which no sampler takes for a score."""
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
    def try_left_again(self) -> None:
        """Enqueue once more what was in training when an edit left this study, now that it is asked for again."""
        again = {frozen.user_attrs.get("again") for frozen in self._trials()}
        for frozen in self._with_outcome("left"):
            if frozen.number not in again:
                self._try_again(frozen, 0, {"again": frozen.number})

    @transaction
    def retry_given_up(self) -> None:
        """Enqueue once more every trial that was given up."""
        for frozen in self._with_outcome("failed"):
            self._try_again(frozen, 0)

    def _tell_values(self, trial: optuna.Trial, value: float, seconds: float) -> None:
        values = [value, seconds][: num_objectives(self.study.sweep.sampler)]
        self._optuna.tell(trial, values, skip_if_finished=True)

    def _propose(self, config: MethodConfig, about: Mapping[str, Any]) -> None:
        self._optuna.enqueue_trial(self._params_of(config), user_attrs={**about, "config": write_config(config)})

    def _try_again(self, frozen: FrozenTrial, attempt: int, about: Mapping[str, Any] | None = None) -> None:
        names = ("start", "config", "confirms")
        kept = {name: frozen.user_attrs[name] for name in names if name in frozen.user_attrs}
        attributes = kept | {"retry_of": frozen.number, "attempt": attempt, "original": original_number(frozen)}
        self._optuna.enqueue_trial(frozen.params, user_attrs=attributes | dict(about or {}))

    def _admit(self, trial: optuna.Trial) -> Trial | None:
        """Return what the trial trains; close it and return None when another one has this configuration already."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Fixed parameter", UserWarning)  # what is impossible is found here
                config = self._suggested(trial)
        except (ValueError, ConfigError) as problem:  # enqueued by somebody else
            self._refuse(trial, "impossible", str(problem))
            return None
        if self._config_id(config) in self._known_beside(trial):
            self._refuse(trial, "repeat", "")
            return None
        trial.set_user_attr("config_id", self._config_id(config))
        return self.study.trial(config, original_number(trial))

    def _suggested(self, trial: optuna.Trial) -> MethodConfig:
        config, space = self._base_of(trial), self.study.plan.space
        if "config" not in trial.user_attrs:
            conditions = conditions_of(type(config))
            return changed(config, suggest_active(trial, space, write_config(config), conditions))
        for name in self._params_of(config):
            suggest(trial, name, space[name])
        return config

    def _refuse(self, trial: optuna.Trial, outcome: str, reason: str) -> None:
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("reason", reason)
        self._optuna.tell(trial, state=TrialState.FAIL)

    def _known_beside(self, trial: optuna.Trial) -> set[str]:
        """Return the configurations that need not be trained beside a trial.

        What an earlier sweep told is for the sampler: it keeps nothing that is proposed out of the plan.
        """
        is_proposed = "config" in trial.user_attrs
        others = (frozen for frozen in self._trials() if frozen.number != trial.number)
        return {
            frozen.user_attrs["config_id"]
            for frozen in others
            if frozen.state != TrialState.FAIL
            and "config_id" in frozen.user_attrs
            and not (is_proposed and frozen.user_attrs.get("outcome") == "earlier")
        }


def cores_of(storage: Journal) -> dict[str, str]:
    """Return the hash of what each study in a journal searches, by its name; empty for one of an earlier version."""
    return {known.study_name: str(known.user_attrs.get("core", "")) for known in storage.get_all_studies()}


def _new_sampler(study: Study, choice: SamplerChoice, num_known: int) -> BaseSampler:
    """Make the sampler of the next trial, seeded by the trials known: a restarted driver asks the same."""
    seed = int.from_bytes(sha256(f"{study.sweep.conditions.seed}/{study.name}".encode()).digest()[:4], "big")
    limits = study.sweep.limits
    constraints = partial(violations, limits=limits) if limits else None
    planned = study.plan.trials
    return new_sampler(choice, seed=seed, num_known=num_known, num_planned=planned, constraints=constraints)
