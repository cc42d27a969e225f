"""What runs inside a Ray trial, and the only module that does.

A trial trains its runs one after the other and reports after every evaluation. Whatever happens inside is an
outcome that is reported; only the death of the process reaches Tune as an error.
"""

import json
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import torch
from ray import tune
from torch import Tensor

from search_spaces.core.config import short_hash, write_config
from search_spaces.core.errors import UserError
from trainables.core.checkpoint import Checkpoints
from trainables.core.method import Task, Validation
from trainables.core.train import DivergedError, Progress
from trainables.core.trial import PROTOCOL, Run, Trial
from trainables.data.tasks import few_shot_task, hidden_labels

VALUE = "value"
"""Name of the reported objective."""

OF_NAMED_CLASSES = ("balanced_accuracy", "accuracy", "macro_f1")
"""Objectives that say nothing of a predictor which names one class for every image."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs to know, as plain values."""

    trial: dict[str, Any]
    sweep: str
    study: str
    number: int
    start: str
    objective: str
    checkpoints: str
    data_root: str | None

    def to_json(self) -> str:
        """One text, as Tune would take nested values apart."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The job that `to_json` wrote."""
        return cls(**json.loads(text))


def run_trial(config: dict[str, str]) -> None:
    """Trains one trial and reports to Tune; the function that Tune calls."""
    trained: _Training | None = None
    outcome: dict[str, Any] = {}
    try:
        trained = _Training(Job.from_json(config["job"]))
        for value in trained.evaluations():
            tune.report(trained.report(value))
        if collapse := trained.collapse():
            outcome = {"outcome": "collapsed", "reason": collapse, VALUE: 0.0}
    except (DivergedError, torch.OutOfMemoryError) as why:
        outcome = {"outcome": "diverged", "reason": str(why).splitlines()[0], VALUE: 0.0}
    except UserError as why:
        outcome = {"outcome": "failed", "reason": str(why), VALUE: 0.0}
    except Exception:  # the boundary: a failure becomes a failed row with its traceback
        outcome = {"outcome": "failed", "reason": traceback.format_exc(), VALUE: 0.0, "retry": True}
    tune.report((trained.report(trained.value, final=True) if trained else _NOTHING) | outcome)


_NOTHING: dict[str, Any] = {
    VALUE: 0.0, "step": 0, "final": True, "outcome": "", "reason": "", "retry": False, "records": "[]",
}  # fmt: skip
"""Every key of a report: Tune insists on the same set each time."""


class _Training:
    """A trial at work: the run it is at, and the objective as it stands."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trial = Trial.from_dict(job.trial)
        self.value = 0.0
        self._step = 0
        self._record: dict[str, Any] = {}
        self._collapses: list[str] = []
        if self.trial.device == "gpu":
            torch.cuda.reset_peak_memory_stats()

    def evaluations(self) -> Iterator[float]:
        """Trains every run; yields the mean objective at every evaluation but the last, which is the result."""
        finished: list[float] = []
        runs = self.trial.runs()
        for position, run in enumerate(runs):
            trial, started = self.trial, time.perf_counter()
            task, hidden_labels_M = _images(
                trial.dataset, trial.shots, run.label_set, trial.validation, self.job.data_root, run.fold
            )
            identity = self._identity(run, task)
            self._record = identity | self._measured(started, [])
            folder = Path(self.job.checkpoints, f"{run.label_set}-{run.fold}")
            for progress in run.train(task, checkpoints=Checkpoints(folder), hidden_labels_M=hidden_labels_M):
                if not progress.scores:
                    continue
                self._step = position * trial.epochs + progress.stands_for
                self._record = identity | self._measured(started, [progress])
                self.value = fmean([*finished, self._objective(progress)])
                if progress.stands_for == trial.epochs:
                    finished.append(self._objective(progress))
                    self._collapses.append(progress.collapse)
                if len(finished) < len(runs):  # what a checkpoint replays is reported again: the driver may be new
                    yield self.value

    def collapse(self) -> str:
        """Why the objective says nothing: at its end every run names one class for all images; else empty."""
        if self.job.objective not in OF_NAMED_CLASSES or not all(self._collapses):
            return ""
        return "; ".join(dict.fromkeys(self._collapses))

    def report(self, value: float, *, final: bool = False) -> dict[str, Any]:
        """What Tune is told: the objective, and of the record what is new."""
        records = json.dumps([self._record] if self._record else [])
        return _NOTHING | {VALUE: value, "step": self._step, "final": final, "records": records}

    def _objective(self, progress: Progress) -> float:
        main = self.trial.find_method().predictors[0]
        return progress.selected[main].metric(self.job.objective) or 0.0

    def _identity(self, run: Run, task: Task) -> dict[str, Any]:
        """What of a record is known before training."""
        trial, job = self.trial, self.job
        run_id = run.run_id(task.provenance.content_hash)
        same = (
            "method", "epochs", "evaluate_every", "selection", "seed", "precision", "accumulate", "compile", "threads",
        )  # fmt: skip
        return (
            asdict(task.provenance)
            | {name: getattr(trial, name) for name in same}
            | {
                "record_id": short_hash(
                    {"run_id": run_id, "study": job.study, "number": job.number, "sweep": job.sweep}
                ),
                "run_id": run_id,
                "trial_id": trial.trial_id,
                "num_runs": len(trial.runs()),
                "label_sets": ", ".join(map(str, sorted(trial.label_sets))),
                "sweep": job.sweep,
                "study": job.study,
                "number": job.number,
                "start": job.start,
                "predictors": list(trial.find_method().predictors),
                "config": write_config(trial.config),
                "dataset": task.dataset,
                "source": trial.dataset,
                "protocol": PROTOCOL,
                "processor": trial.device,
                "device": _device(trial.device),
                "host": platform.node(),
                "versions": _versions(),
            }
        )

    def _measured(self, started: float, progress: list[Progress]) -> dict[str, Any]:
        """What of a record changes while training."""
        return {
            "wall_seconds": time.perf_counter() - started,
            "peak_memory_bytes": _peak_memory_bytes(self.trial.device),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "curve": [
                {
                    "epoch": point.epoch,
                    "seconds": point.train_seconds,
                    "losses": [dict(entry) for entry in point.log],
                    "scores": {name: scores.as_dict() for name, scores in point.scores.items()},
                    "selected": {name: scores.as_dict() for name, scores in point.selected.items()},
                }
                for point in progress
            ],
        }


@lru_cache(maxsize=2)
def _images(
    dataset: str, shots: int, label_set: int, validation: Validation, root: str | None, fold: int
) -> tuple[Task, Tensor]:
    """A run's task and, for diagnosis only, the hidden labels; kept, as one process serves many trials of a study."""
    asked = (dataset, shots, label_set, validation, Path(root) if root else None, fold)
    return few_shot_task(*asked), hidden_labels(*asked)


def _peak_memory_bytes(device: str) -> int:
    """Of this trial on a GPU; of this process so far on a CPU."""
    if device == "gpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def _device(device: str) -> str:
    if device == "gpu":
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


@cache
def _versions() -> dict[str, str]:
    packages = ("sparse-search", "torch", "timm", "accelerate", "ray", "optuna")
    return {name: version(name) for name in packages} | {
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str:
    """Commit of the checkout this runs from; empty for an installed package."""
    folder = Path(sys.modules["sparse_search"].__path__[0]).parent
    if not (folder / ".git").exists():
        return ""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()
