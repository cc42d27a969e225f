"""The one driver: seeds, epochs, evaluation, checkpoints, timing; the same for every method.

Shapes: N images, K classes, M unlabelled images.
"""

import gc
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from math import ceil, isfinite
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from trainables.core.accelerator import Accelerator
from trainables.core.method import (
    FollowsBudget,
    Learner,
    Method,
    PoolMeans,
    Predictions,
    ReportsPseudoLabels,
    Scorer,
    Task,
    as_seen,
)
from trainables.core.scores import AnyScores
from trainables.core.withheld import learner_at_work
from trainables.metrics.pictures import PictureRule
from trainables.metrics.scoring import read_scores, scorer_of
from trainables.metrics.selection import collapse, select
from trainables.training.accelerator import from_main
from trainables.training.checkpoint import Checkpoints
from trainables.training.prediction import DivergedError, Oracle

LOG_ENTRIES = 16
"""Most entries of losses between two evaluations: an epoch of few-shot labels may be a single batch."""


@dataclass(frozen=True)
class Budget:
    """Length of a training and of its evaluation windows, in images: methods and schedules compare at equal cost."""

    images: int
    """Images to train on, labelled and unlabelled; one that is seen again counts again."""

    evaluate_every: int
    """Images between evaluations; the last window is shorter where they do not divide the budget."""

    def evaluations(self, epoch_images: Callable[[int], int], cycle_ends: Callable[[int], bool]) -> dict[int, int]:
        """Epochs after which to evaluate, in order, each with the images of the budget that it stands for.

        The budget falls into windows of `evaluate_every` images. Each is evaluated once, at the last end of a cycle in
        its second half, else at its last end of an epoch, and stands for its own end: an unsupervised phase disturbs
        networks, which recover until the cycle ends, and configurations with cycles of different lengths must be
        compared at the same cost. A window in which no epoch ends has no evaluation. Training ends at the last
        evaluation, as nothing after it would be scored: no budget is overdrawn, except by a first epoch longer than it.

        Args:
            epoch_images: Images seen in the epoch after so many epochs.
            cycle_ends: Whether a cycle ends after so many epochs.
        """
        chosen: dict[int, tuple[bool, int]] = {}
        seen = epoch = 0
        while (seen := seen + epoch_images(epoch)) <= self.images:
            epoch += 1
            end = min(ceil(seen / self.evaluate_every) * self.evaluate_every, self.images)
            start = (end - 1) // self.evaluate_every * self.evaluate_every
            at_cycle_end = 2 * seen >= start + end and cycle_ends(epoch)
            if at_cycle_end or not chosen.get(end, (False, 0))[0]:
                chosen[end] = (at_cycle_end, epoch)
        evaluations = {epoch: end for end, (_, epoch) in sorted(chosen.items())} or {1: self.images}
        return evaluations | {max(evaluations): self.images}


@dataclass(frozen=True)
class Progress:
    """State of a run after an epoch."""

    epoch: int
    """Epochs done."""

    images: int
    """Images seen so far."""

    losses: Mapping[str, float]
    """Mean losses of this epoch, by name."""

    scores: Mapping[str, AnyScores]
    """Validation scores by predictor; empty between evaluations."""

    train_seconds: float
    """Time spent in training so far, evaluation and checkpoints not counted."""

    budget_images: int = 0
    """Images of the budget that this evaluation stands for; 0 between evaluations."""

    selected: Mapping[str, AnyScores] = field(default_factory=dict)
    """Scores by predictor that the run is judged by if it ends here; empty between evaluations."""

    collapse: str = ""
    """At the last evaluation: why its scores are worthless, if the main predictor names one class for all images."""

    log: tuple[Mapping[str, float], ...] = ()
    """At an evaluation: `epoch` and mean losses of the epochs since the one before, `LOG_ENTRIES` entries at most."""

    replayed: bool = False
    """True if this is read from a checkpoint rather than trained now."""

    predictions: Predictions = field(default_factory=dict)
    """At the end of a run: what its predictors say of each validation image or patch (N, K), or pixel (N, H, W)."""

    pool_means: PoolMeans = field(default_factory=dict)
    """At the end of a run: what its predictors say of the unlabelled images in the mean."""

    artefacts: Mapping[str, bytes] = field(default_factory=dict)
    """At the end of a run: files by name, what an `HasArtefacts` learner shows, and its weights where they are kept."""


