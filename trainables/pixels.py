"""Pixels: multinomial logistic regression on the pixels of the labelled images, by scikit-learn.

    probabilities ← softmax(W x + b),  W and b minimise Σ cross-entropy + ‖W‖² / (2 C),  x pixels in [0, 1]

Classes with unequal numbers of labels weigh alike.
There are no epochs: the first one fits, those after it do nothing, so that a budget of any size ends with the same.
Departures: none; there is no source. Every class needs a labelled image.

Shapes: B images, N labelled, C channels, H W pixels, D = C · H · W features, K classes.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.pixels import PixelsConfig
from trainables.components.prediction import TensorPredictor, class_probabilities, predict_in_chunks
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.data.augment import to_unit

_MAX_STEPS = 5_000


@final
class PixelsLearner:
    """Weights (D, K) and biases (K,), zero until they are fitted."""

    def __init__(self, config: PixelsConfig, task: Task) -> None:
        self._config, self._labelled = config, task.labelled
        features = task.channels * config.image_size**2
        self._weights_DK = torch.zeros(features, task.num_classes, dtype=torch.float64)
        self._biases_K = torch.zeros(task.num_classes, dtype=torch.float64)
        self._loss = 0.0
        """Of the labelled images; 0 as long as nothing is fitted."""

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Fit in the first epoch; the others say its loss again."""
        while True:
            if not self._loss:
                self._fit()
            yield {"cross_entropy": self._loss}

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K)."""
        return _predict(self.prediction_state(), images_BCHW, self._config.image_size)

    def prediction_state(self) -> dict[str, Tensor]:
        """Weights and biases."""
        return {"weights": self._weights_DK, "biases": self._biases_K}

    def state_dict(self) -> dict[str, Any]:
        """Weights, biases, and their loss."""
        return {"weights": self._weights_DK, "biases": self._biases_K, "loss": self._loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._weights_DK, self._biases_K = state["weights"].cpu(), state["biases"].cpu()
        self._loss = state["loss"]

    def _fit(self) -> None:
        from sklearn.linear_model import LogisticRegression  # half a second, which no other method should wait for

        features_ND = to_unit(self._labelled.images_NCHW, self._config.image_size).flatten(1).double().numpy()
        labels_N = self._labelled.labels_N.numpy()
        if len(set(labels_N.tolist())) > 1:
            model = LogisticRegression(C=self._config.c, class_weight="balanced", max_iter=_MAX_STEPS).fit(
                features_ND, labels_N
            )
            weights_KD, biases_K = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
            if len(model.classes_) == 2:  # one row, of the second class against the first
                weights_KD, biases_K = torch.cat([-weights_KD, weights_KD]) / 2, torch.cat([-biases_K, biases_K]) / 2
            known = torch.from_numpy(model.classes_).long()
            self._biases_K.fill_(-torch.inf)[known] = biases_K
            self._weights_DK[:, known] = weights_KD.T
        logits_NK = torch.from_numpy(features_ND) @ self._weights_DK + self._biases_K
        self._loss = float(F.cross_entropy(logits_NK, self._labelled.labels_N))


def _predict(state: Mapping[str, Tensor], images_BCHW: Tensor, side: int) -> dict[str, Tensor]:
    def linear(unit_BCHW: Tensor) -> dict[str, Tensor]:
        return {"pixels": class_probabilities(unit_BCHW.flatten(1).double() @ state["weights"] + state["biases"])}

    return predict_in_chunks(linear, images_BCHW, side=side, device=torch.device("cpu"), networks=())


def predictor(config: PixelsConfig, form: TaskForm) -> Predictor:
    """Weights and biases, to be loaded."""
    return TensorPredictor(partial(_predict, side=config.image_size), ("weights", "biases"))


def build(config: PixelsConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner; it needs no device."""
    return PixelsLearner(config, task)


METHOD = Method(PixelsConfig, ("classification",), build, predictors=("pixels",), predictor=predictor, draws=False)
