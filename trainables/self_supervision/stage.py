"""A network that learns from the training images without labels, as a stage that trials share.

    for each batch of images x:
        v, w ← two views of each
        SimCLR: NT-Xent of the projections p(v), p(w)
        MoCo v2: InfoNCE of p(v) beside the slow p̄(w) and a queue of earlier ones, which p̄(w) joins
        BYOL: distance of the predicted q(p(v)) to the slow p̄(w), and of q(p(w)) to p̄(v)
        the slow network follows

What it learns from are a task's labelled and unlabelled images, without labels and in an order of their own, so that
label sets of the same training images share it. It is determined by these images, settings, network, how the run is
executed and the code, and by no seed of a run.

Departures: no shuffling of batches between devices for MoCo's BatchNorm, which joins them; squares are cropped, and
colours fade but do not turn.

Sources: arXiv:2002.05709; arXiv:2003.04297; arXiv:2006.07733.
Shapes: B batch, N images, C channels, H W pixels, P projection, Q queue.
"""

import inspect
import sys
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from math import ceil, cos, pi
from typing import Any, final

import timm
import torch
from torch import Tensor

from search_spaces.core.config import write_config
from search_spaces.core.errors import ConfigError
from search_spaces.core.self_supervision import PretextConfig
from trainables.components import augmentation, meters, optimised_model, orders, pace, parallel, schedules
from trainables.components.meters import Means
from trainables.components.optimised_model import OptimisedModel
from trainables.components.orders import InfiniteSampler
from trainables.components.pace import Pace
from trainables.components.prediction import predict_in_chunks
from trainables.components.schedules import cosine_decay
from trainables.core.accelerator import Accelerator
from trainables.core.method import Task
from trainables.data import augment, rand_augment
from trainables.nets.frozen import FrozenNetwork
from trainables.self_supervision import losses, networks, views
from trainables.self_supervision.losses import info_nce, neighbour_accuracy, nt_xent, squared_distance, uniformity
from trainables.self_supervision.networks import PretextNetwork, SlowNetwork
from trainables.self_supervision.views import Views
from trainables.training.stage_cache import StageEntry
from trainables.training.stages import SharedStage, execution
from trainables.training.train import seed_everything

_SEED = 0
_WARM_UP = 0.05
_CODE = (
    augment, augmentation, losses, meters, networks, optimised_model, orders, pace, parallel, rand_augment, schedules,
    seed_everything, views,
)  # fmt: skip


def pretext_images(config: PretextConfig, num_images: int, epoch: int) -> int:
    """Views that an epoch of the stage shows, of so many images: equally many steps in all, give or take one."""
    return (
        2
        * min(config.pretext_batch, num_images)
        * (_steps_until(config, num_images, epoch + 1) - _steps_until(config, num_images, epoch))
    )


def _steps_until(config: PretextConfig, num_images: int, epoch: int) -> int:
    total = ceil(config.pretext_images / (2 * min(config.pretext_batch, num_images)))
    return total * epoch // config.num_pretext_epochs


def check_budget(config: PretextConfig, needed: int, budget: int) -> None:
    """Refuse a budget that ends before the network that has learned is used.

    Raises:
        ConfigError: saying what it needs.
    """
    if needed > budget:
        raise ConfigError(
            f"pretext_images: {config.pretext_images:,} and what follows need {needed:,} images and the budget has "
            f"{budget:,}; raise images, or lower pretext_images"
        )


@final
class PretextStage:
    """The stage of one task, found or made.

    Args:
        model: timm's name of the network.
    """

    def __init__(self, config: PretextConfig, model: str, task: Task, accelerator: Accelerator) -> None:
        self._config, self._model, self._task, self._accelerator = config, model, task, accelerator
        self._images_NCHW = _pool(task)
        self.stage = SharedStage(
            f"{config.pretext} {model}",
            StageEntry("pretext", self._determined_by),
            num_epochs=config.num_pretext_epochs,
            seed=_SEED,
            begin=self._new_work,
            accelerator=accelerator,
        )

    def epoch(self, number: int) -> dict[str, float]:
        """Return the mean losses and measures of an epoch, from 0; at the end also the labelled images' 5-NN accuracy.

        That alone looks at labels, and nothing learns from it.
        """
        losses = self.stage.epoch(number)
        return losses | ({"neighbour_accuracy": self._neighbour_accuracy()} if number + 1 == self.num_epochs else {})

    @property
    def num_epochs(self) -> int:
        """Epochs that it has."""
        return self._config.num_pretext_epochs

    def network(self) -> FrozenNetwork:
        """Return the network, on the CPU, as it is evaluated."""
        network = FrozenNetwork(self._model, self._task.channels)
        network.network.load_state_dict(self.weights())
        return network

    def facts(self) -> dict[str, Any]:
        """Origin, key, and the last losses and measures."""
        losses = self.stage.losses
        return {"origin": self.stage.origin, "key": self.stage.entry.key, "measures": losses[-1] if losses else {}}

    def weights(self) -> Mapping[str, Tensor]:
        """Return the state of the network, without a last layer, on the CPU."""
        weights: Mapping[str, Tensor] = self.stage.result()["network"]
        return weights

    def _neighbour_accuracy(self) -> float:
        network, labelled = self.network(), self._task.labelled
        found = predict_in_chunks(
            lambda unit_BCHW: {"features": network(unit_BCHW)}, labelled.images_NCHW,
            side=self._config.pretext_side, device=torch.device("cpu"), networks=(network,),
        )  # fmt: skip
        return neighbour_accuracy(found["features"], labelled.labels_N)

    @property
    def _determined_by(self) -> Mapping[str, Any]:
        shared = {name: value for name, value in write_config(self._config).items() if name.startswith("pretext")}
        return {
            "model": self._model,
            "settings": shared | {"pretext_network": self._model},
            "images": sha256(self._images_NCHW.numpy().tobytes()).hexdigest(),
            "shape": list(self._images_NCHW.shape),
            "asymmetric": list(self._task.asymmetric),
            "execution": execution(self._accelerator),
            "timm": timm.__version__,
            "code": _code(),
        }

    def _new_work(self) -> "_PretextWork":
        return _PretextWork(self._config, self._model, self._images_NCHW, self._task, self._accelerator)


