"""Constant masks: nothing is marked in any picture, or everything, by which has the higher Dice on the labelled masks.

    s ← share of a labelled mask that is foreground
    Dice of everything: 2 s / (1 + s); of nothing: 1 where s = 0, else 0
    foreground ← 1 if the mean over the labelled masks is higher for everything, else 0

Nothing is trained; the losses of an epoch are empty. Departures: none; there is no source.

Shapes: B pictures, I labelled ones, C channels, H W pixels.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

from torch import Tensor

from search_spaces.constant_masks import ConstantMasksConfig
from trainables.components.prediction import TensorPredictor
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm


@final
class ConstantMasksLearner:
    """One probability for every pixel, known from the start."""

    def __init__(self, task: Task) -> None:
        if task.labelled.masks_IHW is None:
            raise ValueError(f"the labelled pictures of {task.dataset} have no masks")
        shares_I = task.labelled.masks_IHW.flatten(1).double().mean(1)
        everything, nothing = (2 * shares_I / (1 + shares_I)).mean(), (shares_I == 0).double().mean()
        self._foreground = (everything > nothing).double()

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Epochs without losses."""
        while True:
            yield {}

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Return the same probability for every pixel (B, H, W)."""
        return _predict(self.prediction_state(), images_BCHW)

    def prediction_state(self) -> dict[str, Tensor]:
        """The probability."""
        return {"foreground": self._foreground}

    def state_dict(self) -> dict[str, Any]:
        """The probability."""
        return {"foreground": self._foreground}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._foreground = state["foreground"].cpu()


def _predict(state: Mapping[str, Tensor], images_BCHW: Tensor) -> dict[str, Tensor]:
    batch, _, height, width = images_BCHW.shape
    return {"constant_masks": state["foreground"].to(images_BCHW.device).expand(batch, height, width).clone()}


def predictor(config: ConstantMasksConfig, form: TaskForm) -> Predictor:
    """The probability, to be loaded."""
    return TensorPredictor(_predict, ("foreground",))


def build(config: ConstantMasksConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner; it needs neither settings nor a device."""
    return ConstantMasksLearner(task)


METHOD = Method(
    ConstantMasksConfig,
    ("segmentation",),
    build,
    predictors=("constant_masks",),
    predictor=predictor,
    names_one_class=True,
)
