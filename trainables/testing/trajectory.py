"""Trainings that are compared: what they predict after each step, and their state before predictions change."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from search_spaces.core.config import MethodConfig
from trainables.core.method import Task
from trainables.testing.subject import Subject, weights

Notice = Callable[[Tensor], None]
"""Takes note of predictions."""


@final
class Trajectory:
    """A training, epoch by epoch, that shows what it predicts on the way."""

    def __init__(self, subject: Subject, task: Task, config: MethodConfig, *, seed: int, num_epochs: int) -> None:
        self._learner, self._images_NCHW = subject.build(task, config, seed), task.validation.images_NCHW
        self._ends_after = subject.num_epochs(config, task) if subject.method.scorer else 0
        self._epochs = subject.advance(self._learner, self._ends_after or num_epochs, config, task)
        self._num_epochs = 0

    def advance(self, look: Notice) -> bool:
        """Train an epoch and return True, or False if it was the last; show predictions after steps of optimisers."""
        with nullcontext() if self._ends_after else _after_each_step(lambda: look(self.predictions())):
            trained = next(self._epochs, None) is not None
        self._num_epochs += trained
        return trained

    def predictions(self) -> Tensor:
        """Those of all predictors in one vector; of a method that ends by itself empty until then."""
        if self._num_epochs < self._ends_after:
            return torch.zeros(0)
        return torch.cat([each.flatten() for each in self._learner.predict(self._images_NCHW).values()])

    def state(self) -> Tensor:
        """Every number of the learner's state."""
        return weights(self._learner)

    def close(self) -> None:
        """End the training."""
        self._epochs.close()


@contextmanager
def _after_each_step(show: Callable[[], None]) -> Generator[None]:
    handle = register_optimizer_step_post_hook(lambda *_: show())
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Mark:
    """What a training leaves after an epoch."""

    predictions: Tensor
    state: Tensor
    """The state as long as the predictions are those of the start; then empty."""


@final
class Baseline:
    """A training that others are compared with, trained as far as it is asked for."""

    def __init__(self, training: Trajectory) -> None:
        self._trajectory = training
        self._start = training.predictions()
        self._predicted = {_bytes(self._start)}
        self._marks = [Mark(self._start, training.state())]

    def mark(self, epoch: int) -> Mark:
        """Return what the training leaves after so many epochs, or at its end, which may come before."""
        while len(self._marks) <= epoch and self._trajectory.advance(self._note):
            self._marks.append(self._mark())
        return self._marks[min(epoch, len(self._marks) - 1)]

    def has_predicted(self, predictions: Tensor) -> bool:
        """Return True if the training predicted just this so far, at its start or after some step."""
        return _bytes(predictions) in self._predicted

    def is_left_by(self, other: Trajectory, epoch: int) -> bool:
        """Return True if another training differs from this one after so many epochs of both."""
        own, predictions = self.mark(epoch), other.predictions()
        if not torch.equal(own.predictions, predictions):
            return True
        return torch.equal(own.predictions, self._start) and not torch.equal(own.state, other.state())

    def _note(self, predictions: Tensor) -> None:
        self._predicted.add(_bytes(predictions))

    def _mark(self) -> Mark:
        predictions = self._trajectory.predictions()
        learned = not torch.equal(predictions, self._start)
        return Mark(predictions, torch.zeros(0) if learned else self._trajectory.state())


def leaves(other: Trajectory, baselines: Sequence[Baseline], epoch: int) -> bool:
    """Train the epoch of that number, from 1, and return True if it differs from all baselines.

    It ends within the epoch when it predicts what no baseline has after any step: a step more or less is no difference.
    """
    for baseline in baselines:
        baseline.mark(epoch)

    def look(predictions: Tensor) -> None:
        if not any(baseline.has_predicted(predictions) for baseline in baselines):
            raise _LeftError

    try:
        other.advance(look)
    except _LeftError:
        return True
    return all(baseline.is_left_by(other, epoch) for baseline in baselines)


class _LeftError(Exception):
    """Ends an epoch of which nothing more needs to be known."""


def _bytes(predictions: Tensor) -> bytes:
    return predictions.detach().cpu().numpy().tobytes()
