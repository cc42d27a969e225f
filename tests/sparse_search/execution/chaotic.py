"""A method that leaves a line in a log for every epoch it trains: a user's own, named as `chaotic:METHOD`.

It moves towards the mean image of every class, with some noise, and takes its time, so that a moment can be hit.
`CHAOS_LOG` names the log; a line is `configuration label-set epoch process`. `CHAOS_SECONDS` is what an epoch takes
until there is a file named as the log and `.hurry`.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, NoReturn

import torch
from ray import tune

import sparse_search.execution.worker
from search_spaces.core.config import MethodConfig, short_hash, write_config
from search_spaces.core.ranges import Float
from trainables.core.method import Method
from trainables.data.augment import to_unit

EPOCH_SECONDS = float(os.environ.get("CHAOS_SECONDS", "0.06"))


@dataclass(frozen=True, kw_only=True)
class ChaoticConfig(MethodConfig):
    """How it moves, and whether its losses become NaN."""

    rate: Annotated[float, Float(0.01, 1.0, log=True)] = 0.1
    noise: Annotated[float, Float(0.0, 1.0)] = 0.3
    poison: Annotated[float, Float(0.0, 1.0)] = 0.0
    """Above a half, the loss of the third epoch is NaN."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"nan": {"poison": 1.0}}


class Chaotic:
    def __init__(self, config: ChaoticConfig, task: Any, accelerator: Any) -> None:
        self.config, self.epoch = config, 0
        self.name = f"{short_hash(write_config(config))} {task.provenance.label_set}"
        images_LD = self._flat(task.labelled.images_NCHW)
        labels_L = task.labelled.labels_N
        self.targets_KD = torch.stack([images_LD[labels_L == k].mean(0) for k in range(task.num_classes)])
        self.means_KD = torch.rand_like(self.targets_KD)

    def epochs(self) -> Iterator[Mapping[str, float]]:
        while True:
            if not Path(f"{os.environ['CHAOS_LOG']}.hurry").exists():
                time.sleep(EPOCH_SECONDS)
            self.epoch += 1
            self.means_KD = self.means_KD.lerp(self.targets_KD, self.config.rate)
            self.means_KD += 0.2 * self.config.noise * torch.randn_like(self.means_KD)
            with Path(os.environ["CHAOS_LOG"]).open("a") as log:
                log.write(f"{self.name} {self.epoch} {os.getpid()}\n")
            is_nan = self.epoch == 3 and self.config.poison > 0.5
            yield {"loss": float("nan") if is_nan else float((self.means_KD - self.targets_KD).norm())}

    def predict(self, images_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        distances_BK = torch.cdist(self._flat(images_BCHW), self.means_KD)
        return {"chaotic": (-distances_BK).softmax(1)}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "means": self.means_KD}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.means_KD = state["epoch"], state["means"]

    def _flat(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return to_unit(images_BCHW, self.config.image_size).flatten(1)


METHOD = Method(ChaoticConfig, ("classification",), Chaotic, ("chaotic",))


class _ForgottenError(BaseException):
    """Passes through the worker, which reports every other failure."""


def run_forgetful_trial(config: dict[str, str]) -> None:
    """As `run_trial`, but the n-th report of the sweep lacks the objective and ends its trial: `CHAOS_FORGETS`."""
    reports = Path(os.environ["CHAOS_LOG"]).with_suffix(".reports")

    def report(metrics: dict[str, Any]) -> None:
        with reports.open("a") as file:
            file.write(".")
        if reports.stat().st_size == int(os.environ["CHAOS_FORGETS"]):
            forget()
        tune.report(metrics)

    def forget() -> NoReturn:
        tune.report({"other": 1.0})
        raise _ForgottenError

    sparse_search.execution.worker.tune = SimpleNamespace(report=report)  # type: ignore[assignment]
    try:
        sparse_search.execution.worker.run_trial(config)
    except _ForgottenError:
        return
