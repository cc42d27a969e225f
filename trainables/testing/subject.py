"""A method under test: its small configuration, tasks of its kind, and how it is built and trained on them."""

import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any, final

import torch
from torch import Tensor

import trainables
from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from trainables.core.method import FollowsBudget, Learner, Method, Task, find_method
from trainables.testing.small import TELLING, small_config
from trainables.testing.tasks import make_task
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.train import Budget, Progress, train

_MAX_EPOCHS_BEFORE = 64
"""Epochs within which the first cycle of a small configuration ends, if it has cycles."""


@final
@dataclass(frozen=True)
class Subject:
    """A method by name, with the sizes of its own that make it small."""

    name: str
    """A method of this package, or `module:ATTRIBUTE`."""

    sizes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def method(self) -> Method[Any]:
        """The method itself, looked up once."""
        return find_method(self.name)

    @property
    def module_name(self) -> str:
        """Name of the module that offers the method."""
        return self.name.partition(":")[0] if ":" in self.name else f"{trainables.__name__}.{self.name}"

    def config(self, **changes: Any) -> MethodConfig:
        """Return the small configuration with changes, of which those of fields that it lacks are left out."""
        return small_config(self.method, self.sizes, **changes)

    def telling_config(self) -> MethodConfig:
        """Return the small configuration in which settings show early; where that is refused, the small one."""
        try:
            return self.config(**{name: value for name, value in TELLING.items() if name not in self.sizes})
        except ConfigError:
            return self.config()

    def task(self, **shape: Any) -> Task:
        """Return a synthetic task of the method's kind; see `make_task`."""
        return make_task(kind=self.method.kind, **shape)

    def build(self, task: Task, config: MethodConfig | None = None, seed: int = 0) -> Learner:
        """Return a learner whose first weights follow from the seed, on the CPU in float32."""
        torch.manual_seed(seed)
        return self.method.build(config or self.config(), task, new_accelerator(precision="no", cpu=True))

    def start(
        self,
        task: Task,
        config: MethodConfig | None = None,
        *,
        epochs: int = 2,
        seed: int = 0,
        precision: str = "no",
        accumulate: int = 1,
        checkpoints: Checkpoints | None = None,
        **options: Any,
    ) -> Generator[Progress]:
        """Return a run on the CPU with a budget of so many epochs, evaluated after each.

        A method with a `scorer` trains all its epochs, whatever the number. Options are those of `train`.
        """
        config = config or self.config()
        if self.method.scorer:
            epochs = self.num_epochs(config, task)
        budget = Budget(
            images=sum(self._epoch_images(config, task, epoch) for epoch in range(epochs)), evaluate_every=1
        )
        accelerator = new_accelerator(precision=precision, cpu=True, accumulate=accumulate)
        return train(self.method, config, task, budget, seed=seed, accelerator=accelerator,
                     checkpoints=checkpoints, **options)  # fmt: skip

    def num_epochs(self, config: MethodConfig, task: Task) -> int:
        """Return the epochs of a method that ends by itself, as those with a `scorer` do."""
        return next(epoch for epoch in count() if self._epoch_images(config, task, epoch) == sys.maxsize)

    def epochs_before(self, config: MethodConfig) -> int:
        """Return the epochs before the one that ends the first cycle of phases; 0 without cycles."""
        epochs = range(_MAX_EPOCHS_BEFORE)
        return next((epoch for epoch in epochs if self.method.cycle_ends(config, epoch + 1)), 0)

    def advance(
        self, learner: Learner, num_epochs: int, config: MethodConfig, task: Task
    ) -> Generator[Mapping[str, float]]:
        """Train epoch by epoch and yield the losses; each is seeded with its number, in a budget of so many."""
        epochs, seen = iter(learner.epochs()), 0
        budget = sum(self._epoch_images(config, task, epoch) for epoch in range(num_epochs))
        for epoch in range(num_epochs):
            torch.manual_seed(epoch)
            if isinstance(learner, FollowsBudget):
                learner.begin_epoch(seen, budget)
            yield next(epochs)
            seen += self._epoch_images(config, task, epoch)

    def _epoch_images(self, config: MethodConfig, task: Task, epoch: int) -> int:
        return self.method.epoch_images(config, len(task.labelled), len(task.unlabelled_NCHW), epoch)


def weights(learner: Learner) -> Tensor:
    """Return every number of the tensors of a learner's state in one vector, in float64."""
    tensors = [each.detach().double().flatten() for each in _tensors(learner.state_dict())]
    return torch.cat(tensors) if tensors else torch.zeros(0)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from _tensors(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
