"""A search as typed values: one sweep, many studies (method × dataset × shots)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

from search_spaces.core.config import LARGEST, MethodConfig, read_config, short_hash, write_config
from search_spaces.core.ranges import ActivityConditions, Space, conditions_of
from sparse_search.results.rows import CONFIRMATION
from sparse_search.search.choices import (
    PrunerChoice,
    SamplerChoice,
    num_objectives,
    read_pruner,
    read_sampler,
)
from sparse_search.search.even_shares import even_shares
from sparse_search.search.naming import study_folder
from sparse_search.search.pruner import rung_steps
from trainables.core.conditions import CONDITIONS, PROTOCOL, Conditions
from trainables.core.kind import Kind
from trainables.core.method import find_method
from trainables.core.shots import shots_title, shots_word
from trainables.metrics.table import sign_of
from trainables.training.trial import Trial

MIN_STEPS = 20
"""Optimiser steps before which no configuration is compared with another."""

LABEL_SET_SHARES = (1 / 5, 1 / 5, 3 / 5, 1)
"""Share of the label sets that is trained at each rung."""

DEFAULT_SAMPLER = read_sampler("tpe")
DEFAULT_PRUNER = read_pruner("halving")
SWEEP_CONDITIONS = {condition.name: condition for condition in CONDITIONS if condition.is_in_sweep}
"""Conditions that a sweep file may say, by name."""

FRESH_BLOCK = 1000
"""Label sets that one configuration can use when each has its own."""

MAX_EPOCHS = 100_000
"""Epochs among which the end of a first cycle is looked for."""


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """Plan of a sweep for one method."""

    name: str
    trials: int
    """Configurations to finish in each study, the default and the presets among them."""

    settings: MethodConfig
    """The default of this sweep: what is not searched stays as it is here."""

    space: Space
    starts: Mapping[str, MethodConfig]
    """Configurations proposed before any search, by name: the default and the presets."""

    objective: str = "balanced_accuracy"
    """Metric that its studies search for."""

    settings_from: str = ""
    """The method of the sweep whose study, of the same data set and number of shots, comes before this one's: settings
    that are searched there are those of its best configuration here."""

    inherited: Space = field(default_factory=dict)
    """These settings, and the ranges that they may come from."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that a sweep file says."""

    name: str
    methods: tuple[MethodPlan, ...]
    datasets: tuple[str, ...]
    shots: tuple[int, ...]
    image_size: int = 32
    """Side in pixels at which every method sees the images."""

    conditions: Conditions = field(default_factory=Conditions)
    """Budget, validation and the other conditions of its trials, each a key of a sweep file by its own name; `device`
    and `threads` follow from the resources of a trial."""

    label_sets: tuple[int, ...] = (0,)
    """Few-shot draws that a configuration is trained on at the full budget; the best are confirmed on further ones."""

    split_policy: str = "shared"
    """`shared`: every configuration has the same label sets, so that they are paired; `fresh`: each has its own."""

    confirm: int = 4
    """Best configurations of a study that are trained on further label sets at its end, the default beside them."""

    confirm_label_sets: int = 4
    """Number of further label sets."""

    objective: str = "balanced_accuracy"
    """Metric of methods that give each image a class. Segmentation has `dice_fg` where a sweep names none; generators
    have `kid`, or what their own `objective` says."""

    sampler: SamplerChoice = DEFAULT_SAMPLER
    pruner: PrunerChoice = DEFAULT_PRUNER
    nodes_per_trial: int = 1
    """Nodes among which the processes of a trial are divided. It changes no result but by `cpus_per_trial`."""

    cpus_per_trial: int = 1
    """On each of its nodes, as the GPUs and the memory."""

    gpus_per_trial: float = 0
    memory_per_trial: float = 2.0
    """Gigabytes that a trial reserves, so that no node runs out."""

    workers: int | None = None
    """Trials at the same time; as many as the resources allow when not given."""

    retries: int = 2
    """Times that a trial is tried again after an infrastructure failure."""

    max_hours: float | None = None
    """Hours of driving after which the sweep stops, all starts together."""

    max_trials: int | None = None
    """Configurations in all studies together, shared out evenly."""

    max_memory: float | None = None
    """Gigabytes: a configuration whose training needs more is `infeasible`."""

    max_seconds_per_image: float | None = None
    """A configuration that trains slower is `infeasible`."""

    warm_start: tuple[str, ...] = ()
    """Earlier sweeps in the same results folder whose comparable trials the sampler is told."""

    transfer: int = 0
    """Configurations to try first that did well on other data sets and numbers of shots in the same results folder."""

    keep_weights: str = "third"
    """Whose weights are kept of the runs that have ended: of the best `third` of a study, of `all`, or of `none`."""

    keep_weights_gb: float = 5.0
    """Gigabytes that they may take in all; beyond that the worst go first."""

    tracker: tuple[str, ...] = ()
    """Programs for which every run is written as well; they change nothing."""

    def studies(self, facts: Mapping[tuple[str, int], "DatasetFacts"]) -> tuple["Study", ...]:
        """Return every study, given what is known of every dataset and number of shots."""
        studies = [
            Study(sweep=self, plan=plan, dataset=dataset, shots=shots, facts=facts[dataset, shots])
            for shots in self.shots
            for dataset in self.datasets
            for plan in self.methods
        ]
        counts = even_shares([study.plan.trials for study in studies], self.max_trials)
        return tuple(
            replace(study, plan=replace(study.plan, trials=count)) for study, count in zip(studies, counts, strict=True)
        )

    @property
    def kind(self) -> Kind:
        """Kind of what its methods find, all the same."""
        return find_method(self.methods[0].name).kind

    @property
    def further_label_sets(self) -> range:
        """Draws that a confirmation adds."""
        first = max(self.label_sets) + 1
        return range(first, first + self.confirm_label_sets)

    @property
    def limits(self) -> dict[str, float]:
        """Most that a configuration may need, by the name of the measure."""
        memory, seconds = self.max_memory, self.max_seconds_per_image
        limits = {"peak_memory_bytes": memory and memory * 1e9, "seconds_per_image": seconds}
        return {name: limit for name, limit in limits.items() if limit is not None}


