"""What is searched, as typed values: one sweep, many studies (method × dataset × shots)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces.core.config import MethodConfig, read_config, short_hash, write_config
from search_spaces.core.ranges import Space
from trainables.core.method import Validation
from trainables.core.trial import PROTOCOL, Trial


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """What a sweep asks of one method."""

    name: str
    trials: int
    """Configurations to finish in each study, the default and the presets among them."""

    settings: MethodConfig
    """The default of this sweep: what is not searched stays as it is here."""

    space: Space
    starts: Mapping[str, MethodConfig]
    """Configurations proposed before any search, by name: the default and the presets."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that a sweep file says."""

    name: str
    methods: tuple[MethodPlan, ...]
    datasets: tuple[str, ...]
    shots: tuple[int, ...]
    image_size: int = 32
    """Side in pixels at which every method sees the images."""

    validation: Validation = "realistic"
    label_sets: tuple[int, ...] = (0,)
    epochs: int = 30
    evaluate_every: int = 5
    selection: str = "last"
    """Which evaluations a run is scored by: the `last`, or the mean of the last three, `mean3`."""

    objective: str = "balanced_accuracy"
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 0
    precision: str = "no"
    accumulate: int = 1
    """Batches whose gradients are averaged before each step."""

    compile: bool = False
    """Whether networks go through `torch.compile`."""

    cpus_per_trial: int = 1
    gpus_per_trial: float = 0
    workers: int | None = None
    """Trials at the same time; as many as the resources allow when not given."""

    retries: int = 2
    """How often a trial is tried again after an infrastructure failure."""

    def studies(self, content_hashes: Mapping[str, str]) -> tuple["Study", ...]:
        """Every study, given the content hash of every dataset."""
        return tuple(
            Study(sweep=self, plan=plan, dataset=dataset, shots=shots, content_hash=content_hashes[dataset])
            for shots in self.shots
            for dataset in self.datasets
            for plan in self.methods
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """One search: a method on a dataset with a number of shots. Its name is its identity."""

    sweep: Sweep
    plan: MethodPlan
    dataset: str
    shots: int
    content_hash: str

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.plan.name} · {self.dataset} · {self.shots} shots"

    @cached_property
    def name(self) -> str:
        """For the journal: what makes its trials comparable is in the hash; raising `trials` keeps the name."""
        sweep = self.sweep
        identity = {
            "settings": write_config(self.plan.settings),
            "space": {name: repr(range_) for name, range_ in self.plan.space.items()},
            "content_hash": self.content_hash,
            "protocol": PROTOCOL,
            "label_sets": list(sweep.label_sets),
        } | {
            name: getattr(sweep, name)
            for name in (
                "validation",
                "epochs",
                "evaluate_every",
                "selection",
                "objective",
                "seed",
                "precision",
                "accumulate",
                "compile",
                "cpus_per_trial",
            )
        }
        return f"{self.plan.name} {self.dataset} {self.shots}-shot {short_hash(identity)}"

    @property
    def folder(self) -> str:
        """Its name as a folder may be called."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.name)

    def trial(self, base: MethodConfig, params: Mapping[str, Any]) -> Trial:
        """The trial of these searched values on top of a configuration."""
        sweep = self.sweep
        return Trial(
            method=self.plan.name,
            config=read_config(type(base), write_config(base) | dict(params)),
            dataset=self.dataset,
            shots=self.shots,
            validation=sweep.validation,
            label_sets=sweep.label_sets,
            epochs=sweep.epochs,
            evaluate_every=sweep.evaluate_every,
            selection=sweep.selection,
            seed=sweep.seed,
            precision=sweep.precision,
            accumulate=sweep.accumulate,
            compile=sweep.compile,
            threads=sweep.cpus_per_trial,
            device="gpu" if sweep.gpus_per_trial else "cpu",
        )
