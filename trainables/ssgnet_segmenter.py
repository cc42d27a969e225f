"""SSGNet, segmentation: a StyleGAN3 makes pictures, and a segmenter gives them masks to learn from, in rounds.

    one generator learns from the labelled pictures                  (an epoch: a few steps)
    a bank of synthetic pictures is sampled from it
    round 0: the segmenter learns from the labelled pictures
    round t: masks of the bank are those that the segmenter of round t - 1 predicts, in place of the ones before;
             the segmenter learns from the labelled pictures and the bank

Published are two rounds, that is three trainings, each from a fresh network. The generator is a stage that trials share
(`training.stages`); pictures count when its discriminator or the segmenter sees them, real or synthetic. The predictor
is the segmenter at work; a trial is evaluated at the end of each round.

Departures from the source, and why:
- A training is a number of pictures, not of epochs, which would be six times as long with the bank. The last round
  takes what is left of the budget. In each the step size falls from its start to 0.
- The round is not chosen by its validation score, and rounds do not end early by it: a learner sees no validation data.
- `unlabelled_pretrain` is our extension: the generator starts at one that has learned from all training pictures.
- Filters of pixels and pictures are ours, off by default; so is the cap on synthetic pictures in a batch.
- Everything that `segmenter` says of its departures; it is the control without a generator, at the same budget.

Published Dice of the foreground, VM-UNet, rounds 0, 1, 2: Kvasir-SEG 0.854, 0.864, 0.870; ISIC 2017 0.881, 0.889,
0.892. All labels; few shots are not published.

Source: arXiv:2510.06123 (BMVC 2025).
Shapes: B batch, N labelled, M synthetic, U unlabelled, C channels, H W pixels.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, final

import torch
from torch import Tensor, nn

from search_spaces.core.generators import layers_for
from search_spaces.ssgnet_segmenter import SsgnetSegmenterConfig
from trainables.components.mask_rounds import (
    MaskRules,
    agreement,
    flip_averaged,
    hard_masks,
    pseudo_masks,
    select_images,
)
from trainables.components.meters import Means
from trainables.components.orders import InfiniteSampler
from trainables.components.segmentation_model import (
    MaskPredictor,
    SegmentationModel,
    pixels_and_masks,
)
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.data.augment import to_signed, to_unit
from trainables.stylegan.generator_scores import grid_png
from trainables.stylegan.generator_stages import GeneratorPlan, GeneratorStage, generator_plan, thousands_of_images

log = logging.getLogger(__name__)

_MAX_BYTE = 255
_COLUMNS = 8
_DISCRIMINATOR_LR = 0.8  # of the generator's
_SCORE_IMAGES = 256
"""Synthetic pictures by which the generator is scored for the log, but no more than it sees real ones."""


@final
class SsgnetSegmenterLearner:
    """The generator as stages, what it made, and a segmenter."""

    def __init__(self, config: SsgnetSegmenterConfig, task: Task, accelerator: Accelerator) -> None:
        if task.labelled.masks_IHW is None:
            raise ValueError(f"the labelled pictures of {task.dataset} have no masks")
        self._config, self._task, self._accelerator = config, task, accelerator
        self._device = accelerator.device
        seed = int(torch.randint(2**31, ()))  # of the run's seed: generators are shared by runs that have the same
        self._segmenter = SegmentationModel(config, task, accelerator)
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._masks_NHW = task.labelled.masks_IHW.to(self._device)
        self._order = InfiniteSampler(len(task.labelled))
        self._generators = _new_generators(config, task, accelerator, seed)
        self._bank_MCHW: Tensor | None = None
        self._pseudo_MHW = torch.zeros(0, dtype=torch.uint8)
        """Probabilities of the foreground that the last round's segmenter gave, in 0..255."""

        self._kept = torch.zeros(0, dtype=torch.long)
        self._kept_order = InfiniteSampler(1)
        self._epoch, self._seen, self._budget = 0, 0, 0
        self._last_round_from = 0.0

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Train some steps of the generator per epoch; then some of the segmenter, round after round."""
        try:
            while True:
                losses = self._train_generator() if self._epoch < self._generator_epochs else self._train_segmenter()
                self._epoch += 1
                yield losses
        finally:
            for generator in self._generators:
                generator.stage.close()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its budget the training is, and see whether the budget will reach all rounds."""
        self._seen, self._budget = seen, budget
        if self._epoch == 1 and budget <= self._images_until_last_round:
            log.warning(
                "the budget ends before the last round begins: raise it, or lower generator_images or round_images"
            )

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, H, W) of the foreground, by the segmenter as it is."""
        return {"ssgnet_segmenter": self._segmenter.predict(images_BCHW)}

    def predicting_networks(self) -> Sequence[nn.Module]:
        """The segmenter, or its average."""
        return (self._segmenter.predicting,)

    def prediction_state(self) -> dict[str, Tensor]:
        """The segmenter, or its average."""
        return self._segmenter.prediction_state()

    def artefacts(self) -> dict[str, bytes]:
        """Labelled pictures in the first row, synthetic ones below, each followed by its mask; and of the stages where
        they come from, and kernel distances while they were trained."""
        stages = {
            each.stage.name: {
                "origin": each.stage.origin,
                "kid": [value for losses in each.stage.losses for key, value in losses.items() if key[:4] == "kid_"],
            }
            for each in self._generators
        }
        files = {"stages.json": json.dumps(stages, indent=1).encode()}
        if len(self._pseudo_MHW):
            files["bank.png"] = self._sheet(self._bank())
        return files

    def state_dict(self) -> dict[str, Any]:
        """Segmenter, masks of the bank, orders, the generator at work; not what is in the cache."""
        return {
            "epoch": self._epoch,
            "last_round_from": self._last_round_from,
            "stages": [each.stage.state_dict() for each in self._generators],
            "segmenter": self._segmenter.state_dict(),
            "order": self._order.state_dict(),
            "pseudo": self._pseudo_MHW,
            "kept": self._kept,
            "kept_order": self._kept_order.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._epoch, self._last_round_from = state["epoch"], state["last_round_from"]
        for generator, its_state in zip(self._generators, state["stages"], strict=True):
            generator.stage.load_state_dict(its_state)
        self._segmenter.load_state_dict(state["segmenter"])
        self._order.load_state_dict(state["order"])
        self._pseudo_MHW, self._kept = state["pseudo"].to(self._device), state["kept"]
        self._kept_order = InfiniteSampler(max(1, len(self._kept)))
        self._kept_order.load_state_dict(state["kept_order"])

    @property
    def _generator_epochs(self) -> int:
        return sum(each.stage.num_epochs for each in self._generators)

    @property
    def _images_until_last_round(self) -> int:
        config = self._config
        before = self._generator_epochs + config.rounds * _round_epochs(config)
        return sum(_epoch_images(config, 0, 0, epoch) for epoch in range(before))

    def _train_generator(self) -> dict[str, float]:
        epoch = self._epoch
        for generator in self._generators:
            if epoch < generator.stage.num_epochs:
                return generator.stage.epoch(epoch)
            epoch -= generator.stage.num_epochs
        raise AssertionError("all stages are done")

    def _train_segmenter(self) -> dict[str, float]:
        config, means = self._config, Means()
        round_, epoch = _round_and_epoch(config, self._epoch - self._generator_epochs)
        if epoch == 0:
            self._begin_round(round_)
        self._set_pace(round_, epoch)
        for step in range(epoch * config.steps_per_epoch, (epoch + 1) * config.steps_per_epoch):
            self._step(self._num_synthetic_until(step + 1) - self._num_synthetic_until(step), means)
        self._segmenter.end_epoch()
        return means.read() | {"round": float(round_), "kept": len(self._kept) / max(1, len(self._pseudo_MHW))}

    def _set_pace(self, round_: int, epoch: int) -> None:
        """A round is a training of its own; the last one takes what was left of the budget when it began."""
        if round_ < self._config.rounds:
            size = self._config.steps_per_epoch * self._config.batch_size
            self._segmenter.pace.begin_epoch(epoch * size, _round_epochs(self._config) * size)
        elif self._budget:
            start = round(self._last_round_from * self._budget)
            self._segmenter.pace.begin_epoch(self._seen - start, self._budget - start)

    # Rounds

    def _begin_round(self, round_: int) -> None:
        """Make masks for the bank by the segmenter that there is, then the segmenter that the round starts at."""
        if round_ == self._config.rounds:
            self._last_round_from = self._seen / max(self._budget, 1)
        if round_ == 0:
            return
        self._label_bank(round_)
        if self._config.round_init == "scratch":
            del self._segmenter
            self._accelerator.free_memory()  # it holds on to the network of the round before
            self._segmenter = SegmentationModel(self._config, self._task, self._accelerator)

    def _label_bank(self, round_: int) -> None:
        """Replace the masks of the bank, and chooses which of its pictures take part."""
        config, bank_MCHW, before_MHW = self._config, self._bank(), self._pseudo_MHW
        predict = self._segmenter.predict
        probs_MHW = flip_averaged(predict, bank_MCHW) if config.average_flips else predict(bank_MCHW)
        self._pseudo_MHW = (probs_MHW * _MAX_BYTE).round().to(torch.uint8)
        made = pseudo_masks(self._pseudo_MHW / _MAX_BYTE, self._rules)
        plausible_M = made.plausible_B
        if round_ > 1 and config.min_agreement:
            now, before = (
                hard_masks(each / _MAX_BYTE, config.mask_threshold) for each in (self._pseudo_MHW, before_MHW)
            )
            plausible_M = plausible_M & (agreement(now, before) >= config.min_agreement)
        self._kept = select_images(made.scores_B, plausible_M, keep_fraction=config.keep_fraction).cpu()
        self._kept_order = InfiniteSampler(max(1, len(self._kept)))

    def _bank(self) -> Tensor:
        """The synthetic pictures (M, C, H, W), uint8, on the device."""
        if self._bank_MCHW is None:
            bank = self._generators[-1].bank(self._config.synthetic_images, self._config.truncation)
            images_MCHW: Tensor = bank.result()["images"]
            self._bank_MCHW = images_MCHW[: self._config.synthetic_images].to(self._device)
        return self._bank_MCHW

    @property
    def _rules(self) -> MaskRules:
        config = self._config
        return MaskRules(
            threshold=config.mask_threshold,
            soft=config.soft,
            pixel_confidence=config.pixel_confidence,
            min_foreground=config.min_foreground,
            max_foreground=config.max_foreground,
        )

    # Steps

    def _num_synthetic_until(self, step: int) -> int:
        """Synthetic pictures in so many batches: those of a share that is kept in the long run."""
        share = len(self._kept) / (len(self._kept) + len(self._masks_NHW))
        return int(step * self._config.batch_size * min(share, self._config.max_synthetic))

    def _step(self, count: int, means: Means) -> None:
        """A batch with so many synthetic pictures."""
        real = self._config.batch_size - count
        parts = ([self._labelled(real)] if real else []) + ([self._synthetic(count)] if count else [])
        images_BCHW, targets_BHW, weights_BHW = (torch.cat(each) for each in zip(*parts, strict=True))
        self._segmenter.pace.advance(len(images_BCHW))
        loss = self._segmenter.training_step(images_BCHW, targets_BHW, weights_BHW)
        means.add(len(images_BCHW), loss=loss)

    def _labelled(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures in [0, 1], their masks, and how much each pixel counts: all alike."""
        index_N = self._order.take(count).to(self._device, non_blocking=True)
        pair = pixels_and_masks(self._images_NCHW[index_N], self._masks_NHW[index_N], self._config.image_size)
        images_BCHW, masks_BHW = self._segmenter.augmented(*pair)
        return images_BCHW, masks_BHW, torch.ones_like(masks_BHW)

    def _synthetic(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures of the bank in [0, 1], their pseudo-labels, which move with them, and the weights of pixels."""
        index_M = self._kept[self._kept_order.take(count)].to(self._device, non_blocking=True)
        made = pseudo_masks(self._pseudo_MHW[index_M] / _MAX_BYTE, self._rules)
        images_BCHW, maps_B2HW = self._segmenter.augmented_with_maps(
            to_unit(self._bank()[index_M], self._config.image_size),
            torch.stack([made.targets_BHW, made.weights_BHW], 1),
        )
        targets_BHW, weights_BHW = maps_B2HW.unbind(1)
        if not self._config.soft:
            targets_BHW = hard_masks(targets_BHW).float()
        return images_BCHW, targets_BHW, hard_masks(weights_BHW).float()

    def _sheet(self, bank_MCHW: Tensor) -> bytes:
        """A PNG file of eight columns."""
        side, half = self._config.image_size, _COLUMNS // 2
        real = pixels_and_masks(self._images_NCHW[:half], self._masks_NHW[:half], side)
        probs_MHW = self._pseudo_MHW[: half * (_COLUMNS - 1)] / _MAX_BYTE
        made = to_unit(bank_MCHW[: len(probs_MHW)], side), hard_masks(probs_MHW, self._config.mask_threshold).float()
        rows = []
        for images_BCHW, masks_BHW in (real, made):
            shown_BCHW = masks_BHW[:, None].expand_as(images_BCHW)
            pairs_BCHW = torch.stack([images_BCHW, shown_BCHW], 1).flatten(0, 1)
            gap = -len(pairs_BCHW) % _COLUMNS
            rows += [pairs_BCHW, pairs_BCHW.new_zeros(gap, *pairs_BCHW.shape[1:])]
        return grid_png(to_signed(torch.cat(rows)), columns=_COLUMNS)


def _new_generators(
    config: SsgnetSegmenterConfig, task: Task, accelerator: Accelerator, seed: int
) -> list[GeneratorStage]:
    """The one that samples, and before it the one where it starts, if there is one."""
    images_NCHW = task.labelled.images_NCHW
    pool: GeneratorStage | None = None
    if epochs := _pretrain_epochs(config):
        pool_UCHW = torch.cat([images_NCHW, task.unlabelled_NCHW])
        pool = GeneratorStage("pool", _picture_plan(config, task.channels, epochs), pool_UCHW, accelerator, seed=seed)
    plan = _picture_plan(config, task.channels, _own_epochs(config))
    own = GeneratorStage("labelled", plan, images_NCHW, accelerator, seed=seed + 1, start=pool)
    return [pool, own] if pool else [own]


def _picture_plan(config: SsgnetSegmenterConfig, channels: int, num_epochs: int) -> GeneratorPlan:
    """Plan of the generator; its time constants are at most shares of the pictures that it sees."""
    plan = generator_plan(
        config,
        channels,
        num_epochs,
        feature_network="random",
        score_images=min(_SCORE_IMAGES, num_epochs * config.steps_per_epoch * config.generator_batch),
        num_layers=layers_for(config.generator_side),
        d_lr=_DISCRIMINATOR_LR * config.generator_lr,
        augment_groups="bg",
    )
    return replace(plan, config=plan.config.within(thousands_of_images(config, num_epochs)))


def _own_epochs(config: SsgnetSegmenterConfig) -> int:
    return ceil(config.generator_images / (config.generator_batch * config.steps_per_epoch))


def _pretrain_epochs(config: SsgnetSegmenterConfig) -> int:
    if config.generator_init != "unlabelled_pretrain":
        return 0
    return ceil(config.pretrain_images / (config.generator_batch * config.steps_per_epoch))


def _round_epochs(config: SsgnetSegmenterConfig) -> int:
    """Epochs of every round but the last."""
    return ceil(config.round_images / (config.batch_size * config.steps_per_epoch))


def _round_and_epoch(config: SsgnetSegmenterConfig, epoch: int) -> tuple[int, int]:
    """The round of a segmenter's epoch, and its number in that round; the last round does not end."""
    round_ = min(epoch // _round_epochs(config), config.rounds)
    return round_, epoch - round_ * _round_epochs(config)


def _epoch_images(config: SsgnetSegmenterConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Pictures of its steps: real ones of a generator's, real and synthetic ones of the segmenter's."""
    at_generator = epoch < _own_epochs(config) + _pretrain_epochs(config)
    return (config.generator_batch if at_generator else config.batch_size) * config.steps_per_epoch


def _ends_cycle(config: SsgnetSegmenterConfig, epoch: int) -> bool:
    """Return True if a round ends after so many epochs; the last one ends with the budget."""
    done = epoch - _own_epochs(config) - _pretrain_epochs(config)
    return 0 < done <= config.rounds * _round_epochs(config) and done % _round_epochs(config) == 0


def predictor(config: SsgnetSegmenterConfig, form: TaskForm) -> Predictor:
    """The segmenter, its weights to be loaded."""
    return MaskPredictor(config, form, name="ssgnet_segmenter")


def build(config: SsgnetSegmenterConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh segmenter and its generators."""
    return SsgnetSegmenterLearner(config, task, accelerator)


METHOD = Method(
    SsgnetSegmenterConfig,
    ("segmentation",),
    build,
    predictors=("ssgnet_segmenter",),
    predictor=predictor,
    epoch_images=_epoch_images,
    cycle_ends=_ends_cycle,
)
