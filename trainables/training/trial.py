"""What is trained, written down: a trial (one configuration) and its runs (one label set and fold each).

The same value goes to a cluster worker, into a leaderboard row and into the exported file, and
`python -m trainables --config FILE` trains exactly it again.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from search_spaces.core.config import MethodConfig, read_config, short_hash, write_config
from search_spaces.core.errors import ConfigError, suggestion
from trainables.core.method import Method, Task, Validation, find_method
from trainables.data.splits import num_folds
from trainables.data.tasks import few_shot_task, hidden_labels
from trainables.metrics.pictures import PictureRule
from trainables.metrics.selection import SELECTIONS
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.processes import RemoteProcesses, is_member, train_together
from trainables.training.train import Budget, Progress, train

PROTOCOL = 4
"""Version of everything that makes scores comparable but is no field: splits, seeds, metrics, when to evaluate."""

PRECISIONS = ("no", "bf16")
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: a configuration on one label set and fold."""

    trial: "Trial"
    label_set: int
    fold: int

    @cached_property
    def seed(self) -> int:
        """Seed of initialisation and training; equal for all configurations, so that they are paired."""
        text = f"{self.trial.seed}/{self.label_set}/{self.fold}"
        return int.from_bytes(sha256(text.encode()).digest()[:4], "big")

    @property
    def name(self) -> str:
        """What tells it apart from the other runs of its trial."""
        return f"{self.label_set}-{self.fold}"

    def run_id(self, content_hash: str) -> str:
        """Hash of everything that determines the result, the data included."""
        identity = self.trial.as_dict() | {"label_sets": [self.label_set], "fold": self.fold}
        return short_hash(identity | {"protocol": PROTOCOL, "content_hash": content_hash})

    def task(self, root: Path | None) -> Task:
        """The images of this run."""
        trial = self.trial
        kind = trial.find_method().kind
        return few_shot_task(trial.dataset, trial.shots, self.label_set, trial.validation, root, self.fold, kind)

    def hidden_labels(self, root: Path | None) -> Tensor | None:
        """The labels (M,) of this run's unlabelled images; see `trainables.data.tasks.hidden_labels`."""
        trial = self.trial
        kind = trial.find_method().kind
        return hidden_labels(trial.dataset, trial.shots, self.label_set, trial.validation, root, self.fold, kind)

    def train(
        self,
        task: Task,
        *,
        method: Method[Any] | None = None,
        checkpoints: Checkpoints | None = None,
        hidden_labels_M: Tensor | None = None,
        remote: RemoteProcesses | None = None,
    ) -> Generator[Progress]:
        """Trains it; see `trainables.training.train.train`. `method`: its own, wrapped by someone who watches.

        In `processes` new processes if there should be several, unless this is one of several already. `remote`:
        other machines that take an equal share of them each.
        """
        trial = self.trial
        if trial.processes > 1 and not is_member():
            options = {"task": task, "method": method, "checkpoints": checkpoints, "hidden_labels_M": hidden_labels_M}
            return train_together(self, trial.processes, remote, **options)
        torch.set_num_threads(trial.threads)
        accelerator = new_accelerator(
            precision=trial.precision, cpu=trial.device == "cpu", accumulate=trial.accumulate, compile=trial.compile
        )
        return train(
            method or trial.find_method(),
            trial.config,
            task,
            Budget(trial.images, trial.evaluate_every),
            seed=self.seed,
            accelerator=accelerator,
            checkpoints=checkpoints,
            selection=trial.selection,
            picture_rule=trial.picture_rule,
            hidden_labels_M=hidden_labels_M,
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration of one method on one few-shot problem, trained on one or more label sets."""

    method: str
    config: MethodConfig
    dataset: str
    shots: int
    """Labelled images per class, or in all where the dataset counts them so."""

    validation: Validation = "realistic"
    label_sets: tuple[int, ...] = (0,)
    images: int = 27_000
    """Images to train on in each run, labelled and unlabelled; one that is seen again counts again."""

    evaluate_every: int = 1_000
    """Images between evaluations."""

    selection: str = "last"
    """Rule for the scores it is judged by, one of `SELECTIONS`."""

    aggregate: str = "mean"
    """How a picture's score comes from its patches, one of `AGGREGATES`."""

    threshold: str = "youden"
    """How the score is chosen above which a picture is named class 1, one of `THRESHOLDS`."""

    seed: int = 0
    precision: str = "no"
    """Accelerate's mixed precision: `no` or `bf16`."""

    device: str = "cpu"
    """`cpu` or `gpu`."""

    threads: int = 1
    """CPU threads of each process; part of the identity, as sums in another order differ in their last digits."""

    processes: int = 1
    """Processes that share each batch, on whichever machines; digits differ from those of a single one in rounding."""

    accumulate: int = 1
    """Batches whose gradients are averaged before each step."""

    compile: bool = False
    """Whether networks are compiled where that is possible; digits differ from the uncompiled ones' in rounding."""

    def __post_init__(self) -> None:
        for name in ("shots", "images", "evaluate_every", "threads", "processes", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} is impossible, expected at least 1")
        if not self.label_sets or len(set(self.label_sets)) != len(self.label_sets) or min(self.label_sets) < 0:
            raise ConfigError(f"label_sets: expected different numbers from 0, got {list(self.label_sets)}")
        for name, known in (("precision", PRECISIONS), ("device", DEVICES), ("selection", SELECTIONS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} '{getattr(self, name)}' is unknown{suggestion(getattr(self, name), known)}")
        PictureRule(self.aggregate, self.threshold)  # both known?

    @property
    def picture_rule(self) -> PictureRule:
        """How pictures are judged by their patches."""
        return PictureRule(self.aggregate, self.threshold)

    def find_method(self) -> Method[Any]:
        """The method that trains it."""
        return find_method(self.method)

    def runs(self) -> tuple[Run, ...]:
        """One run for each label set and fold."""
        folds = range(num_folds(self.shots) if self.validation == "labelled-cv" else 1)
        return tuple(Run(trial=self, label_set=s, fold=f) for s in self.label_sets for f in folds)

    @cached_property
    def trial_id(self) -> str:
        """Hash of everything that determines the results."""
        return short_hash(self.as_dict() | {"protocol": PROTOCOL})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; `from_dict` gives back an equal trial."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "config": write_config(self.config),
            "label_sets": list(self.label_sets),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A trial from plain values.

        Raises:
            ConfigError: a key is missing or unknown, or a value has the wrong type or is impossible.
        """
        texts = dict.fromkeys(
            ("method", "dataset", "validation", "selection", "aggregate", "threshold", "precision", "device"), str
        )
        types: dict[str, type] = {**texts, "config": dict, "label_sets": list, "compile": bool}
        known = [field.name for field in fields(cls)]
        if "methods" in values:
            raise ConfigError("this is a sweep, not one trial: give it to `sparse-search run`")
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"a trial has no '{name}'{suggestion(str(name), known)}")
            if type(value) is not types.get(name, int):
                raise ConfigError(f"{name}: expected {types.get(name, int).__name__}, got {value!r}")
        missing = [name for name in ("method", "dataset", "shots") if name not in values]
        if missing:
            raise ConfigError(f"a trial needs: {', '.join(missing)}")
        if not all(type(label_set) is int for label_set in values.get("label_sets", [])):
            raise ConfigError(f"label_sets: expected whole numbers, got {values['label_sets']}")
        config = read_config(find_method(values["method"]).config, values.get("config", {}))
        label_sets = tuple(values.get("label_sets", cls.label_sets))
        return cls(**{**values, "config": config, "label_sets": label_sets})