def train(
    method: Method[Any],
    config: MethodConfig,
    task: Task,
    budget: Budget,
    *,
    seed: int,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None = None,
    selection: str = "last",
    picture_rule: PictureRule | None = None,
    decision: str = "argmax",
    statistics: str = "running",
    keep_weights: bool = False,
    hidden_labels_M: Tensor | None = None,
) -> Generator[Progress]:
    """Train a method on a task and yield after every epoch, with scores where an evaluation is due.

    With `checkpoints` the state is handed over for saving after every evaluation before it is yielded, and a run that
    finds one first yields the evaluations it already has (`replayed`), then goes on: the same numbers, bit for bit on
    CPU, as without the interruption. Closing the iterator stops training; it ends when what was saved is on disk.

    Args:
        selection: Rule for the scores that a run is judged by, one of `SELECTIONS`.
        picture_rule: How pictures are judged by their patches, where the task has patches.
        decision: How a class is named of an image or patch, one of `DECISIONS`.
        statistics: Training images that BatchNorm's statistics are taken from before a prediction; see `Oracle`.
        keep_weights: At the end what a `SavesPrediction` learner predicts by is among the artefacts, as `WEIGHTS`.
        hidden_labels_M: Labels of the unlabelled images, for diagnosis only: the share of right pseudo-labels joins
            the losses as `pseudo_accuracy`, in epochs in which a `ReportsPseudoLabels` learner gave some. Neither the
            learner nor the selection ever sees them.

    Raises:
        ConfigError: the method does not do this kind of task, or the rule needs unlabelled images that are not there.
        DivergedError: a loss or a prediction is not finite.
        OSError: a checkpoint could not be written.
    """
    if task.kind not in method.tasks:
        raise ConfigError(f"this method does {' and '.join(method.tasks)}, but {task.dataset} is {task.kind}")
    if decision == "pool" and not len(task.unlabelled_NCHW):
        raise ConfigError(f"decision pool needs unlabelled images, and {task.dataset} has none left: take argmax")
    score = scorer_of(method, config, task.validation, picture_rule or PictureRule(), decision=decision)
    plan = _plan(method, config, task, budget, selection, score, Oracle(task, statistics, keep_weights), decision)
    hidden_labels_M = None if hidden_labels_M is None else hidden_labels_M.to(accelerator.device)
    seed_everything(seed, 0)
    try:
        with checkpoints or nullcontext():
            yield from _train(
                _built(method, config, task, accelerator), task, plan, seed, accelerator, checkpoints, hidden_labels_M
            )
    finally:  # one process serves many runs: Accelerate holds networks and optimisers, and learners hold themselves
        accelerator.free_memory()  # it collects garbage before it lets go of the networks
        gc.collect()


def _plan(
    method: Method[Any],
    config: MethodConfig,
    task: Task,
    budget: Budget,
    selection: str,
    score: Scorer,
    oracle: Oracle,
    decision: str,
) -> "_Plan":
    epoch_images = partial(method.epoch_images, config, len(task.labelled), len(task.unlabelled_NCHW))
    evaluations = budget.evaluations(epoch_images, partial(method.cycle_ends, config))
    return _Plan(
        total_images=budget.images,
        epoch_images=epoch_images,
        evaluations={max(evaluations): budget.images} if method.scorer else evaluations,
        selection=selection,
        score=score,
        oracle=oracle,
        needs_pool=decision == "pool",
        keeps_pool=method.judged_as == "classification",
        watched="" if method.names_one_class or method.scorer else method.predictors[0],
    )


@dataclass(frozen=True)
class _Plan:
    """When a run is evaluated, and what follows from its evaluations."""

    total_images: int
    epoch_images: Callable[[int], int]
    evaluations: Mapping[int, int]
    selection: str
    score: Scorer
    oracle: Oracle
    needs_pool: bool
    """True if every evaluation needs what the learner says of unlabelled images."""

    keeps_pool: bool
    """True if that is kept of the last evaluation."""
    watched: str
    """The predictor that should name more than one class at the end; empty where none has to."""

    @property
    def last_epoch(self) -> int:
        return max(self.evaluations)

    def judge(self, before: Sequence[Progress], evaluation: Progress) -> Progress:
        """The evaluation with what follows from it and those before: selected scores, and a collapse at the end."""
        selected = select([each.scores for each in (*before, evaluation)], self.selection)
        reason = collapse(selected[self.watched]) if self.watched else ""
        ended = reason and evaluation.epoch >= self.last_epoch
        return replace(evaluation, selected=selected, collapse=f"{self.watched} {reason}" if ended else "")


def _train(
    learner: Learner,
    task: Task,
    plan: _Plan,
    seed: int,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None,
    hidden_labels_M: Tensor | None,
) -> Iterator[Progress]:
    history = _resume(learner, plan, checkpoints, accelerator)
    if history and history[-1].epoch == plan.last_epoch:
        asked = plan.oracle.ask(learner, task.validation, plan.last_epoch, with_pool=plan.keeps_pool)
        history[-1] = replace(
            history[-1],
            predictions=asked.predictions,
            pool_means=asked.pool_means,
            artefacts=plan.oracle.artefacts(learner),
        )
    yield from history
    done = history[-1] if history else Progress(0, 0, {}, {}, 0.0)
    log: list[Mapping[str, float]] = []
    for progress in _train_epochs(learner, done, plan, seed, hidden_labels_M):
        log.append({"epoch": progress.epoch, **progress.losses})
        if progress.epoch not in plan.evaluations:
            yield progress
            continue
        is_last = progress.epoch == plan.last_epoch
        asked = plan.oracle.ask(
            learner, task.validation, progress.epoch, with_pool=plan.keeps_pool if is_last else plan.needs_pool
        )
        evaluation = replace(
            progress,
            scores=plan.score(asked.predictions, asked.pool_means),
            budget_images=plan.evaluations[progress.epoch],
            log=_thinned(log),
            predictions=asked.predictions if is_last else {},
            pool_means=asked.pool_means if is_last else {},
            artefacts=plan.oracle.artefacts(learner) if is_last else {},
        )
        history.append(plan.judge(history, evaluation))
        log.clear()
        if checkpoints:
            if accelerator.is_main_process:
                state = {"learner": learner.state_dict(), "history": [_plain(each) for each in history]}
                checkpoints.save(progress.epoch, state)
            accelerator.wait_for_everyone()
        yield history[-1]


