"""The runs of a trial: one training on each label set and fold."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search_spaces.core.config import short_hash
from trainables.core.conditions import PROTOCOL
from trainables.core.method import Method, Task
from trainables.core.shots import ALL_SHOTS
from trainables.data.draw import draw_few_shot
from trainables.data.splits import num_folds
from trainables.data.tasks import few_shot_task, hidden_labels
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.processes import RemoteProcesses, is_member, train_together
from trainables.training.train import Budget, Progress, train
from trainables.training.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: a configuration on one label set and fold."""

    trial: Trial
    label_set: int
    fold: int

    @cached_property
    def seed(self) -> int:
        """Seed of initialisation and training; equal for all configurations, so that they are paired."""
        text = f"{self.trial.conditions.seed}/{self.label_set}/{self.fold}"
        return int.from_bytes(sha256(text.encode()).digest()[:4], "big")

    @property
    def name(self) -> str:
        """Text that tells it apart from the other runs of its trial."""
        return f"{self.label_set}-{self.fold}"

    def run_id(self, content_hash: str) -> str:
        """Return the hash of everything that determines the result, the data included."""
        identity = self.trial.identity() | {"label_sets": [self.label_set], "fold": self.fold}
        return short_hash(identity | {"protocol": PROTOCOL, "content_hash": content_hash})

    def task(self, root: Path | None) -> Task:
        """Draw the images of this run."""
        return few_shot_task(*self._drawn(root))

    def hidden_labels(self, root: Path | None) -> Tensor | None:
        """Return the labels (M,) of this run's unlabelled images; see `trainables.data.tasks.hidden_labels`."""
        return hidden_labels(*self._drawn(root))

    def _drawn(self, root: Path | None) -> tuple[Any, ...]:
        trial = self.trial
        kind = trial.find_method().kind
        under = trial.conditions
        return trial.dataset, trial.shots, self.label_set, under.validation, root, self.fold, kind, under.folds

    def train(
        self,
        task: Task,
        *,
        method: Method[Any] | None = None,
        checkpoints: Checkpoints | None = None,
        hidden_labels_M: Tensor | None = None,
        remote: RemoteProcesses | None = None,
        keep_weights: bool = False,
    ) -> Generator[Progress]:
        """Train it; see `trainables.training.train.train`. `method`: its own, wrapped by someone who watches.

        In `processes` new processes if there should be several, unless this is one of several already. `remote`:
        other machines that take an equal share of them each.
        """
        trial, under = self.trial, self.trial.conditions
        if under.processes > 1 and not is_member():
            options = {
                "task": task, "method": method, "checkpoints": checkpoints, "hidden_labels_M": hidden_labels_M,
                "keep_weights": keep_weights,
            }  # fmt: skip
            return train_together(self, under.processes, remote, **options)
        torch.set_num_threads(under.threads)
        accelerator = new_accelerator(
            precision=under.precision, cpu=under.device == "cpu", accumulate=under.accumulate, compile=under.compile
        )
        return train(
            method or trial.find_method(),
            trial.config,
            task,
            Budget(under.images, under.evaluate_every),
            seed=self.seed,
            accelerator=accelerator,
            checkpoints=checkpoints,
            selection=under.selection,
            picture_rule=trial.picture_rule,
            decision=under.decision,
            statistics=under.statistics,
            keep_weights=keep_weights,
            hidden_labels_M=hidden_labels_M,
        )


def with_folds(trial: Trial, root: Path | None) -> Trial:
    """Return the trial with no more folds than its labels are enough for; reads the labels."""
    under, kind = trial.conditions, trial.find_method().kind
    if trial.shots != ALL_SHOTS or under.validation != "labelled-cv":
        return trial
    first, *_ = trial.label_sets
    drawn = draw_few_shot(trial.dataset, trial.shots, first, under.validation, root, kind=kind, folds=under.folds)
    return replace(trial, conditions=replace(under, folds=drawn.split.num_folds))


def runs_of_trial(trial: Trial) -> tuple[Run, ...]:
    """Return one run for each label set and fold."""
    under = trial.conditions
    folds = range(num_folds(trial.shots, under.folds) if under.validation == "labelled-cv" else 1)
    return tuple(Run(trial=trial, label_set=s, fold=f) for s in trial.label_sets for f in folds)