class _PretextWork:
    """A network that learns, an epoch of a few steps at a time."""

    def __init__(
        self, config: PretextConfig, model: str, images_NCHW: Tensor, task: Task, accelerator: Accelerator
    ) -> None:
        self._config, self._images_NCHW = config, images_NCHW.to(accelerator.device)
        self._views, self._order, self._epoch = Views(config, task), InfiniteSampler(len(images_NCHW)), 0
        self._pace = Pace(lambda share: min(1.0, share / _WARM_UP) * cosine_decay(share))
        gpus = [accelerator.device] if accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(gpus):
            torch.manual_seed(_SEED)
            network = PretextNetwork(model, task.channels, config.pretext_projector, predicts=config.pretext == "byol")
        # Before Accelerate puts its precision on `forward`, which a copy would share with the original.
        self._slow = SlowNetwork(network, accelerator.device) if config.pretext in ("moco", "byol") else None
        self._learning = OptimisedModel(
            network, accelerator, lr=config.pretext_lr, beta1=0.9, weight_decay=config.pretext_weight_decay,
            pace=self._pace, accumulates=False,
        )  # fmt: skip
        self._queue_QP = torch.zeros(0, config.pretext_projector, device=accelerator.device)

    def train_epoch(self) -> dict[str, float]:
        config, means = self._config, Means()
        count = len(self._images_NCHW)
        batch = min(config.pretext_batch, count)
        first, end = (_steps_until(config, count, epoch) for epoch in (self._epoch, self._epoch + 1))
        total = _steps_until(config, count, config.num_pretext_epochs)
        self._pace.begin_epoch(first, total)
        for _ in range(first, end):
            index_B = self._order.take(batch).to(self._images_NCHW.device, non_blocking=True)
            self._pace.advance(1)
            self._step(self._views(self._images_NCHW[index_B]), self._views(self._images_NCHW[index_B]), means)
        self._epoch += 1
        return means.read()

    def _step(self, first_BCHW: Tensor, second_BCHW: Tensor, means: Means) -> None:
        loss, first_BP, second_BP = self._compare(first_BCHW, second_BCHW)
        self._learning.backward_and_step(loss)
        if self._slow:
            self._slow.follow(self._learning.module, self._momentum)
        with torch.no_grad():
            spread = uniformity(first_BP)
            means.add(len(first_BP), loss=loss, alignment=squared_distance(first_BP, second_BP), uniformity=spread)

    def _compare(self, first_BCHW: Tensor, second_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss and the projections (B, P) of both views."""
        config = self._config
        if config.pretext == "moco":
            assert self._slow
            query_BP, key_BP = self._learning(first_BCHW)[0], self._slow(second_BCHW)
            loss = info_nce(query_BP, key_BP, self._queue_QP, config.pretext_temperature)
            most = max(1, min(config.pretext_queue, len(self._images_NCHW) // 2))
            self._queue_QP = torch.cat([key_BP, self._queue_QP])[:most]
            return loss, query_BP, key_BP
        both_BCHW = torch.cat([first_BCHW, second_BCHW])
        projected, predicted = self._learning(both_BCHW)
        first_BP, second_BP = projected.chunk(2)
        if config.pretext == "simclr":
            return nt_xent(first_BP, second_BP, config.pretext_temperature), first_BP, second_BP
        assert self._slow
        other = self._slow(both_BCHW).roll(len(first_BP), 0)
        return 2 * squared_distance(predicted, other), first_BP, second_BP

    @property
    def _momentum(self) -> float:
        """Share of itself that the slow network keeps now."""
        least = self._config.pretext_momentum
        return least if self._config.pretext == "moco" else 1 - (1 - least) * (1 + cos(pi * self._pace.share)) / 2

    def result(self) -> dict[str, Any]:
        return {"network": self._learning.module.encoder.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        state = {"epoch": self._epoch, "learning": self._learning.state_dict(), "order": self._order.state_dict()}
        slow = {"slow": self._slow.network.state_dict()} if self._slow else {}
        return state | slow | {"queue": self._queue_QP}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch, self._queue_QP = state["epoch"], state["queue"].to(self._images_NCHW.device)
        self._learning.load_state_dict(state["learning"])
        self._order.load_state_dict(state["order"])
        if self._slow:
            self._slow.network.load_state_dict(state["slow"])


def _pool(task: Task) -> Tensor:
    """All training images (N, C, H, W), in the order of the hashes of their pixels: the same whichever are labelled."""
    images_NCHW = torch.cat([task.labelled.images_NCHW, task.unlabelled_NCHW])
    keys = [sha256(image.tobytes()).digest() for image in images_NCHW.contiguous().numpy()]
    return images_NCHW[sorted(range(len(keys)), key=keys.__getitem__)]


@cache
def _code() -> str:
    """Hash of all source code that makes such a network what it is; this module's included."""
    sources = [inspect.getsource(part) for part in (*_CODE, sys.modules[__name__])]
    return sha256("".join(sources).encode()).hexdigest()
