"""A method that learns nothing and takes as long as it is told to: what remains of a trial is overhead.

For `overhead.py`, as a user's own method `bench.trivial:METHOD`. Its objective is made up from the configuration; to
score it as any other, the learner draws the task again, as the one it gets has no validation labels, and names as many
of these as the objective says.

Shapes: B images, K classes.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from torch import Tensor

from search_spaces.core.config import MethodConfig
from search_spaces.core.ranges import Choice, Float, Int
from trainables.core.conditions import Validation
from trainables.core.method import Method, Task
from trainables.data.tasks import few_shot_task


@dataclass(frozen=True, kw_only=True)
class TrivialConfig(MethodConfig):
    """Knobs as a real method has them, and the time of an epoch."""

    lr: Annotated[float, Float(1e-4, 1e-1, log=True)] = 1e-3
    dropout: Annotated[float, Float(0.0, 0.5)] = 0.1
    momentum: Annotated[float, Float(0.5, 0.99)] = 0.9
    depth: Annotated[int, Int(1, 8)] = 2
    batch_size: Annotated[int, Choice(8, 16, 32, 64)] = 16
    optimizer: Annotated[str, Choice("sgd", "adam")] = "adam"
    seconds: float = 0.0


def objective(values: Mapping[str, Any]) -> float:
    """In [0, 1], smooth, with its best inside the space."""
    misses = (
        (math.log10(values["lr"]) + 2.5) / 2,
        2 * values["dropout"] - 0.4,
        values["momentum"] - 0.9,
        (values["depth"] - 4) / 8,
        (values["batch_size"] - 32) / 64,
        0.2 * (values["optimizer"] == "sgd"),
    )
    return math.exp(-sum(miss**2 for miss in misses))


def _labels_of(task: Task) -> Tensor:
    about = task.provenance
    return _drawn(task.dataset, about.shots, about.label_set, about.validation, about.fold)


@lru_cache(maxsize=8)
def _drawn(dataset: str, shots: int, label_set: int, validation: Validation, fold: int) -> Tensor:
    return few_shot_task(dataset, shots, label_set, validation, fold=fold).validation.labels_N


class Trivial:
    def __init__(self, config: TrivialConfig, task: Task, accelerator: Accelerator) -> None:
        self._config = config
        labels_B = _labels_of(task)
        right_B = torch.arange(len(labels_B)) < objective(vars(config)) * len(labels_B)
        named_B = torch.where(right_B, labels_B, (labels_B + 1) % task.num_classes)
        self._probs_BK = torch.nn.functional.one_hot(named_B, task.num_classes).float()

    def epochs(self) -> Iterator[Mapping[str, float]]:
        while True:
            time.sleep(self._config.seconds)
            yield {"loss": 0.0}

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        return {"trivial": self._probs_BK}

    def state_dict(self) -> dict[str, Any]:
        return {"probs": self._probs_BK}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._probs_BK = state["probs"]


METHOD = Method(TrivialConfig, ("classification",), Trivial, ("trivial",))
