"""The worker: all that runs inside a Ray trial, and the only module that does.

A trial climbs its rungs: at each it trains as many of its runs as far as the rung says, and reports. Whatever happens
inside is an outcome that is reported; only the death of the process, and that a node of its is gone or about to leave,
reach Tune as an error.
"""

import gc
import json
import platform
import resource
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import torch
from ray import tune
from torch import Tensor

from search_spaces.core.config import short_hash, write_config
from search_spaces.core.errors import UserError
from search_spaces.core.ranges import inactive_fields
from sparse_search.execution.draining import NodeLeavesError, is_leaving
from sparse_search.execution.multi_node import NodeLostError, RemoteRanks, confine
from sparse_search.execution.stored_checkpoints import PATIENCE_SECONDS, checkpoints_at, forget_here
from sparse_search.results.files import write_atomically
from sparse_search.results.mirror import send, store_at
from sparse_search.results.predictions import artefact_folder, write_predictions
from sparse_search.search.outcomes import search_value
from sparse_search.search.sweep import Rung
from sparse_search.versions import versions
from trainables.core.conditions import PROTOCOL, Validation
from trainables.core.kind import Kind
from trainables.core.method import Labelled, Task, predictor_names
from trainables.data.tasks import few_shot_task, hidden_labels
from trainables.metrics.scoring import read_scores
from trainables.metrics.selection import collapse
from trainables.metrics.table import METRICS
from trainables.nets.weights import weight_versions
from trainables.training.prediction import DivergedError
from trainables.training.processes import forget_launcher
from trainables.training.run import Run, runs_of_trial
from trainables.training.train import Progress
from trainables.training.trial import Trial

VALUE = "value"
"""Name of the reported objective."""

QUIET_SECONDS = 5.0
"""Least time between two signs of life, unless the driver has too many trials to listen to that often."""

