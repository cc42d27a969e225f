"""Supervised: a classifier trained on the labelled images alone, the floor for whatever uses unlabelled ones.

    for each batch of labelled images x with labels y:
        x, y ← mixtures of two images each, and of their labels
        C: cross-entropy(C(x), y)

With a `pretext` task the network first learns from all training images without labels
(`trainables.self_supervision.stage`). It may also go on from given weights (`pretrained`). With `head_start: probe` its
last layer begins as the logistic regression on its features that `probe` would fit, and all layers then learn slowly
(LP-FT, Kumar et al., arXiv:2202.10054); `trained_layers` says which of them learn at all.

Classifier, augmentation, mixup, schedule and AdamW are those that SPARSE has, so that the two differ in what SPARSE
adds; but where classes have unequal numbers of labels, batches here hold them alike, drawn with replacement.
Prediction uses the moving average of C's weights.
Departures: none; there is no source. The SPARSE paper has no such row; its classifier alone, trained with μ =
0 inside SPARSE, is nearest (mean validation accuracy over 11 MedMNIST sets 0.659 at 5 and 0.839 at 50 shots,
ImageNet weights).

Shapes: B batch, N labelled, C channels, H W pixels, K classes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from search_spaces.supervised import SupervisedConfig
from trainables.components.augmentation import ImageAugmentation
from trainables.components.batches import epoch_steps
from trainables.components.losses import mixup, one_hot, soft_cross_entropy
from trainables.components.meters import Means
from trainables.components.optimised_model import OptimisedModel
from trainables.components.orders import fair_order
from trainables.components.pace import pace_of
from trainables.components.prediction import classifier_predictor, predict_by_classifier
from trainables.components.probed_start import start_as_probe
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.nets.backbone import build_classifier, normalisation
from trainables.nets.fine_tuned import FineTunedNetwork, rates
from trainables.self_supervision.networks import load_body
from trainables.self_supervision.stage import PretextStage, check_budget, pretext_images


@final
class SupervisedLearner:
    """One network, one optimiser, the labelled images on the device."""

    def __init__(self, config: SupervisedConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._task, self._device = config, task, accelerator.device
        self._num_classes = task.num_classes
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._labels_N = task.labelled.labels_N.to(self._device)
        self._order = fair_order(task.labelled.labels_N)
        self._augmented = ImageAugmentation(config, task)
        self._pace = pace_of(config)
        network = _new_network(config, task, accelerator)
        self._classifier = OptimisedModel(
            network, accelerator, lr=config.lr, beta1=config.beta1, weight_decay=config.weight_decay,
            pace=self._pace, average=config.average,
            rates=_rates(network, config),
        )  # fmt: skip
        self._pretext = PretextStage(config, config.classifier, task, accelerator) if config.has_pretext else None
        self._epoch = 0

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """A few steps per epoch, after those of a pretext task."""
        try:
            while True:
                losses = self._train_pretext() if self._epoch < self._config.num_pretext_epochs else self._train()
                self._epoch += 1
                yield losses
        finally:
            if self._pretext:
                self._pretext.stage.close()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its part of the budget the training on labels is."""
        before = _images_before(self._config, len(self._task.labelled), len(self._task.unlabelled_NCHW))
        if self._pretext and not self._epoch:
            check_budget(self._config, before + _labelled_epoch_images(self._config), budget)
        self._pace.begin_epoch(seen - before, budget - before)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the classifier."""
        return predict_by_classifier(self._classifier, images_BCHW, name="supervised", side=self._config.image_size)

    def predicting_networks(self) -> Sequence[nn.Module]:
        """The classifier, or its average; none where its statistics are not to change."""
        return () if self._config.frozen_statistics else (self._classifier.predicting,)

    def prediction_state(self) -> dict[str, Tensor]:
        """The classifier, or its average, with the normalisation of its images."""
        network = self._classifier.predicting
        state = network.whole_state() if isinstance(network, FineTunedNetwork) else network.state_dict()
        return {f"classifier.{name}": tensor for name, tensor in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """Classifier, optimiser, average, pass, pretext task at work; the tensors are the live ones, not copies."""
        pretext = {"pretext": self._pretext.stage.state_dict()} if self._pretext else {}
        own = {"classifier": self._classifier.state_dict(), "order": self._order.state_dict(), "epoch": self._epoch}
        return own | pretext

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._classifier.load_state_dict(state["classifier"])
        self._order.load_state_dict(state["order"])
        self._epoch = state.get("epoch", 0)  # of before pretext tasks: none
        if self._pretext:
            self._pretext.stage.load_state_dict(state["pretext"])

    def artefacts(self) -> dict[str, bytes]:
        """Where the network of a pretext task comes from, and its measures."""
        return {"pretext.json": json.dumps(self._pretext.facts(), indent=1).encode()} if self._pretext else {}

    def _train_pretext(self) -> dict[str, float]:
        """An epoch of the pretext task; after the last one the network goes on from what it made."""
        assert self._pretext
        losses = self._pretext.epoch(self._epoch)
        if self._epoch + 1 == self._pretext.num_epochs:
            tuned = self._classifier.module
            assert isinstance(tuned, FineTunedNetwork)
            load_body(tuned.network, self._pretext.weights())
            _start_head(tuned, self._config, self._task)
            self._classifier.restart_average()
        return losses

    def _train(self) -> dict[str, float]:
        means = Means()
        for _ in range(epoch_steps(self._config.steps_per_epoch, self._config.batch_size)):
            self._step(means)
        self._classifier.finish()
        return means.read()

    def _step(self, means: Means) -> None:
        config = self._config
        index_B = self._order.take(config.batch_size).to(self._device, non_blocking=True)
        self._pace.advance(len(index_B))
        images_BCHW, labels_B = self._augmented(self._images_NCHW[index_B]), self._labels_N[index_B]
        targets_BK = one_hot(labels_B, self._num_classes)
        if config.mixup_alpha:
            images_BCHW, targets_BK = mixup(images_BCHW, labels_B, self._num_classes, config.mixup_alpha)
        if config.label_smoothing:
            targets_BK = (1 - config.label_smoothing) * targets_BK + config.label_smoothing / self._num_classes
        loss = soft_cross_entropy(self._classifier(images_BCHW), targets_BK)
        self._classifier.backward_and_step(loss)
        means.add(len(index_B), loss=loss)


def _new_network(config: SupervisedConfig, task: Task, accelerator: Accelerator) -> nn.Module:
    """Build the classifier; its last layer is fitted to the labelled images where that is asked for."""
    network = _plain_network(config, TaskForm.of(task), config.pretrained)
    if not config.is_fine_tuned:
        return network
    tuned = FineTunedNetwork(network, config, *normalisation(network, config.pretrained, task.channels))
    tuned = tuned.to(accelerator.device)
    if not config.has_pretext:
        _start_head(tuned, config, task)
    return tuned


def _start_head(network: FineTunedNetwork, config: SupervisedConfig, task: Task) -> None:
    """Fit the last layer to the labelled images where that is asked for."""
    if config.head_start == "probe":
        start_as_probe(network, task, side=config.image_size, c=config.head_c)


def _plain_network(config: SupervisedConfig, form: TaskForm, pretrained: str) -> nn.Module:
    return build_classifier(
        config.classifier, channels=form.channels, num_classes=form.num_classes, pretrained=pretrained,
        dropout=config.dropout, drop_path=config.drop_path, head_init=config.head_init,
    )  # fmt: skip


def predictor(config: SupervisedConfig, form: TaskForm) -> Predictor:
    """The classifier, its weights and the normalisation of its images to be loaded."""
    network = _plain_network(config, form, "")
    if config.is_fine_tuned:
        ends = normalisation(network, "", form.channels)
        network = FineTunedNetwork(network, config, *ends, keeps_normalisation=True)
    return classifier_predictor(network, name="supervised", side=config.image_size)


def _rates(network: nn.Module, config: SupervisedConfig) -> dict[str, float] | None:
    """Return relative step sizes, which only a head that was fitted first asks for."""
    return rates(network, config) if isinstance(network, FineTunedNetwork) and config.head_start == "probe" else None


def _epoch_images(config: SupervisedConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Images of its steps, or of the pretext task's before."""
    if epoch < config.num_pretext_epochs:
        return pretext_images(config, num_labelled + num_unlabelled, epoch)
    return _labelled_epoch_images(config)


def _images_before(config: SupervisedConfig, num_labelled: int, num_unlabelled: int) -> int:
    """Images of the pretext task."""
    epochs = range(config.num_pretext_epochs)
    return sum(_epoch_images(config, num_labelled, num_unlabelled, epoch) for epoch in epochs)


def _ends_cycle(config: SupervisedConfig, epoch: int) -> bool:
    """Return True if the classifier has learned from labels after a pretext task: before, nothing is to be compared."""
    return config.has_pretext and epoch > config.num_pretext_epochs


def _labelled_epoch_images(config: SupervisedConfig) -> int:
    return epoch_steps(config.steps_per_epoch, config.batch_size) * config.batch_size


def build(config: SupervisedConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh network, or a pretrained one where the configuration names weights."""
    return SupervisedLearner(config, task, accelerator)


METHOD = Method(
    SupervisedConfig,
    ("classification",),
    build,
    predictors=("supervised",),
    predictor=predictor,
    epoch_images=_epoch_images,
    cycle_ends=_ends_cycle,
)
