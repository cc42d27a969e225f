"""Constant: every image gets the class frequencies of the labelled images.

    probabilities ← label frequencies, moved 0.001 towards the most frequent class (the lowest of equals)

The move makes the majority class the only maximum, so that hard predictions do not depend on how ties are
broken: few-shot labels are balanced, and all classes tie. Nothing is trained; the losses of an epoch are
empty. Departures: none; there is no source. Balanced accuracy is 1 / K by construction.

Shapes: B images, C channels, H W pixels, K classes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor

from search_spaces.constant import ConstantConfig
from trainables.components.prediction import TensorPredictor
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm

_NUDGE = 1e-3


@final
class ConstantLearner:
    """Class frequencies (K,), known from the start."""

    def __init__(self, task: Task) -> None:
        counts_K = torch.bincount(task.labelled.labels_N.cpu(), minlength=task.num_classes)
        majority = counts_K.tolist().index(int(counts_K.max()))
        self._probs_K = (1 - _NUDGE) * counts_K / counts_K.sum().clamp(min=1)
        self._probs_K[majority] += 1 - self._probs_K.sum()

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Epochs without losses."""
        while True:
            yield {}

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Return the same probabilities (B, K) for every image."""
        return _predict(self.prediction_state(), images_BCHW)

    def prediction_state(self) -> dict[str, Tensor]:
        """The frequencies."""
        return {"probs": self._probs_K}

    def state_dict(self) -> dict[str, Any]:
        """The frequencies."""
        return {"probs": self._probs_K}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._probs_K = state["probs"].cpu()


def _predict(state: Mapping[str, Tensor], images_BCHW: Tensor) -> dict[str, Tensor]:
    return {"constant": state["probs"].to(images_BCHW.device).repeat(len(images_BCHW), 1)}


def predictor(config: ConstantConfig, form: TaskForm) -> Predictor:
    """The frequencies, to be loaded."""
    return TensorPredictor(_predict, ("probs",))


def build(config: ConstantConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner; it needs neither settings nor a device."""
    return ConstantLearner(task)


METHOD = Method(
    ConstantConfig,
    ("classification",),
    build,
    predictors=("constant",),
    predictor=predictor,
    names_one_class=True,
)