LOOK_SECONDS = 5.0
"""Least time between two looks at whether the node is about to leave."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs to know, as plain values."""

    trial: dict[str, Any]
    sweep: str
    study: str
    number: int
    start: str
    label_sets: str
    """Text of a record about the trial's label sets."""

    objective: str
    rungs: Sequence[Rung]
    known: Mapping[str, Mapping[str, Any]]
    """Scores by predictor of the runs that need no training, by name."""

    known_at_rungs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """The same at each of the rungs, where they were others."""

    gpus: float
    nodes: int = 1
    """Number of nodes on which it is trained, with so many GPUs on each."""

    quiet_seconds: float = QUIET_SECONDS
    """Least time between two signs of life."""

    results: str
    """Folder or URI."""

    checkpoints: str
    """Folder in the results."""

    data_root: str | None
    keep_weights: bool = False
    """True if what predicts at the end of each run is written beside its predictions."""

    def to_json(self) -> str:
        """Return one text, as Tune would take nested values apart."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the job that `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"rungs": [Rung(*rung) for rung in values["rungs"]]})


def run_trial(config: dict[str, str]) -> None:
    """Train one trial and report to Tune; the function that Tune calls."""
    trained: _Training | None = None
    outcome: dict[str, Any] = {}
    _freeze_imports()
    forget_launcher()  # whoever started Ray may be one of several, its workers are none
    try:
        job = Job.from_json(config["job"])
        confine(job.gpus)
        trained = _Training(job)
        for report in trained.reports():
            tune.report(report)
        if collapse := trained.collapse():
            outcome = {"outcome": "collapsed", "reason": collapse, VALUE: 0.0}
    except (NodeLeavesError, NodeLostError):
        raise
    except (DivergedError, torch.OutOfMemoryError) as why:
        outcome = {"outcome": "diverged", "reason": str(why).splitlines()[0], VALUE: 0.0}
    except UserError as why:
        outcome = {"outcome": "failed", "reason": str(why), VALUE: 0.0}
    except Exception:  # the boundary: a failure becomes a failed row with its traceback
        outcome = {"outcome": "failed", "reason": traceback.format_exc(), VALUE: 0.0, "retry": True}
    finally:
        if trained:
            trained.close()
            if outcome.get("outcome") != "failed":
                forget_here(trained.job.results, trained.job.checkpoints)
    tune.report((trained.report(final=True) if trained else _NOTHING) | outcome)


_NOTHING: dict[str, Any] = {
    VALUE: 0.0, "step": 0, "at_rung": True, "share": 1.0, "final": True,
    "outcome": "", "reason": "", "retry": False, "records": "[]",
}  # fmt: skip
"""Every key of a report: Tune insists on the same set each time."""


@dataclass
class _AtWork:
    """A run in training, and where it stands."""

    run: Run
    identity: dict[str, Any]
    validation: Labelled
    progress: Generator[Progress]
    evaluations: list[Progress] = field(default_factory=list)
    wall_seconds: float = 0.0


class _Training:
    """A trial at work: its runs, each trained as far as the rung asks, with the networks of one in memory."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trial = Trial.from_dict(job.trial)
        self._value = 0.0
        self._step = 0
        method = self.trial.find_method()
        self._main, self._kind = method.predictors[0], method.judged_as
        self._values = {name: self._value_of(selected[self._main].get) for name, selected in job.known.items()}
        self._collapses = {name: self._collapse_of(selected) for name, selected in job.known.items()}
        self._at_work: _AtWork | None = None
        self._changed: dict[str, _AtWork] = {}
        self._images = dict.fromkeys(job.known, self.trial.conditions.images)
        self._last_report, self._last_drain_check = time.monotonic(), -inf
        _reset_peak_memory(self.trial.conditions.device)

    def reports(self) -> Iterator[dict[str, Any]]:
        """Train rung by rung; yield a report for each but the last, the result, and signs of life in between."""
        *lower, end = self.job.rungs
        for rung in lower:
            yield from self._train_to_rung(rung)
            yield self.report()
        yield from self._train_to_rung(end)

    def collapse(self) -> str:
        """Say why the objective says nothing: at its end every run names one class for all images; else empty."""
        if not METRICS[self.job.objective].is_of_named or not all(self._collapses.values()):
            return ""
        return "; ".join(dict.fromkeys(self._collapses.values()))

    def report(self, *, final: bool = False) -> dict[str, Any]:
        """Return what Tune is told at a rung: the objective, and the records that changed since the last one."""
        records = [self._record(at_work) for at_work in self._changed.values()]
        self._changed.clear()
        return self._sign_of_life() | {"at_rung": True, "final": final, "records": json.dumps(records)}

    def _sign_of_life(self) -> dict[str, Any]:
        """Return what Tune is told between rungs: how much of the full budget is trained."""
        self._last_report = time.monotonic()
        share = sum(self._images.values()) / (self.trial.conditions.images * len(runs_of_trial(self.trial)))
        return _NOTHING | {VALUE: self._value, "step": self._step, "at_rung": False, "share": share, "final": False}

    def close(self) -> None:
        """End the run at work; its networks leave memory."""
        if self._at_work:
            self._at_work.progress.close()
        self._at_work = None

    def _train_to_rung(self, rung: Rung) -> Iterator[dict[str, Any]]:
        label_sets = self.trial.label_sets[: rung.num_label_sets]
        runs = [run for run in runs_of_trial(self.trial) if run.label_set in label_sets]
        begun = self._at_work.run if self._at_work else None
        for run in sorted(runs, key=lambda run: run != begun):  # first the one whose networks are in memory
            if run.name not in self.job.known:
                yield from self._train(run, rung.images)
            elif run.name in self.job.known_at_rungs:
                scores = self.job.known_at_rungs[run.name][self.job.rungs.index(rung)]
                self._values[run.name] = self._value_of(scores[self._main].get)
        self._step, self._value = rung.step, fmean(self._values[run.name] for run in runs)

    def _train(self, run: Run, images: int) -> Iterator[dict[str, Any]]:
        """Train a run until its evaluation for so many images of its budget; one begun before goes on from there."""
        if self._at_work is None or self._at_work.run != run:
            self.close()
            self._at_work = self._begin(run)
        at_work = self._changed[run.name] = self._at_work
        resumed = time.perf_counter()
        for progress in at_work.progress:
            self._images[run.name] = progress.budget_images or min(progress.images, self.trial.conditions.images)
            if progress.scores:
                at_work.evaluations.append(replace(progress, predictions={}, artefacts={}))
                self._values[run.name] = self._value_of(progress.selected[self._main].metric)
                self._collapses[run.name] = progress.collapse
            if progress.predictions:
                self._keep(at_work, progress)
            at_work.wall_seconds += time.perf_counter() - resumed
            resumed = time.perf_counter()
            if progress.budget_images >= images:
                break
            if progress.scores:
                self._stop_if_draining()
            if time.monotonic() - self._last_report > self.job.quiet_seconds:
                yield self._sign_of_life()

    def _stop_if_draining(self) -> None:
        """End the trial, whose checkpoint is being written, when its node is about to leave."""
        if time.monotonic() - self._last_drain_check > LOOK_SECONDS:
            self._last_drain_check = time.monotonic()
            if is_leaving():
                raise NodeLeavesError

    def _keep(self, at_work: _AtWork, end: Progress) -> None:
        """Write what a finished run says of its validation images, of masks a picture as they are large, and what else
        of it there is to look at."""
        results, images, predictions = store_at(self.job.results).folder, at_work.validation, end.predictions
        folder = artefact_folder(results, at_work.identity)
        if self._kind == "segmentation":
            from sparse_search.results.heat_maps import write_mask_sheet  # matplotlib takes its time

            write_mask_sheet(results, at_work.identity, images, predictions[self._main])
        elif self._kind == "classification":
            write_predictions(results, at_work.identity, images, predictions, end.pool_means)
        if images.grid and self._kind == "classification":
            from sparse_search.results.heat_maps import write_sheet  # matplotlib takes its time

            threshold = end.scores[self._main].threshold
            write_sheet(results, at_work.identity, images, predictions[self._main], self.trial.picture_rule, threshold)
        for name, content in end.artefacts.items():
            write_atomically(folder / name, content)
        send(self.job.results, folder.relative_to(results).as_posix(), patience_seconds=PATIENCE_SECONDS)

    def _value_of(self, metric: Callable[[str], float | None]) -> float:
        """Value that the search compares."""
        return search_value(self.job.objective, metric)

    def _collapse_of(self, selected: Mapping[str, Any]) -> str:
        """Say why the scores of a known run say nothing; else empty."""
        scores = selected[self._main]
        is_told = METRICS[self.job.objective].is_of_named and "confusion" in scores
        return collapse(read_scores(scores)) if is_told else ""

    def _begin(self, run: Run) -> _AtWork:
        trial, root, under = self.trial, self.job.data_root, self.trial.conditions
        asked = (trial.dataset, trial.shots, run.label_set, under.validation, root, run.fold)
        task, hidden_labels_M = _images(*asked, trial.find_method().kind, under.folds)
        checkpoints = checkpoints_at(self.job.results, f"{self.job.checkpoints}/{run.name}")
        remote = RemoteRanks(self.job.nodes, self.job.gpus, root) if self.job.nodes > 1 else None
        progress = run.train(
            task, checkpoints=checkpoints, hidden_labels_M=hidden_labels_M, remote=remote,
            keep_weights=self.job.keep_weights,
        )  # fmt: skip
        return _AtWork(run, self._identity(run, task), task.validation, progress)

    def _identity(self, run: Run, task: Task) -> dict[str, Any]:
        """Return what of a record is known before training."""
        trial, job = self.trial, self.job
        run_id = run.run_id(task.provenance.content_hash)
        predictors = predictor_names(trial.find_method(), task.validation)
        return (
            asdict(task.provenance)
            | trial.conditions.as_columns()
            | {name: getattr(job, name) for name in ("sweep", "study", "number", "start", "label_sets")}
            | {
                "record_id": record_id(run_id, job.study, job.number, job.sweep),
                "run_id": run_id,
                "trial_id": trial.trial_id,
                "num_runs": len(runs_of_trial(trial)),
                "predictors": list(predictors),
                "patch_predictors": list(predictors[len(trial.find_method().predictors) :]),
                "method": trial.method,
                "config": write_config(trial.config),
                "inactive": ", ".join(inactive_fields(type(trial.config), write_config(trial.config))),
                "dataset": task.dataset,
                "kind": self._kind,
                "source": trial.dataset,
                "protocol": PROTOCOL,
                "device": _device(trial.conditions.device),
                "host": platform.node(),
                "versions": versions() | weight_versions(write_config(trial.config)),
            }
        )

    def _record(self, at_work: _AtWork) -> dict[str, Any]:
        """Return the record of a run as it stands."""
        return at_work.identity | {
            "wall_seconds": at_work.wall_seconds,
            "gpu_seconds": at_work.wall_seconds * self.job.gpus * self.job.nodes,
            "peak_memory_bytes": _peak_memory_bytes(self.trial.conditions.device)
            if self.trial.conditions.processes == 1
            else None,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "curve": [
                {
                    "epoch": point.epoch,
                    "images": point.images,
                    "budget": point.budget_images,
                    "seconds": point.train_seconds,
                    "losses": [dict(entry) for entry in point.log],
                    "scores": {name: scores.as_dict() for name, scores in point.scores.items()},
                    "selected": {name: scores.as_dict() for name, scores in point.selected.items()},
                }
                for point in at_work.evaluations
            ],
        }