class DatasetFacts(NamedTuple):
    """Facts of a dataset's few-shot draws that a plan needs."""

    content_hash: str
    num_labelled: int
    num_unlabelled: int
    folds: int = LARGEST
    """Most parts of the labelled images that may validate in turn, as of the rarest class there are no more."""


class Rung(NamedTuple):
    """A place where a trial is compared with others, and where it may end."""

    step: int
    """Its number for the pruner: the share of the budget, the first rung being 1."""

    images: int
    """Part of the budget of each run."""

    num_label_sets: int


@dataclass(frozen=True, kw_only=True)
class Study:
    """One search: a method on a dataset with a number of shots. Its name is its identity."""

    sweep: Sweep
    plan: MethodPlan
    dataset: str
    shots: int
    facts: DatasetFacts
    confirmation: bool = False
    """True for what follows the search: its best on further label sets."""

    known_as: str = ""
    """Its name in a journal that began it with other limits, or with what only rounds otherwise."""

    @property
    def title(self) -> str:
        """Title for people."""
        title = f"{self.plan.name} · {self.dataset} · {shots_title(self.shots)}"
        return f"{title} · confirmation" if self.confirmation else title

    def as_begun(self, cores: Mapping[str, str]) -> "Study":
        """Return it under the name by which a journal knows it, given the cores of the studies there by their names."""
        same = [name for name, core in cores.items() if core == self.core]
        return self if self.name in cores or not same else replace(self, known_as=same[-1])

    @cached_property
    def name(self) -> str:
        """Name in the journal: what makes its trials comparable is in the hash; raising `trials` keeps the name."""
        name = f"{self._prefix} {short_hash(self._identity)}"
        return self.known_as or (f"{name}{CONFIRMATION}" if self.confirmation else name)

    @property
    def core(self) -> str:
        """Hash that is equal for the same search under other limits, or with what only rounds otherwise."""
        digits = {name: each.default for name, each in SWEEP_CONDITIONS.items() if each.changes == "digits"}
        kept = {name: value for name, value in self._identity.items() if name not in digits}
        source = f"from {self.plan.settings_from}" if self.plan.settings_from else ""
        return short_hash(kept | {"limits": [], "cpus_per_trial": 1, "settings_from": source, "of": self._prefix})

    @property
    def _prefix(self) -> str:
        return f"{self.plan.name} {self.dataset} {shots_word(self.shots)}-shot"

    def is_of_same_setting(self, name: str) -> bool:
        """Tell if a name is that of a search of the same method, data set and number of shots, or its confirmation."""
        is_confirmation = name.endswith(CONFIRMATION)
        return (
            name.removesuffix(CONFIRMATION).rpartition(" ")[0] == self._prefix and is_confirmation == self.confirmation
        )

    @cached_property
    def _identity(self) -> dict[str, Any]:
        sweep = self.sweep
        identity = {
            "settings": write_config(self.plan.settings),
            "space": {name: repr(range_) for name, range_ in self.plan.space.items()},
            "content_hash": self.facts.content_hash,
            "protocol": PROTOCOL,
            "label_sets": list(sweep.label_sets),
            "rungs": [list(rung) for rung in self.rungs],
            "objectives": num_objectives(sweep.sampler),
            "limits": sorted(sweep.limits),
            "objective": self.plan.objective,
            "conditions": {name: [str(when) for when in each] for name, each in self._activity_conditions().items()},
            "cpus_per_trial": sweep.cpus_per_trial * sweep.nodes_per_trial,
            "split_policy": sweep.split_policy,
        }
        identity |= {name: value for name, value in self.conditions.identity().items() if name in SWEEP_CONDITIONS}
        if self.plan.settings_from:
            source = next(plan for plan in self.sweep.methods if plan.name == self.plan.settings_from)
            identity["settings_from"] = replace(self, plan=source, confirmation=False, known_as="").name
        return identity | ({"confirm_label_sets": sweep.confirm_label_sets} if self.confirmation else {})

    @property
    def asked(self) -> dict[str, str]:
        """What makes it another search when it is changed, by the words of a sweep file."""
        named = ("content_hash", "protocol", "label_sets", "objective", "split_policy", "confirm_label_sets")
        words = {name: str(self._identity[name]) for name in (*named, *SWEEP_CONDITIONS) if name in self._identity}
        words |= {"rungs": " → ".join(f"{rung.images} × {rung.num_label_sets}" for rung in self.rungs)}
        words |= {f"settings: {name}": str(value) for name, value in write_config(self.plan.settings).items()}
        return words | {f"search: {name}": str(range_) for name, range_ in self.plan.space.items()}

    @property
    def setting(self) -> tuple[str, str, int]:
        """Values that tell it apart from the other searches of its sweep."""
        return self.plan.name, self.dataset, self.shots

    @property
    def upstream(self) -> tuple[str, str, int]:
        """Setting of the search that it has its settings from."""
        return self.plan.settings_from, self.dataset, self.shots

    @property
    def conditions(self) -> Conditions:
        """Conditions of its trials: those of the sweep, with no more folds than its labels are enough for."""
        under = self.sweep.conditions
        return replace(under, folds=min(under.folds, self.facts.folds))

    @property
    def sign(self) -> int:
        """Its objective times this is better when larger."""
        return sign_of(self.plan.objective)

    @property
    def folder(self) -> str:
        """Its name as a folder may be called."""
        return study_folder(self.name)

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """Steps at which its trials are compared, the last one being the full budget.

        Of several label sets one is trained at 1/27 and 1/9 of the budget, three fifths at 1/3. The first rung lies
        where every configuration of the space can have a score: beyond `MIN_STEPS` optimiser steps, and beyond the
        longest cycle, so that none is judged before its first unsupervised phase has done its work.
        """
        sweep, under = self.sweep, self.sweep.conditions
        end = Rung(1, under.images, len(self.label_sets(0)))
        if self.confirmation or sweep.pruner.name == "none":
            return (end,)
        *lower, full = rung_steps(len(LABEL_SET_SHARES))
        windows = [ceil(under.images * step / full / under.evaluate_every) for step in lower]
        shares = [ceil(share * end.num_label_sets) for share in LABEL_SET_SHARES]
        rungs = dict(zip((window * under.evaluate_every for window in windows), shares, strict=False))
        least = self._first_score()
        kept = [(images, shares) for images, shares in rungs.items() if least <= images < end.images]
        kept.append((end.images, end.num_label_sets))
        return tuple(Rung(step, *rung) for step, rung in zip(rung_steps(len(kept)), kept, strict=True))

    def label_sets(self, number: int) -> tuple[int, ...]:
        """Return the label sets of a trial, by its number; those of a confirmation had no part in choosing it."""
        sweep = self.sweep
        label_sets = tuple(sweep.further_label_sets) if self.confirmation else sweep.label_sets
        first = 0 if sweep.split_policy == "shared" else FRESH_BLOCK * (number + 1)
        return tuple(first + label_set for label_set in label_sets)

    @property
    def label_sets_text(self) -> str:
        """Text that is equal for trials that are ranked together."""
        if self.sweep.split_policy == "fresh":
            return f"{len(self.label_sets(0))} fresh"
        return ", ".join(map(str, sorted(self.label_sets(0))))

    def trial(self, config: MethodConfig, number: int) -> Trial:
        """Return what the trial of that number trains with a configuration."""
        sweep = self.sweep
        return Trial(
            method=self.plan.name,
            config=config,
            dataset=self.dataset,
            shots=self.shots,
            label_sets=self.label_sets(number),
            conditions=replace(
                self.conditions,
                threads=max(1, sweep.cpus_per_trial * sweep.nodes_per_trial // sweep.conditions.processes),
                device="gpu" if sweep.gpus_per_trial else "cpu",
            ),
        )

    def confirming(self) -> "Study":
        """Return what follows this search: its best on further label sets."""
        return replace(self, confirmation=True, known_as="")

    def _activity_conditions(self) -> ActivityConditions:
        conditions = conditions_of(type(self.plan.settings))
        return {name: each for name, each in conditions.items() if name in self.plan.space}

    def _first_score(self) -> int:
        """Count images until a configuration can have a score, for the one of the space where that comes last."""
        latest = self.plan.settings
        images = self._learned_something(latest)
        for name, range_ in {**self.plan.inherited, **self.plan.space}.items():
            for end in range_.ends():
                other = read_config(type(latest), write_config(latest) | {name: end})
                if self._learned_something(other) > images:
                    latest, images = other, self._learned_something(other)
        return images

    def _learned_something(self, config: MethodConfig) -> int:
        """Count images until the end of the first cycle, and of the first `MIN_STEPS` steps."""
        return max(self._first_cycle(config), MIN_STEPS * find_method(self.plan.name).step_images(config))

    def _first_cycle(self, config: MethodConfig) -> int:
        """Count images until the first cycle ends: the whole budget if it does not end within, 0 if there is none."""
        method = find_method(self.plan.name)
        seen = epoch = 0
        sizes: set[int] = set()
        while seen <= self.sweep.conditions.images and epoch < MAX_EPOCHS:
            size = method.epoch_images(config, self.facts.num_labelled, self.facts.num_unlabelled, epoch)
            sizes.add(size)
            seen, epoch = seen + size, epoch + 1
            if method.cycle_ends(config, epoch):
                return seen
        return self.sweep.conditions.images if len(sizes) > 1 else 0
