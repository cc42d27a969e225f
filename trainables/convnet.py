"""ConvNet: SSL-GAN's discriminator trained on the labelled images alone, what a generator must beat.

    for each batch of labelled images x with classes y:
        D: cross-entropy(D(x), y)
        D̄: moving average of D's weights, which predicts

The network, its start, the optimiser, the step sizes, the average and the augmentation are those of `ssl_gan`; the
preset `paper` is the publication, the defaults are ours. Departures: the paper names the network and Table 6 for
both; that the average predicts here too is our reading.

Published AUC of the image score on 50 IDRiD images, from 64 patches each, 10 / 20 / 40 / 80 / 149 labelled images:
0.711 / 0.814 / 0.874 / 0.945 / 0.978; of the patches 0.683 / 0.728 / 0.773 / 0.795 / 0.796.

Source: Lecouat et al., arXiv:1812.07832 (2018).
Shapes: B batch, N labelled, C channels, H W pixels, K classes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor

from search_spaces.convnet import ConvnetConfig
from trainables.components.augmentation import ImageAugmentation
from trainables.components.batches import epoch_steps
from trainables.components.meters import Means
from trainables.components.orders import InfiniteSampler
from trainables.components.pace import pace_of
from trainables.components.prediction import network_state
from trainables.components.ssl_gan_classifier import (
    discriminator_predictor,
    new_discriminator,
    predict_by_discriminator,
)
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.data.augment import to_signed


@final
class ConvnetLearner:
    """One network, its optimiser and its average, the labelled images on the device."""

    def __init__(self, config: ConvnetConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._device = config, accelerator.device
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._labels_N = task.labelled.labels_N.to(self._device)
        self._augmented = ImageAugmentation(config, task)
        self._pace = pace_of(config)
        self._network = new_discriminator(config, task, accelerator, self._pace)
        self._order = InfiniteSampler(len(task.labelled), task.labelled.labels_N if config.class_balance else None)

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """A few steps per epoch."""
        while True:
            means = Means()
            for _ in range(epoch_steps(self._config.steps_per_epoch, self._config.batch_size)):
                self._step(means)
            self._network.finish()
            yield means.read()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its budget the training is."""
        self._pace.begin_epoch(seen, budget)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the averaged network."""
        return predict_by_discriminator(self._network, images_BCHW, name="convnet", side=self._config.image_size)

    def prediction_state(self) -> dict[str, Tensor]:
        """The network that predicts, or its average."""
        return network_state(classifier=self._network.predicting)

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, average, pass; the tensors are the live ones, not copies."""
        return {"network": self._network.state_dict(), "order": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._network.load_state_dict(state["network"])
        self._order.load_state_dict(state["order"])

    def _step(self, means: Means) -> None:
        index_B = self._order.take(self._config.batch_size).to(self._device, non_blocking=True)
        self._pace.advance(len(index_B))
        logits_BK, _ = self._network(to_signed(self._augmented(self._images_NCHW[index_B])))
        loss = F.cross_entropy(logits_BK, self._labels_N[index_B])
        self._network.backward_and_step(loss)
        means.add(len(index_B), sup=loss)


def _epoch_images(config: ConvnetConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Images of its steps."""
    return epoch_steps(config.steps_per_epoch, config.batch_size) * config.batch_size


def predictor(config: ConvnetConfig, form: TaskForm) -> Predictor:
    """The network that predicts, its weights to be loaded."""
    return discriminator_predictor(config, form, name="convnet")


def build(config: ConvnetConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh network."""
    return ConvnetLearner(config, task, accelerator)


METHOD = Method(
    ConvnetConfig,
    ("classification",),
    build,
    predictors=("convnet",),
    predictor=predictor,
    epoch_images=_epoch_images,
)