def record_id(run_id: str, study: str, number: int, sweep: str) -> str:
    """Return the name of the record of a run of a trial, until it is known how the trial ended."""
    return short_hash({"run_id": run_id, "study": study, "number": number, "sweep": sweep})


@lru_cache(maxsize=2)
def _images(
    dataset: str,
    shots: int,
    label_set: int,
    validation: Validation,
    root: str | None,
    fold: int,
    kind: Kind,
    folds: int,
) -> tuple[Task, Tensor | None]:
    """Return a run's task and, for diagnosis only, the hidden labels; kept, as one process serves many trials."""
    asked = (dataset, shots, label_set, validation, Path(root) if root else None, fold, kind, folds)
    return few_shot_task(*asked), hidden_labels(*asked)


def _reset_peak_memory(device: str) -> None:
    """Begin to measure anew: one process serves many trials."""
    if device == "gpu":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # not everywhere allowed: then it is the peak of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_bytes(device: str) -> int:
    """Return the peak of this trial: on a GPU what its tensors took, on a CPU the whole process."""
    if device == "gpu":
        return torch.cuda.max_memory_allocated()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def _freeze_imports() -> None:
    """Spare every collection of garbage, one at the end of each run, the objects that stay for good."""
    gc.collect()
    gc.freeze()


@cache
def _device(device: str) -> str:
    if device == "gpu":
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
