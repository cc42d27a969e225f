"""The one driver: seeds, epochs, evaluation, checkpoints, timing; the same for every method."""

import gc
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import set_seed

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from trainables.core.checkpoint import Checkpoints
from trainables.core.evaluate import Scores, score
from trainables.core.method import Labelled, Learner, Method, Task


class DivergedError(Exception):
    """Training went where no score exists: an outcome with a reason, not a failure of the machine."""


@dataclass(frozen=True)
class Budget:
    """How long to train and when to look."""

    epochs: int
    evaluate_every: int
    """Epochs between evaluations; the last epoch is always evaluated."""

    def is_due(self, epoch: int) -> bool:
        """Whether to evaluate after so many epochs."""
        return epoch == self.epochs or epoch % self.evaluate_every == 0


@dataclass(frozen=True)
class Progress:
    """Where a run stands after an epoch."""

    epoch: int
    """Epochs done."""

    losses: Mapping[str, float]
    """Mean losses of this epoch, by name."""

    scores: Mapping[str, Scores]
    """Validation scores by predictor; empty between evaluations."""

    train_seconds: float
    """Time spent in training so far, evaluation and checkpoints not counted."""

    replayed: bool = False
    """Whether this is read from a checkpoint rather than trained now."""


def train(
    method: Method[Any],
    config: MethodConfig,
    task: Task,
    budget: Budget,
    *,
    seed: int,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None = None,
) -> Iterator[Progress]:
    """Trains a method on a task and yields after every epoch, with scores where an evaluation is due.

    With `checkpoints` the state is saved after every evaluation before it is yielded, and a run that finds one
    first yields the evaluations it already has (`replayed`), then goes on: the same numbers, bit for bit on CPU,
    as without the interruption. Closing the iterator stops training.

    Raises:
        ConfigError: the method does not do this kind of task.
        DivergedError: a loss or a prediction is not finite.
    """
    if task.kind not in method.tasks:
        raise ConfigError(f"this method does {' and '.join(method.tasks)}, but {task.dataset} is {task.kind}")
    seed_everything(seed, 0)
    try:
        yield from _train(method.build(config, task, accelerator), task, budget, seed, accelerator, checkpoints)
    finally:  # one process serves many runs: Accelerate holds networks and optimisers, and learners hold themselves
        accelerator.free_memory()
        gc.collect()


def _train(
    learner: Learner,
    task: Task,
    budget: Budget,
    seed: int,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None,
) -> Iterator[Progress]:
    history = _resume(learner, checkpoints, accelerator)
    yield from history
    epoch, seconds = (history[-1].epoch, history[-1].train_seconds) if history else (0, 0.0)
    epochs = iter(learner.epochs())
    while epoch < budget.epochs:
        seed_everything(seed, epoch + 1)
        started = time.perf_counter()
        losses = {name: float(value) for name, value in next(epochs).items()}
        seconds += time.perf_counter() - started
        epoch += 1
        _check_finite(losses, epoch)
        scores = evaluate(learner, task.validation, epoch) if budget.is_due(epoch) else {}
        progress = Progress(epoch, losses, scores, seconds)
        if scores:
            history.append(progress)
            if checkpoints:
                checkpoints.save(epoch, {"learner": learner.state_dict(), "history": [_plain(p) for p in history]})
        yield progress


def evaluate(learner: Learner, images: Labelled, epoch: int) -> dict[str, Scores]:
    """Scores of every predictor on labelled images.

    Raises:
        DivergedError: a prediction is not finite.
    """
    labels_N = images.labels_N.numpy()
    predictions = {name: p.double().cpu().numpy() for name, p in learner.predict(images.images_NCHW).items()}
    for name, probs_NK in predictions.items():
        if not np.isfinite(probs_NK).all():
            raise DivergedError(f"predictions of '{name}' are not finite after epoch {epoch}")
    return {name: score(probs_NK, labels_N) for name, probs_NK in predictions.items()}


def new_accelerator(*, precision: str, cpu: bool) -> Accelerator:
    """An Accelerator for the next run in this process, whatever the one before it was set to.

    Raises:
        ConfigError: a precision the device does not have (fp16 on a CPU would silently run as fp32).
    """
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    if not cpu and not torch.cuda.is_available():
        raise ConfigError("device gpu: there is none here; use device cpu (its results differ in the last digits)")
    accelerator = Accelerator(cpu=cpu, mixed_precision=precision)
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; use 'no' or 'bf16' on a CPU")
    return accelerator


def seed_everything(seed: int, epoch: int) -> None:
    """Seeds Python, NumPy and torch for one epoch: a resumed run draws what an undisturbed one draws."""
    set_seed(int.from_bytes(sha256(f"{seed}/{epoch}".encode()).digest()[:4], "big"))


def _resume(learner: Learner, checkpoints: Checkpoints | None, accelerator: Accelerator) -> list[Progress]:
    saved = checkpoints.load(accelerator.device) if checkpoints else None
    if saved is None:
        return []
    learner.load_state_dict(saved[1]["learner"])
    return [_read(values) for values in saved[1]["history"]]


def _plain(progress: Progress) -> dict[str, Any]:
    scores = {name: s.as_dict() for name, s in progress.scores.items()}
    return {
        "epoch": progress.epoch,
        "losses": dict(progress.losses),
        "scores": scores,
        "seconds": progress.train_seconds,
    }


def _read(values: dict[str, Any]) -> Progress:
    scores = {name: Scores.from_dict(s) for name, s in values["scores"].items()}
    return Progress(values["epoch"], values["losses"], scores, values["seconds"], replayed=True)


def _check_finite(losses: Mapping[str, float], epoch: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise DivergedError(f"loss '{name}' became {value} in epoch {epoch}")
