"""Generators and their banks of images as stages that trials share.

A generator is determined by the images it learns from, what it starts at, everything that shapes or trains it, how the
run is executed, and the code that does it. A bank is determined by its generator, truncation and its size, which is
rounded up so that nearly equal needs are met by the same one.

Shapes: N images, B batch, C channels, H W pixels, K classes.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from hashlib import sha256
from math import inf
from types import ModuleType
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ssgnet_generators import SsgnetGeneratorsConfig
from search_spaces.ssgnet_segmenter import SsgnetSegmenterConfig
from trainables.components import meters, modes, optimised_model, orders, pace, parallel, schedules, weight_average
from trainables.components.meters import Means
from trainables.components.orders import InfiniteSampler
from trainables.core.accelerator import Accelerator
from trainables.data import augment
from trainables.nets import features
from trainables.stylegan import (
    adaptive_augment,
    alias_free,
    discriminator,
    equalised,
    gan_training,
    generator,
    generator_config,
    generator_scores,
)
from trainables.stylegan.gan_training import GeneratorTraining
from trainables.stylegan.generator_config import GeneratorConfig
from trainables.training.stage_cache import StageEntry
from trainables.training.stages import SharedStage, execution
from trainables.training.train import seed_everything

GeneratorSettings = SsgnetGeneratorsConfig | SsgnetSegmenterConfig
"""Settings of the methods that train generators."""

MIN_BANK = 16
LOOKS = 4
"""Measurements of distances to real images while a generator learns, the last one at its end."""

_MAX_REAL = 1000
"""Real images of such a distance."""

_CODE: tuple[ModuleType | Callable[..., Any], ...] = (
    adaptive_augment, alias_free, augment, equalised, features, gan_training, generator_config, generator_scores,
    meters, modes, optimised_model, orders, pace, parallel, schedules, seed_everything, generator, discriminator,
    weight_average,
)  # fmt: skip


@dataclass(frozen=True)
class GeneratorPlan:
    """Shape of a generator, and length of its training."""

    config: GeneratorConfig
    side: int
    """Side of the images in pixels; the generator's may be larger, and then they are mirrored at their edges."""

    num_epochs: int
    steps_per_epoch: int
    feature_network: str
    score_images: int
    """Synthetic images of which scores are made; there are none of fewer than two."""

    @property
    def is_scored(self) -> bool:
        """True if its images are scored."""
        return self.score_images > 1


def thousands_of_images(settings: GeneratorSettings, num_epochs: int) -> float:
    """Thousands of images that a generator sees in so many epochs: the unit of its time constants."""
    return num_epochs * settings.steps_per_epoch * settings.generator_batch / 1000


def generator_plan(
    settings: GeneratorSettings,
    channels: int,
    num_epochs: int,
    *,
    feature_network: str,
    score_images: int,
    **others: Any,
) -> GeneratorPlan:
    """Return the plan of a generator with these settings; `others` are fields of `GeneratorConfig`."""
    shape = GeneratorConfig(
        resolution=settings.generator_side,
        channels=channels,
        channel_base=settings.generator_channel_base,
        channel_max=settings.generator_width,
        z_dim=settings.z_dim,
        batch=settings.generator_batch,
        gamma=settings.r1_weight,
        g_lr=settings.generator_lr,
        **others,
    )
    return GeneratorPlan(
        shape, settings.image_size, num_epochs, settings.steps_per_epoch, feature_network, score_images
    )


@final
class GeneratorStage:
    """One generator: its epochs, and banks of what it makes.

    Args:
        name: In messages and, short, in the names of its scores: `pool` or a class.
        images_NCHW: uint8, that it learns from.
        start: The stage whose networks it starts at, if any.
        seed: Of weights and random numbers.
    """

    def __init__(
        self,
        name: str,
        plan: GeneratorPlan,
        images_NCHW: Tensor,
        accelerator: Accelerator,
        *,
        seed: int,
        start: "GeneratorStage | None" = None,
    ) -> None:
        self._name, self._plan, self._images_NCHW, self._accelerator = name, plan, images_NCHW, accelerator
        self._seed, self._start = seed, start
        self.stage = SharedStage(
            f"generator {name}",
            StageEntry("generator", self._determined_by),
            num_epochs=plan.num_epochs,
            seed=seed,
            begin=self._new_work,
            accelerator=accelerator,
        )

    def bank(self, count: int, truncation: float) -> SharedStage:
        """A stage without epochs whose result holds `images` (N, C, H, W), uint8: at least so many."""
        size = max(MIN_BANK, 1 << (count - 1).bit_length())
        made_by = {"generator": self.stage.entry.key, "truncation": truncation, "images": size, "seed": self._seed}
        return SharedStage(
            f"bank {self._name}",
            StageEntry("bank", made_by),
            num_epochs=0,
            seed=self._seed,
            begin=lambda: _BankWork(self, size, truncation),
            accelerator=self._accelerator,
        )

    def trained(self) -> GeneratorTraining:
        """A training that can only sample, with the generator of this stage."""
        training = self._new_training()
        training.average.load_state_dict(self.stage.result()["average"])
        return training

    @cached_property
    def feature_hash(self) -> str:
        """Hash of the network behind its scores: those of another one do not compare. Empty where there are none."""
        plan = self._plan
        if not plan.is_scored:
            return ""
        network = features.feature_network(plan.feature_network, self._images_NCHW.shape[1])
        return generator_scores.feature_network_hash(network)

    @cached_property
    def _determined_by(self) -> Mapping[str, Any]:
        plan = self._plan
        return {
            "name": self._name,
            "images": sha256(self._images_NCHW.numpy().tobytes()).hexdigest(),
            "shape": list(self._images_NCHW.shape),
            "start": self._start.stage.entry.key if self._start else "",
            "seed": self._seed,
            "plan": asdict(plan),
            "features": self.feature_hash,
            "execution": execution(self._accelerator),
            "code": _code(),
        }

    def _new_training(self) -> GeneratorTraining:
        return GeneratorTraining(self._plan.config, self._accelerator, seed=self._seed)

    def _new_work(self) -> "_GeneratorWork":
        training = self._new_training()
        if self._start:
            training.start_from(self._start.stage.result())
        return _GeneratorWork(self._name, self._plan, self._images_NCHW.to(self._accelerator.device), training)


