"""ResNet: a standard CNN trained on the labelled images alone, the supervised rows beside SSL-GAN.

    for each batch of labelled images x with classes y, every x mirrored, turned and moved at random:
        C: mean of w(y) · cross-entropy(C(x), y),  w(k) = N / (K · images of class k)
    after a share of the budget without a lower training loss: step size × 0.1

The paper's binary cross-entropy with balanced class weights is this loss with K = 2: softmax of two logits is the
sigmoid of their difference. ResNet-34 classifies patches (`paper`), ResNet-50 whole images (`whole`).
Departures from the source, and why:
- The plateau is one of the training loss, as a learner sees no validation data; its patience, ten epochs there, is a
  share of the budget, as ten epochs of few labels are ten steps.
- Defaults are ours: a hundred times the step size, half a cosine, milder motion, the average of the weights.
- Early stopping, there after 20 epochs without progress, is left to the search's pruner and the budget.
- What an image's motion uncovers shows the image mirrored at its edge: the paper says nothing, and repeating the edge
  itself would fill up to half of a patch with streaks.
- The pretrained network of the paper has no name: `pretrained` takes any weights.

Published AUC on 50 IDRiD images, 10 / 20 / 40 / 80 / 149 labelled images: ResNet-34 of patches 0.522 / 0.615 / 0.739 /
0.812 / 0.851, of the image score from 64 of them 0.713 / 0.794 / 0.805 / 0.842 / 0.989; of whole images ResNet-50
0.568 / 0.650 / 0.678 / 0.764 / 0.822, pretrained 0.858 / 0.982 / 0.988 / 0.992 / 0.988.

Source: Lecouat et al., arXiv:1812.07832 (2018), Tables 1, 2, 5 and 7.
Shapes: B batch, N labelled, C channels, H W pixels, K classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from search_spaces.resnet import ResnetConfig
from trainables.components.augmentation import ImageAugmentation
from trainables.components.batches import even_batches
from trainables.components.losses import balanced_weights, weighted_cross_entropy
from trainables.components.meters import Means
from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import pace_of
from trainables.components.prediction import classifier_predictor, network_state, predict_by_classifier
from trainables.components.schedules import Plateau
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.nets.backbone import build_classifier


@final
class ResnetLearner:
    """One network, its optimiser and its plateau, the labelled images on the device."""

    def __init__(self, config: ResnetConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._device, labels_N = config, accelerator.device, task.labelled.labels_N
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._labels_N = labels_N.to(self._device)
        weights_K = balanced_weights(labels_N, task.num_classes) if config.class_weights else None
        self._weights_K = None if weights_K is None else weights_K.to(self._device)
        network = _new_network(config, TaskForm.of(task), config.pretrained)
        # Without decay AdamW is Adam.
        self._pace = pace_of(config)
        self._classifier = OptimisedModel(
            network,
            accelerator,
            lr=config.lr,
            beta1=config.beta1,
            weight_decay=0.0,
            pace=self._pace,
            average=config.average,
        )
        self._plateau = Plateau(config.patience, config.plateau_factor)
        self._augmented = ImageAugmentation(config, task)

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """One pass over the labelled images per step; its mean loss decides on the step size of the next."""
        while True:
            means = Means()
            for index_B in even_batches(len(self._labels_N), self._config.batch_size):
                self._train_batch(index_B.to(self._device, non_blocking=True), means)
            self._classifier.finish()
            losses = means.read()
            self._plateau.update(losses["loss"], self._pace.share)
            self._classifier.set_lr(self._config.lr * self._plateau.scale)
            yield losses

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its budget the training is."""
        self._pace.begin_epoch(seen, budget)

    def predicting_networks(self) -> Sequence[nn.Module]:
        """The classifier, or its average."""
        return (self._classifier.predicting,)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the classifier."""
        return predict_by_classifier(self._classifier, images_BCHW, name="resnet", side=self._config.image_size)

    def prediction_state(self) -> dict[str, Tensor]:
        """The classifier, or its average."""
        return network_state(classifier=self._classifier.predicting)

    def state_dict(self) -> dict[str, Any]:
        """Classifier, optimiser with its step size, plateau; the tensors are the live ones, not copies."""
        return {"classifier": self._classifier.state_dict(), "plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._classifier.load_state_dict(state["classifier"])
        self._plateau.load_state_dict(state["plateau"])

    def _train_batch(self, index_B: Tensor, means: Means) -> None:
        self._pace.advance(len(index_B))
        images_BCHW = self._augmented(self._images_NCHW[index_B])
        loss = weighted_cross_entropy(self._classifier(images_BCHW), self._labels_N[index_B], self._weights_K)
        self._classifier.backward_and_step(loss)
        means.add(len(index_B), loss=loss)


def _new_network(config: ResnetConfig, form: TaskForm, pretrained: str) -> nn.Module:
    return build_classifier(
        config.classifier, channels=form.channels, num_classes=form.num_classes, pretrained=pretrained
    )


def predictor(config: ResnetConfig, form: TaskForm) -> Predictor:
    """The classifier, its weights to be loaded."""
    return classifier_predictor(_new_network(config, form, ""), name="resnet", side=config.image_size)


def build(config: ResnetConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh network, or a pretrained one where the configuration names weights."""
    return ResnetLearner(config, task, accelerator)


METHOD = Method(ResnetConfig, ("classification",), build, predictors=("resnet",), predictor=predictor)