def _train_epochs(
    learner: Learner, done: Progress, plan: _Plan, seed: int, hidden_labels_M: Tensor | None
) -> Iterator[Progress]:
    """Train on from what is done; each epoch with its losses, not yet evaluated.

    Raises:
        DivergedError: a loss is not finite.
    """
    images, seconds = done.images, done.train_seconds
    with learner_at_work():
        epochs = iter(learner.epochs())
    for epoch in range(done.epoch + 1, plan.last_epoch + 1):
        seed_everything(seed, epoch)
        started = time.perf_counter()
        with learner_at_work():
            if isinstance(learner, FollowsBudget):
                learner.begin_epoch(images, plan.total_images)
            losses = {name: float(value) for name, value in next(epochs).items()}
        seconds += time.perf_counter() - started
        images += plan.epoch_images(epoch - 1)
        _check_finite(losses, epoch)
        if hidden_labels_M is not None and isinstance(learner, ReportsPseudoLabels):
            losses |= _pseudo_accuracy(learner.pseudo_labels(), hidden_labels_M)
        yield Progress(epoch, images, losses, {}, seconds)


def seed_everything(seed: int, epoch: int) -> None:
    """Seed Python, NumPy and torch for one epoch: a resumed run draws what an undisturbed one draws."""
    from accelerate.utils import set_seed  # what predicts does without Accelerate

    set_seed(int.from_bytes(sha256(f"{seed}/{epoch}".encode()).digest()[:4], "big"))


def _resume(learner: Learner, plan: _Plan, checkpoints: Checkpoints | None, accelerator: Accelerator) -> list[Progress]:
    """Put the learner where the newest checkpoint left it; the evaluations until then."""
    saved = from_main(checkpoints.load, accelerator) if checkpoints else None
    if saved is None:
        return []
    learner.load_state_dict(saved[1]["learner"])
    history: list[Progress] = []
    for values in saved[1]["history"]:
        history.append(plan.judge(history, _read(values)))
    return history


@learner_at_work()
def _built(method: Method[Any], config: MethodConfig, task: Task, accelerator: Accelerator) -> Learner:
    """Build a learner, of which the caller keeps nothing that would outlive its training."""
    return method.build(config, as_seen(task), accelerator)


def _thinned(log: Sequence[Mapping[str, float]]) -> tuple[Mapping[str, float], ...]:
    """The log of some epochs `LOG_ENTRIES` entries at most: means of those that follow one another."""
    size = ceil(len(log) / LOG_ENTRIES) or 1
    return tuple(_mean_entry(log[first : first + size]) for first in range(0, len(log), size))


def _mean_entry(entries: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The last epoch of some, and the mean of each loss over those that have it."""
    names = dict.fromkeys(name for entry in entries for name in entry)
    means = {name: fmean(entry[name] for entry in entries if name in entry) for name in names}
    return means | {"epoch": entries[-1]["epoch"]}


def _plain(evaluation: Progress) -> dict[str, Any]:
    """Plain values of an evaluation that do not follow from the others."""
    return {
        "epoch": evaluation.epoch,
        "images": evaluation.images,
        "losses": dict(evaluation.losses),
        "log": [dict(entry) for entry in evaluation.log],
        "scores": {name: s.as_dict() for name, s in evaluation.scores.items()},
        "seconds": evaluation.train_seconds,
        "stands_for": evaluation.budget_images,  # so called in checkpoints of all versions
    }


def _read(values: dict[str, Any]) -> Progress:
    scores = {name: read_scores(s) for name, s in values["scores"].items()}
    return Progress(
        values["epoch"],
        values["images"],
        values["losses"],
        scores,
        values["seconds"],
        budget_images=values["stands_for"],
        log=tuple(values["log"]),
        replayed=True,
    )


def _pseudo_accuracy(labels_M: Tensor | None, hidden_labels_M: Tensor) -> dict[str, float]:
    """The share of given labels that are right, by name; nothing where none was given (-1) of which that is known."""
    if labels_M is None:
        return {}
    known_M = (labels_M >= 0) & (hidden_labels_M >= 0)
    counts = torch.stack([((labels_M == hidden_labels_M) & known_M).sum(), known_M.sum()])
    right, given = counts.tolist()  # the only wait for the device
    return {"pseudo_accuracy": right / given} if given else {}


def _check_finite(losses: Mapping[str, float], epoch: int) -> None:
    for name, value in losses.items():
        if not isfinite(value):
            raise DivergedError(f"loss '{name}' became {value} in epoch {epoch}")
