"""A method that misbehaves as it is told to: a user's own, named as `flaky:METHOD`."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch

from search_spaces.core.config import MethodConfig
from search_spaces.core.ranges import Choice
from trainables.core.method import Method

BEHAVIOURS = ("fine", "nan", "raise", "die once", "die", "one class")


@dataclass(frozen=True, kw_only=True)
class FlakyConfig(MethodConfig):
    """What to do in the third epoch, or what to predict."""

    behaviour: Annotated[str, Choice(*BEHAVIOURS)] = "fine"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {name: {"behaviour": name} for name in BEHAVIOURS[1:]}


def _die() -> None:
    time.sleep(2)  # until the checkpoint, which is written while training goes on, is there
    os._exit(1)


class Flaky:
    def __init__(self, config: FlakyConfig, task: Any, accelerator: Any) -> None:
        self.config, self.num_classes, self.epoch = config, task.num_classes, 0

    def epochs(self) -> Iterator[Mapping[str, float]]:
        while True:
            self.epoch += 1
            with Path(os.environ["FLAKY_LOG"]).open("a") as log:
                log.write(f"{self.config.behaviour} {self.epoch}\n")
            yield {"loss": self._misbehave() if self.epoch == 3 else 1.0}

    def _misbehave(self) -> float:
        seen = Path(os.environ["FLAKY_LOG"]).read_text().count(f"{self.config.behaviour} 3\n")
        match self.config.behaviour:
            case "nan":
                return float("nan")
            case "raise":
                raise RuntimeError("the disk is on fire")
            case "die":
                _die()
            case "die once" if seen == 1:
                _die()
        return 1.0

    def predict(self, images_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        named_B = torch.arange(len(images_BCHW)) % (1 if self.config.behaviour == "one class" else self.num_classes)
        return {"flaky": 0.9 * torch.eye(self.num_classes)[named_B] + 0.1 / self.num_classes}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]


METHOD = Method(FlakyConfig, ("classification",), Flaky, ("flaky",))
