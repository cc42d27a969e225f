"""The supervised method with a witness: `witness:METHOD`. `WITNESS_LOG` names a log of which process has trained what.

A line is `rank process parent raylet epoch`: the raylet that Ray started on a node tells the node. An epoch takes
`WITNESS_SECONDS` longer, so that a moment can be hit, until there is a file named as the log and `.hurry`.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from search_spaces.supervised import SupervisedConfig
from trainables import supervised
from trainables.core.method import Task


@dataclass(frozen=True, kw_only=True)
class WitnessConfig(SupervisedConfig):
    """Of the supervised method."""


class Witness(supervised.SupervisedLearner):  # type: ignore[misc]
    """An epoch is one step on all labelled images."""

    def __init__(self, config: WitnessConfig, task: Task, accelerator: Accelerator) -> None:
        super().__init__(replace(config, batch_size=len(task.labelled), steps_per_epoch=1), task, accelerator)
        self._counted = 0

    def epochs(self) -> Iterator[Mapping[str, float]]:
        names = (os.environ.get("RANK", "0"), os.getpid(), os.getppid(), os.environ["RAY_RAYLET_PID"])
        for losses in super().epochs():
            self._counted += 1
            log_path = Path(os.environ["WITNESS_LOG"])
            if not log_path.with_name(f"{log_path.name}.hurry").exists():
                time.sleep(float(os.environ.get("WITNESS_SECONDS", "0")))
            with log_path.open("a") as log:
                log.write(" ".join(map(str, (*names, self._counted))) + "\n")
            yield losses

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"counted": self._counted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._counted = state["counted"]


def _epoch_images(config: WitnessConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    return num_labelled


METHOD = replace(supervised.METHOD, config=WitnessConfig, build=Witness, epoch_images=_epoch_images)