class _GeneratorWork:
    """A generator that learns, an epoch of a few steps at a time."""

    def __init__(self, name: str, plan: GeneratorPlan, images_NCHW: Tensor, training: GeneratorTraining) -> None:
        self._name, self._plan, self._images_NCHW, self._training = name, plan, images_NCHW, training
        self._order, self._epoch = InfiniteSampler(len(images_NCHW)), 0

    def train_epoch(self) -> dict[str, float]:
        means, batch, device = Means(), self._plan.config.batch, self._images_NCHW.device
        for _ in range(self._plan.steps_per_epoch):
            index_B = self._order.take(batch).to(device, non_blocking=True)
            losses = self._training.step(to_generator(self._images_NCHW[index_B], self._plan))
            means.add(batch, **{name: loss.to(device, non_blocking=True) for name, loss in losses.items()})
        self._epoch += 1
        return means.read() | self._scores()

    def result(self) -> dict[str, Any]:
        """Return what sampling and another training's start need."""
        state = self._training.state_dict()
        networks = {name: {"network": state[name]["network"]} for name in ("generator", "critic")}
        return {"average": state["average"], **networks}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "training": self._training.state_dict(), "order": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch = state["epoch"]
        self._training.load_state_dict(state["training"])
        self._order.load_state_dict(state["order"])

    def _scores(self) -> dict[str, float]:
        """Distances to the images it learns from, now and then; nothing where there is just one.

        At its end also how near its images come to those, relative to how near these are to each other: near 0 they
        are copies.
        """
        plan, real_NCHW = self._plan, self._images_NCHW[:_MAX_REAL]
        before, now = (done * LOOKS // plan.num_epochs for done in (self._epoch - 1, self._epoch))
        if before == now or len(real_NCHW) < 2 or not plan.is_scored:
            return {}
        network = features.feature_network(plan.feature_network, real_NCHW.shape[1]).to(real_NCHW.device)
        signed_NCHW = augment.to_signed(augment.to_unit(real_NCHW, plan.side))
        fake_NCHW = cropped(self._training.sample(plan.score_images), plan.side)
        real_ND, fake_MD = (generator_scores.features_of(each, network) for each in (signed_NCHW, fake_NCHW))
        scores = {"kid": generator_scores.kernel_distance(real_ND, fake_MD)[0]}
        if now == LOOKS:
            scores["fid"] = generator_scores.frechet_distance(real_ND, fake_MD)
            scores["nearness"] = nearness(fake_MD, real_ND)
        return {f"{score}_{self._name}": value for score, value in scores.items()}


def nearness(fake_MD: Tensor, real_ND: Tensor) -> float:
    """Median distance of synthetic images to the nearest real one, relative to that of real ones to the nearest other.

    Two images at least are real. Where these are all the same it is 0.
    """
    # Not by products of matrices: features of one class are alike, and what tells them apart would be lost in rounding.
    others_NN = torch.cdist(real_ND, real_ND, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(inf)
    among_real = others_NN.amin(1).median().item()
    to_real = generator_scores.nearest_distances(fake_MD, real_ND).median().item()
    return to_real / among_real if among_real else 0.0


class _BankWork:
    """Nothing but a result."""

    def __init__(self, generator: GeneratorStage, count: int, truncation: float) -> None:
        self._generator, self._count, self._truncation = generator, count, truncation

    def train_epoch(self) -> dict[str, float]:
        raise RuntimeError("a bank has no epochs")

    def result(self) -> dict[str, Any]:
        generator = self._generator
        images_NCHW = generator.trained().sample(self._count, psi=self._truncation, seed=generator._seed)
        return {"images": to_bytes(cropped(images_NCHW, generator._plan.side))}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def to_generator(images_NCHW: Tensor, plan: GeneratorPlan) -> Tensor:
    """Bytes as the generator's networks take them: in [-1, 1], mirrored at their edges up to its side."""
    signed_NCHW = augment.to_signed(augment.to_unit(images_NCHW, plan.side))
    before, after = _margins(plan.side, plan.config.resolution)
    return F.pad(signed_NCHW, (before, after) * 2, mode="reflect") if after else signed_NCHW


def cropped(images_NCHW: Tensor, side: int) -> Tensor:
    """Images of that side from the middle of larger ones."""
    before, _ = _margins(side, images_NCHW.shape[-1])
    return images_NCHW[:, :, before : before + side, before : before + side]


def to_bytes(signed_NCHW: Tensor) -> Tensor:
    """uint8 images from images in [-1, 1]."""
    return ((signed_NCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _margins(side: int, larger: int) -> tuple[int, int]:
    return (larger - side) // 2, larger - side - (larger - side) // 2


@cache
def _code() -> str:
    """Hash of all source code that makes a generator what it is; this module's included."""
    sources = [inspect.getsource(part) for part in (*_CODE, sys.modules[__name__])]
    return sha256("".join(sources).encode()).hexdigest()
