"""Prediction by the weights as they are: with BatchNorm statistics that belong to them, beside the pool's mean.

BatchNorm's running statistics follow the weights with the momentum of some ten batches. Few labels make few batches, so
early in training they are those of other weights, and a network that ranks images well names one class for all of them.
Here they are taken anew from a bounded number of training images before every prediction, and put back afterwards, so
that training, and what a resumed run goes on with, do not know of it.

Shapes: N images, M unlabelled images, C channels, H W pixels, K classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.components.modes import gathering_statistics
from trainables.core.method import (
    HasArtefacts,
    Labelled,
    Learner,
    PoolMeans,
    Predictions,
    PredictsByNetworks,
    SavesPrediction,
    Task,
)
from trainables.core.withheld import learner_at_work
from trainables.training.kept_weights import WEIGHTS, encode_weights

_STATISTICS_IMAGES, _POOL_IMAGES = 256, 1024
"""Most training images that statistics, and means of predictions, are taken from; evenly spaced in their order."""
_AT_SIDE = 64
"""Side in pixels up to which these are their numbers; of larger images fewer are taken, in proportion to pixels."""
_MIN_IMAGES = 64
_MIN_BATCH = 2
"""BatchNorm cannot take a single image."""


class DivergedError(Exception):
    """Training went where no score exists: an outcome with a reason, not a failure of the machine."""


@dataclass(frozen=True)
class Predicted:
    """What a learner says of some images."""

    predictions: Predictions
    """By predictor: of each image or patch (N, K), or of each pixel (N, H, W)."""

    pool_means: PoolMeans = field(default_factory=dict)
    """By predictor: mean probabilities (K,) of the unlabelled training images; empty where they are not asked for."""


@dataclass(frozen=True)
class Oracle:
    """Asks learners of one task for predictions."""

    task: Task
    statistics: str = "running"
    """Training images that BatchNorm's statistics come from: `labelled`, `unlabelled` or `both`, or `running` ones."""

    keeps_weights: bool = False
    """True if what a learner predicts by at its end is kept as a file, where its method offers that."""

    @learner_at_work()
    def ask(self, learner: Learner, images: Labelled, epoch: int, *, with_pool: bool) -> Predicted:
        """Return what the learner says of images; it is as before afterwards.

        Args:
            with_pool: also return its mean prediction of the unlabelled images, where there are any.

        Raises:
            DivergedError: a prediction is not finite.
        """
        with self._own_statistics(learner):
            predictions = _finite(learner.predict(images.images_NCHW), epoch)
            if not with_pool or not len(self._pool_NCHW):
                return Predicted(predictions)
            of_pool = _finite(learner.predict(self._pool_NCHW), epoch)
        return Predicted(predictions, {name: probs_MK.mean(0) for name, probs_MK in of_pool.items()})

    @learner_at_work()
    def prediction_state(self, learner: SavesPrediction) -> dict[str, Tensor]:
        """Return copies of the tensors by which the learner, if it is asked now, predicts, on the CPU."""
        with self._own_statistics(learner):
            state = learner.prediction_state()
            return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    @learner_at_work()
    def artefacts(self, learner: Learner) -> dict[str, bytes]:
        """Return files by name that are kept of a learner at the end of its run."""
        shown = dict(learner.artefacts()) if isinstance(learner, HasArtefacts) else {}
        if self.keeps_weights and isinstance(learner, SavesPrediction):
            shown[WEIGHTS] = encode_weights(self.prediction_state(learner))
        return shown

    @cached_property
    def _pool_NCHW(self) -> Tensor:
        return _spaced(self.task.unlabelled_NCHW, _POOL_IMAGES)

    @cached_property
    def _reference_NCHW(self) -> Tensor:
        """Training images that statistics are taken from."""
        labelled_NCHW, pool_NCHW = self.task.labelled.images_NCHW, self.task.unlabelled_NCHW
        if self.statistics == "labelled" or not len(pool_NCHW):
            return _spaced(labelled_NCHW, _STATISTICS_IMAGES)
        if self.statistics == "unlabelled":
            return _spaced(pool_NCHW, _STATISTICS_IMAGES)
        half_NCHW = _spaced(pool_NCHW, _STATISTICS_IMAGES // 2)
        again_N = torch.arange(len(half_NCHW)) % len(labelled_NCHW)
        return torch.stack([half_NCHW, labelled_NCHW[again_N]], 1).flatten(0, 1)

    @contextmanager
    def _own_statistics(self, learner: Learner | SavesPrediction) -> Iterator[None]:
        """Inside, the learner's networks have statistics that belong to their weights."""
        networks = learner.predicting_networks() if isinstance(learner, PredictsByNetworks) else ()
        norms = [] if self.statistics == "running" else _batch_norms(networks)
        if not norms or len(self._reference_NCHW) < _MIN_BATCH:
            yield
            return
        before = [buffer.clone() for norm in norms for buffer in norm.buffers()]
        momenta = [norm.momentum for norm in norms]
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
            with gathering_statistics():
                cast(Learner, learner).predict(self._reference_NCHW)
            if not all(norm.num_batches_tracked for norm in norms):
                raise TypeError("predicting_networks() names a BatchNorm that predict() does not reach by `evaluated`")
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            with torch.no_grad():
                for buffer, value in zip((b for norm in norms for b in norm.buffers()), before, strict=True):
                    buffer.copy_(value)


def _batch_norms(networks: Sequence[nn.Module]) -> list[_BatchNorm]:
    """Return the layers whose running statistics predict."""
    modules = dict.fromkeys(module for network in networks for module in network.modules())
    return [each for each in modules if isinstance(each, _BatchNorm) and each.track_running_stats]


def _spaced(images_NCHW: Tensor, most: int) -> Tensor:
    """Return so many of the images at most, evenly spaced; fewer of large ones."""
    height, width = images_NCHW.shape[-2:]
    most = max(_MIN_IMAGES, min(most, most * _AT_SIDE**2 // (height * width)))
    count = min(most, len(images_NCHW))
    return images_NCHW[torch.arange(count) * len(images_NCHW) // max(count, 1)]


def _finite(found: Mapping[str, Tensor], epoch: int) -> dict[str, NDArray[Any]]:
    """Return predictions as float64, or as bytes where they are images.

    Raises:
        DivergedError: one is not finite.
    """
    predictions = {
        name: (probs if probs.dtype == torch.uint8 else probs.double()).cpu().numpy() for name, probs in found.items()
    }
    for name, probs in predictions.items():
        if not np.isfinite(probs).all():
            raise DivergedError(f"predictions of '{name}' are not finite after epoch {epoch}")
    return predictions
