"""SSGNet, classification: a StyleGAN3 per class makes images, and a classifier learns from real and made ones.

    for each class k: a generator learns from the labelled images of k            (an epoch: a few steps of one of them)
    a bank of synthetic images is sampled from each
    for each batch of real and synthetic images x with classes y:
        C: mean of w · cross-entropy(C(x), y), w = 1 for real ones
Class k of n_k labelled images gets max(0, T - n_k) + ⌊ρ T⌋ synthetic ones, T being the largest n_k:
`components.enlarge`.

Generators are stages that trials share (`training.stages`): a trial that finds one made for the same images, settings
and seed is told its losses, and reports the same curve and counts the same images as the one that made it; seconds are
those that really passed. So a search over what follows generators trains them once. Images count when a generator's
discriminator or the classifier sees them, real or synthetic. Until the classifier has learned anything, evaluations are
those of its first weights.

Departures from the source, and why:
- `generator_images` are those of all generators together, so that the cost does not depend on the number of classes.
- A classifier's epoch is some steps, not a pass: with ρ = 50 a pass would be 51 times as long.
- AdamW instead of Adam; the plateau is one of the training loss, and there is no early stopping, as a learner sees no
  validation data: the search's pruner and the budget do that.
- A generator steps at every batch and is not compiled: `accumulate` and `compile` are the classifier's.
- One linear layer ends the classifier, not the 128 million parameters of the published code.
- `unlabelled_pretrain` is our extension: one generator learns from all training images, each class's starts there.
- The segmentation branch is another method.

Published accuracy (macro-F1), from all labels, ResNet-50 without and with SSGNet: chest X-ray 0.770 → 0.840
(0.705 → 0.805), BreastMNIST 0.810 → 0.870 (0.700 → 0.825); the best policy on test data. Few shots are not published.

Source: arXiv:2510.06123 (BMVC 2025).
Shapes: B batch, N labelled, M synthetic, U unlabelled, C channels, H W pixels, K classes.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.ssgnet import SsgnetConfig
from trainables.components.enlarge import enlarging, num_synthetic
from trainables.components.meters import Means
from trainables.components.optimised_model import OptimisedModel
from trainables.components.orders import InfiniteSampler
from trainables.components.pace import Pace
from trainables.components.prediction import classifier_predictor, network_state, predict_by_classifier
from trainables.components.schedules import Plateau
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.data.augment import random_flip, to_unit
from trainables.nets.backbone import LastLayerOnly, build_classifier
from trainables.stylegan.class_generators import ClassGenerators, generator_epochs

log = logging.getLogger(__name__)


@final
class SsgnetLearner:
    """Generators as stages, what they made, and a classifier with its optimiser and plateau."""

    def __init__(self, config: SsgnetConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._device = config, accelerator.device
        seed = int(torch.randint(2**31, ()))  # of the run's seed: generators are shared by runs that have the same
        self._classifier = OptimisedModel(
            _new_classifier(config, TaskForm.of(task), config.pretrained),
            accelerator,
            lr=config.lr,
            beta1=0.9,
            weight_decay=config.weight_decay,
        )
        self._flips = config.flip and "horizontal" not in task.asymmetric
        self._plateau = Plateau(config.patience, config.plateau_factor)
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._labels_N = task.labelled.labels_N.to(self._device)
        self._synthetic: tuple[Tensor, Tensor] | None = None

        counts_K = task.labelled.labels_N.bincount(minlength=task.num_classes).tolist()
        wanted_K = num_synthetic(counts_K, config.extra_ratio, config.class_target)
        self._wanted_K = [wanted if config.synthetic and n else 0 for wanted, n in zip(wanted_K, counts_K, strict=True)]
        self._real_order = InfiniteSampler(len(task.labelled))
        self._num_synthetic = sum(self._wanted_K)
        self._synthetic_order = InfiniteSampler(max(1, self._num_synthetic))
        if config.synthetic and not self._num_synthetic:
            log.warning(
                "extra_ratio %g of %d images adds none, so generators learn for nothing: raise it, or synthetic: false",
                config.extra_ratio,
                config.class_target or max(counts_K),
            )
        self._generators = ClassGenerators(config, task, accelerator, seed) if config.synthetic else None
        self._epoch = 0
        self._pace = Pace(lambda share: 1.0)

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Train some steps of one generator per epoch, class after class; then some of the classifier."""
        try:
            while True:
                if self._generators and self._epoch < _epochs_before(self._config):
                    losses = self._generators.epoch(self._epoch)
                else:
                    losses = self._train_classifier()
                self._epoch += 1
                yield losses
        finally:
            if self._generators:
                self._generators.close()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its part of the budget the classifier is, and see whether the budget will reach it."""
        before = sum(_epoch_images(self._config, 0, 0, epoch) for epoch in range(_epochs_before(self._config)))
        self._pace.begin_epoch(seen - before, budget - before)
        if self._epoch == 1 and before >= budget:
            log.warning("the budget ends before the classifier learns anything: raise it, or lower generator_images")

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the classifier."""
        return predict_by_classifier(self._classifier, images_BCHW, name="ssgnet", side=self._config.image_size)

    def predicting_networks(self) -> Sequence[nn.Module]:
        """The classifier; not one whose backbone is frozen, with the statistics that it was trained with."""
        return () if self._config.freeze == "backbone" else (self._classifier.predicting,)

    def prediction_state(self) -> dict[str, Tensor]:
        """The classifier."""
        return network_state(classifier=self._classifier.predicting)

    def artefacts(self) -> dict[str, bytes]:
        """A sheet for each class, its labelled images in the first row and synthetic ones below; and of each generator
        where it comes from, and its scores, if it was told them."""
        if not self._generators:
            return {}
        files = {"stages.json": json.dumps(self._generators.facts(), indent=1).encode()}
        if self._num_synthetic and self._epoch > _epochs_before(self._config):
            made_MCHW, classes_M = self._synthetic or self._training_set()
            for label in self._generators.labels:
                files[f"class-{label}.png"] = self._generators.sheet(label, made_MCHW[classes_M == label])
        return files

    def state_dict(self) -> dict[str, Any]:
        """Classifier, optimiser, plateau, orders, the generator at work; not what is in the cache."""
        return {"epoch": self._epoch, **{name: part.state_dict() for name, part in self._parts().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._epoch = state["epoch"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, OptimisedModel[Any] | Plateau | InfiniteSampler | ClassGenerators]:
        orders = {"real_order": self._real_order, "synthetic_order": self._synthetic_order}
        generators = {"generators": self._generators} if self._generators else {}
        return {"classifier": self._classifier, "plateau": self._plateau, **orders, **generators}

    def _training_set(self) -> tuple[Tensor, Tensor]:
        """The synthetic images (M, C, H, W) and their classes (M,), on the device."""
        banks = [self._generators.bank(k, n) if self._generators and n else None for k, n in enumerate(self._wanted_K)]
        images_MCHW, labels_M = enlarging(banks, self._wanted_K)
        return images_MCHW.to(self._device), labels_M.to(self._device)

    # Classifier

    def _train_classifier(self) -> dict[str, float]:
        config, means = self._config, Means()
        if self._synthetic is None and self._num_synthetic:
            self._synthetic = self._training_set()
        first = (self._epoch - _epochs_before(config)) * config.steps_per_epoch
        for step in range(first, first + config.steps_per_epoch):
            self._step(self._num_synthetic_until(step + 1) - self._num_synthetic_until(step), means)
        self._classifier.finish()
        losses = means.read()
        self._plateau.update(losses["loss"], self._pace.share)
        self._classifier.set_lr(config.lr * self._plateau.scale)
        return losses

    def _num_synthetic_until(self, step: int) -> int:
        """Synthetic images in so many batches: those of a share that is kept in the long run."""
        share = self._num_synthetic / (self._num_synthetic + len(self._labels_N))
        share = min(share, self._config.max_synthetic)
        return int(step * self._config.batch_size * share)

    def _step(self, count: int, means: Means) -> None:
        """A batch with so many synthetic images."""
        self._pace.advance(self._config.batch_size)
        images_BCHW, labels_B = self._batch(count)
        logits_BK = self._classifier(random_flip(images_BCHW) if self._flips else images_BCHW)
        losses_B = F.cross_entropy(logits_BK, labels_B, reduction="none")
        synthetic_B, real_B = losses_B[:count], losses_B[count:]
        loss = (self._config.synthetic_weight * synthetic_B.sum() + real_B.sum()) / len(losses_B)
        self._classifier.backward_and_step(loss)
        means.add(len(losses_B), loss=loss)
        for name, part in (("real", real_B), ("synthetic", synthetic_B)):
            if len(part):
                means.add(len(part), **{name: part.mean()})

    def _batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [0, 1] and labels (B,), the synthetic ones first."""
        side = self._config.image_size
        index_N = self._real_order.take(self._config.batch_size - count).to(self._device, non_blocking=True)
        images_BCHW, labels_B = to_unit(self._images_NCHW[index_N], side), self._labels_N[index_N]
        if count == 0 or self._synthetic is None:
            return images_BCHW, labels_B
        index_M = self._synthetic_order.take(count).to(self._device, non_blocking=True)
        made_MCHW, classes_M = (each[index_M] for each in self._synthetic)
        return torch.cat([to_unit(made_MCHW, side), images_BCHW]), torch.cat([classes_M, labels_B])


def _new_classifier(config: SsgnetConfig, form: TaskForm, pretrained: str) -> nn.Module:
    network = build_classifier(
        config.classifier, channels=form.channels, num_classes=form.num_classes, pretrained=pretrained
    )
    return LastLayerOnly(network) if config.freeze == "backbone" else network


def _epochs_before(config: SsgnetConfig) -> int:
    """Epochs before the classifier's first."""
    return generator_epochs(config) if config.synthetic else 0


def _epoch_images(config: SsgnetConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Images of its steps: real ones of a generator's, real and synthetic ones of the classifier's."""
    batch = config.generator_batch if epoch < _epochs_before(config) else config.batch_size
    return batch * config.steps_per_epoch


def _ends_cycle(config: SsgnetConfig, epoch: int) -> bool:
    """Return True if the classifier has learned: before, there is nothing to compare."""
    return epoch > _epochs_before(config)


def predictor(config: SsgnetConfig, form: TaskForm) -> Predictor:
    """The classifier, its weights to be loaded."""
    return classifier_predictor(_new_classifier(config, form, ""), name="ssgnet", side=config.image_size)


def build(config: SsgnetConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh classifier, or a pretrained one where the configuration names weights."""
    return SsgnetLearner(config, task, accelerator)


METHOD = Method(
    SsgnetConfig,
    ("classification",),
    build,
    predictors=("ssgnet",),
    predictor=predictor,
    epoch_images=_epoch_images,
    cycle_ends=_ends_cycle,
)
