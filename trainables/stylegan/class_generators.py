"""A generator for each class with labelled images, and the one that they start at, if there is one.

Shapes: N labelled, M synthetic, U unlabelled images, C channels, H W pixels.
"""

from math import ceil
from typing import Any, final

import torch
from torch import Tensor

from search_spaces.core.errors import ConfigError
from search_spaces.ssgnet_generators import SsgnetGeneratorsConfig
from trainables.core.accelerator import Accelerator
from trainables.core.method import Task
from trainables.data.augment import to_signed, to_unit
from trainables.stylegan.generator_scores import grid_png
from trainables.stylegan.generator_stages import GeneratorPlan, GeneratorStage, generator_plan, thousands_of_images
from trainables.training.stages import SharedStage

_COLUMNS, _ROWS = 8, 7


@final
class ClassGenerators:
    """Stages, one after the other: of the common generator, then of each class, in the order of the labels.

    Args:
        seed: Of weights and random numbers: runs with the same seed, images and settings share generators.
    """

    def __init__(self, config: SsgnetGeneratorsConfig, task: Task, accelerator: Accelerator, seed: int) -> None:
        self._config, self._images_NCHW, self._labels_N = config, task.labelled.images_NCHW, task.labelled.labels_N
        present = sorted(set(self._labels_N.tolist()))
        total = _class_epochs(config)
        if total < len(present):
            epoch = config.generator_batch * config.steps_per_epoch
            raise ConfigError(
                f"generator_images: {config.generator_images:,} are {total} epochs of {epoch:,} for {len(present)} "
                f"generators; expected at least {epoch * len(present):,}"
            )
        self._common: list[GeneratorStage] = []
        if num_epochs := _common_epochs(config):
            pool_UCHW = torch.cat([self._images_NCHW, task.unlabelled_NCHW])
            plan = _class_plan(config, task.channels, num_epochs)
            self._common.append(GeneratorStage("pool", plan, pool_UCHW, accelerator, seed=seed))
        ends = [total * (position + 1) // len(present) for position in range(len(present))]
        self._of_class: dict[int, GeneratorStage] = {}
        for label, first, end in zip(present, [0, *ends], ends, strict=False):
            self._of_class[label] = GeneratorStage(
                str(label),
                _class_plan(config, task.channels, end - first),
                self._images_NCHW[self._labels_N == label],
                accelerator,
                seed=seed + 1 + label,
                start=self._common[0] if self._common else None,
            )
        for generator in self._of_class.values():
            generator.stage.meanwhile = self._make_another

    @property
    def labels(self) -> tuple[int, ...]:
        """Classes that have a generator."""
        return tuple(self._of_class)

    def epoch(self, number: int) -> dict[str, float]:
        """The mean losses of an epoch, from 0 to `generator_epochs`: some steps of the generator whose turn it is."""
        for stage in self._stages():
            if number < stage.num_epochs:
                return stage.epoch(number)
            number -= stage.num_epochs
        raise ValueError(f"there are {number} epochs fewer than that")

    def bank(self, label: int, count: int) -> Tensor:
        """At least so many images (M, C, H, W) of a class, uint8, on the CPU."""
        images_MCHW: Tensor = self._of_class[label].bank(count, self._config.truncation).result()["images"]
        return images_MCHW

    def facts(self) -> dict[str, Any]:
        """Origin of each generator, by name, and, of the scores in its losses, all that were told."""
        return {each.stage.name: _facts(each) for each in (*self._common, *self._of_class.values())}

    def sheet(self, label: int, made_MCHW: Tensor) -> bytes:
        """A PNG file of eight columns: up to eight labelled images of a class, then synthetic ones."""
        side = self._config.image_size
        real_NCHW = to_unit(self._images_NCHW[self._labels_N == label][:_COLUMNS], side)
        gap_NCHW = real_NCHW.new_zeros(_COLUMNS - len(real_NCHW), *real_NCHW.shape[1:])
        made_MCHW = to_unit(made_MCHW[: _COLUMNS * _ROWS].cpu(), side)
        return grid_png(to_signed(torch.cat([real_NCHW, gap_NCHW, made_MCHW])), columns=_COLUMNS)

    def close(self) -> None:
        """Leave what is trained in the cache."""
        for stage in self._stages():
            stage.close()

    def state_dict(self) -> dict[str, Any]:
        """State of the generator at work, and what is told of the others; not what is in the cache."""
        return {"stages": [stage.state_dict() for stage in self._stages()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for stage, its_state in zip(self._stages(), state["stages"], strict=True):
            stage.load_state_dict(its_state)

    def _stages(self) -> list[SharedStage]:
        """In their order."""
        return [each.stage for each in (*self._common, *self._of_class.values())]

    def _make_another(self) -> bool:
        """Work on the generator of some class while another trial is at the one that is needed now."""
        others = (each.stage for each in self._of_class.values() if each.stage.origin != "waits")
        return any(stage.help() for stage in others)


def generator_epochs(config: SsgnetGeneratorsConfig) -> int:
    """Epochs of all generators together."""
    return _common_epochs(config) + _class_epochs(config)


def _common_epochs(config: SsgnetGeneratorsConfig) -> int:
    if config.generator_init != "unlabelled_pretrain":
        return 0
    return ceil(config.pretrain_images / (config.generator_batch * config.steps_per_epoch))


def _class_epochs(config: SsgnetGeneratorsConfig) -> int:
    return ceil(config.generator_images / (config.generator_batch * config.steps_per_epoch))


def _class_plan(config: SsgnetGeneratorsConfig, channels: int, num_epochs: int) -> GeneratorPlan:
    """Plan of a class's generator; its time constants are shares of the images that it sees."""
    kimg = thousands_of_images(config, num_epochs)
    return generator_plan(
        config,
        channels,
        num_epochs,
        feature_network=config.feature_network,
        score_images=config.score_images,
        num_layers=config.num_layers,
        mapping_layers=config.mapping_layers,
        group=config.mbstd_group,
        penalty_interval=config.r1_interval,
        d_lr=config.critic_lr,
        mirror=config.generator_mirror,
        augment=config.augment,
        augment_groups=config.augment_operations,
        augment_p=config.augment_p,
        ada_target=config.ada_target,
        ada_kimg=config.ada_share * kimg,
        average_kimg=config.ema_share * kimg,
        magnitude_kimg=config.magnitude_share * kimg,
        frozen_convolutions=config.freeze_critic,
    )


def _facts(generator: GeneratorStage) -> dict[str, Any]:
    """A generator's origin and, of the scores in its losses, all that were told."""
    stage, scores = generator.stage, {}
    for name in ("kid", "fid", "nearness"):
        scores[name] = [value for losses in stage.losses for key, value in losses.items() if key.startswith(f"{name}_")]
    facts = {"origin": stage.origin, "key": stage.entry.key, "epochs": stage.num_epochs}
    return facts | {"features": generator.feature_hash} | scores
