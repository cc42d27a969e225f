"""MLflow: an experiment a sweep, a run a run; where `MLFLOW_TRACKING_URI` says, else in a database file in the results.

`mlflow ui --backend-store-uri sqlite:///results/tracking/mlflow/mlflow.db` shows the latter.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import time
from typing import Any, TypeVar, final

from sparse_search.trackers.tracker import FINAL, Known, TrackedRun, TrackerKind

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_KEY, _STATUS = "sparse_search.key", "sparse_search.status"
_BATCH = 100
"""Most parameters that MLflow takes at once."""

_ENDS = {"failed": "FAILED", "diverged": "FAILED", "pruned": "KILLED"}

T = TypeVar("T")


@final
class _MLflow:
    """Runs of an MLflow experiment."""

    def __init__(self, folder: Path, sweep: str) -> None:
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells at length how it makes its tables
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # between MLflow and SQLAlchemy
            self._client = MlflowClient(os.environ.get(URI_VARIABLE) or f"sqlite:///{folder / 'mlflow.db'}")
            experiment = self._client.get_experiment_by_name(sweep)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(sweep)
        self._ids: dict[str, str] = {}

    def known(self, run: TrackedRun) -> Known | None:
        """Return what the run with its key holds."""
        found = self._client.search_runs([self._experiment], f"tags.`{_KEY}` = '{run.key}'", max_results=1)
        if not found:
            return None
        self._ids[run.key] = found[0].info.run_id
        if _STATUS in found[0].data.tags:
            return Known(run.images, True)
        names = [name for name in found[0].data.metrics if not name.startswith(FINAL)]
        return Known(max((self._images(run.key, name) for name in names), default=-1))

    def write(self, run: TrackedRun, *, is_new: bool) -> None:
        """Add each point at once, the settings before the first, and a status at the end."""
        from mlflow.entities import Param, RunTag

        if is_new:
            tags = {_KEY: run.key, **run.facts}
            self._ids[run.key] = self._client.create_run(self._experiment, tags=tags, run_name=run.name).info.run_id
            settings = [Param(name, str(value)) for name, value in run.settings.items()]
            for some in _batches(settings):
                self._client.log_batch(self._ids[run.key], params=some)
        for images, values in run.points:
            self._client.log_batch(self._ids[run.key], metrics=_metrics(values, images))
        if run.status:
            self._client.log_batch(
                self._ids[run.key], metrics=_metrics(run.final, run.images), tags=[RunTag(_STATUS, run.status)]
            )
            self._client.set_terminated(self._ids[run.key], _ENDS.get(run.status, "FINISHED"))

    def close(self) -> None:
        """Do nothing: all is written."""

    def _images(self, key: str, name: str) -> int:
        """Images seen at the last point of a curve."""
        return max(int(point.step) for point in self._client.get_metric_history(self._ids[key], name))


def _metrics(values: Any, images: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(1000 * time())
    return [Metric(re.sub(r"[^\w/ .-]", "_", name), value, now, images) for name, value in values.items()]


def _batches(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, _BATCH)):
        yield some


TRACKER = TrackerKind("mlflow", "mlflow", _MLflow)
