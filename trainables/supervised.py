"""Supervised: a classifier trained on the labelled images alone, the floor for whatever uses unlabelled ones.

    for each batch of labelled images x with labels y:
        C: cross-entropy(C(x), y) + γ · soft cross-entropy(C(mixed x), mixed y)

Everything that is not the method is SPARSE's: the same classifier, batches, flips, mixup and AdamW.
Departures: none; there is no source. The SPARSE paper has no such row; its classifier alone, trained with μ =
0 inside SPARSE, is nearest (mean validation accuracy over 11 MedMNIST sets 0.659 at 5 and 0.839 at 50 shots,
ImageNet weights).

Shapes: B batch, N labelled, C channels, H W pixels, K classes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from search_spaces.supervised import SupervisedConfig
from trainables.components.batches import even_batches
from trainables.components.losses import mixup, soft_cross_entropy
from trainables.components.meters import Means
from trainables.components.optimised_model import OptimisedModel
from trainables.components.prediction import predict_by_classifier
from trainables.core.method import Learner, Method, Task
from trainables.data.augment import random_flip, to_unit
from trainables.nets.backbone import build_classifier


@final
class SupervisedLearner:
    """One network, one optimiser, the labelled images on the device."""

    def __init__(self, config: SupervisedConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._num_classes, self._device = config, task.num_classes, accelerator.device
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._labels_N = task.labelled.labels_N.to(self._device)
        self._epoch = 0
        network = build_classifier(
            config.classifier, channels=task.channels, num_classes=task.num_classes,
            pretrained=config.pretrained, dropout=config.dropout, drop_path=config.drop_path,
        )  # fmt: skip
        self._classifier = OptimisedModel(
            network, accelerator, lr=config.lr, beta1=config.beta1, weight_decay=config.weight_decay
        )

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """One pass over the labelled images per step."""
        while True:
            means = Means()
            for index_B in even_batches(len(self._labels_N), self._config.batch_size):
                self._train_batch(index_B.to(self._device, non_blocking=True), means)
            self._classifier.finish()
            self._epoch += 1
            yield means.read()

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the classifier."""
        return predict_by_classifier(self._classifier, images_BCHW, name="supervised", side=self._config.image_size)

    def state_dict(self) -> dict[str, Any]:
        """Classifier, optimiser, epochs done; the tensors are the live ones, not copies."""
        return {"epoch": self._epoch, "classifier": self._classifier.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._epoch = state["epoch"]
        self._classifier.load_state_dict(state["classifier"])

    def _train_batch(self, index_B: Tensor, means: Means) -> None:
        config, labels_B = self._config, self._labels_N[index_B]
        images_BCHW = self._images_NCHW[index_B]
        images_BCHW = to_unit(random_flip(images_BCHW) if config.flip else images_BCHW, config.image_size)
        loss = plain = F.cross_entropy(self._classifier(images_BCHW), labels_B)
        if config.w_mixup:
            mixed_BCHW, targets_BK = mixup(images_BCHW, labels_B, self._num_classes, config.mixup_alpha)
            loss = plain + config.w_mixup * soft_cross_entropy(self._classifier(mixed_BCHW), targets_BK)
        self._classifier.backward_and_step(loss)
        means.add(len(index_B), loss=loss, cross_entropy=plain)


def build(config: SupervisedConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh network, or a pretrained one where the configuration names weights."""
    return SupervisedLearner(config, task, accelerator)


METHOD = Method(SupervisedConfig, ("classification",), build, predictors=("supervised",))
