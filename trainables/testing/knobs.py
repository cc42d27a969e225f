"""Settings that change nothing are found by training beside a baseline until something differs.

What predicts counts: two trainings differ where their predictions on the validation images do. Before what predicts has
learned anything, while generators are made, or where nothing ever predicts, the state of what trains counts instead.

A training that makes a stage which trials share has another state than one that finds it in the cache. So there are two
baselines where there are such stages, one that made them and one that found them, and a training must differ from both
after the same epoch.
"""

from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from search_spaces.core.config import MethodConfig
from search_spaces.core.ranges import Choice, Scalar, space_of
from trainables.core.method import Task
from trainables.data.cache import cache_root
from trainables.testing.small import activating
from trainables.testing.subject import Subject, weights

_SEED = 1
"""Of the trainings that are compared: another one than that of other tests, whose stages would be found."""


@dataclass(frozen=True)
class Mark:
    """State of a training after an epoch."""

    predictions: Tensor
    """Those of all predictors in one vector; of a method that ends by itself empty until then."""

    state: Tensor
    """Every number of the learner's state, as long as the predictions are those of the start; then empty."""


@final
class Trajectory:
    """A training and its marks, trained as far as it is asked for."""

    def __init__(self, subject: Subject, task: Task, config: MethodConfig, num_epochs: int) -> None:
        self._learner, self._images_NCHW = subject.build(task, config, _SEED), task.validation.images_NCHW
        self._predicts_from = subject.num_epochs(config, task) if subject.method.scorer else 0
        self._epochs = subject.advance(self._learner, self._predicts_from or num_epochs, config, task)
        self._marks: list[Mark] = []
        self._marks.append(self._mark())

    def mark(self, epoch: int) -> Mark:
        """Return what the training leaves after so many epochs, or at its end, which may come before."""
        while len(self._marks) <= epoch and next(self._epochs, None) is not None:
            self._marks.append(self._mark())
        return self._marks[min(epoch, len(self._marks) - 1)]

    def close(self) -> None:
        """End the training."""
        self._epochs.close()

    def _mark(self) -> Mark:
        predictions = self._predictions()
        if self._marks and not torch.equal(predictions, self._marks[0].predictions):
            return Mark(predictions, torch.zeros(0))
        return Mark(predictions, weights(self._learner))

    def _predictions(self) -> Tensor:
        if len(self._marks) < self._predicts_from:
            return torch.zeros(0)
        return torch.cat([each.flatten() for each in self._learner.predict(self._images_NCHW).values()])


def other_values(config: MethodConfig, field: str) -> list[Scalar]:
    """Return the ends of a searched field's range, or its options, but for the value that the configuration has."""
    range_ = space_of(type(config))[field]
    options = range_.options if isinstance(range_, Choice) else range_.ends()
    return [value for value in options if value != getattr(config, field)]


@final
class Knobs:
    """A method's searched fields, each compared with a baseline in which it has an effect.

    Args:
        epochs: Within which a field must show, from the end of the first cycle on.
        max_values: Values of a field that are tried.
    """

    def __init__(self, subject: Subject, task: Task, *, epochs: int, max_values: int) -> None:
        self._subject, self._task, self._config = subject, task, subject.telling_config()
        self._max_values, self._epochs = max_values, epochs
        self._baselines: dict[MethodConfig, list[Trajectory]] = {}

    def is_alive(self, field: str) -> bool:
        """Return True if the field changes what is learned at some end of its range."""
        config = activating(self._config, field)
        values = other_values(config, field)[: self._max_values]
        changes: list[dict[str, Any]] = [{field: value} for value in values]
        baselines = self._baselines_of(config)
        return any(self._differs(replace(config, **change), baselines) for change in changes)

    def _differs(self, config: MethodConfig, baselines: list[Trajectory]) -> bool:
        other, num_epochs = self._trajectory(config), self._num_epochs(config, self._epochs)
        try:
            return any(
                all(_differ(epoch, baseline, other) for baseline in baselines) for epoch in range(1, num_epochs + 1)
            )
        finally:
            other.close()

    def _baselines_of(self, config: MethodConfig) -> list[Trajectory]:
        if config not in self._baselines:
            made = [self._trajectory(config)]
            # Stages that trials share are made now: while the baseline is at one, others would wait for it.
            made[0].mark(self._num_epochs(config, 1))
            if any(cache_root().glob("*")):
                made.append(self._trajectory(config))
            self._baselines[config] = made
        return self._baselines[config]

    def _trajectory(self, config: MethodConfig) -> Trajectory:
        return Trajectory(self._subject, self._task, config, self._num_epochs(config, self._epochs))

    def _num_epochs(self, config: MethodConfig, after: int) -> int:
        """Return the epochs before the one that ends the first cycle, and so many; all where a method has its end."""
        if self._subject.method.scorer:
            return self._subject.num_epochs(self._config, self._task)
        return self._subject.epochs_before(config) + after


def _differ(epoch: int, baseline: Trajectory, other: Trajectory) -> bool:
    """Return True if two trainings differ after so many epochs."""
    start, own, others = baseline.mark(0), baseline.mark(epoch), other.mark(epoch)
    if not torch.equal(own.predictions, others.predictions):
        return True
    nothing_learned = torch.equal(own.predictions, start.predictions)
    return nothing_learned and not torch.equal(own.state, others.state)
