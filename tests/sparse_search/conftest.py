"""Fixtures: records as a worker writes them, a store with some, a tiny sweep, an object storage on this machine."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from sparse_search.results.store import Store
from sparse_search.search.sweep import DatasetFacts
from sparse_search.search.sweep_file import parse_sweep
from trainables.data.cache import CACHE_VARIABLE
from trainables.data.source import ROOT_VARIABLE
from trainables.metrics.classes import ClassScores


def scores(confusion=((4, 1), (2, 3)), **changes):
    total = sum(map(sum, confusion))
    hits = sum(row[k] for k, row in enumerate(confusion))
    recalls = [row[k] / sum(row) for k, row in enumerate(confusion)]
    values = {
        "num_images": total,
        "accuracy": hits / total,
        "balanced_accuracy": sum(recalls) / len(recalls),
        "macro_f1": 0.5,
        "auroc": 0.6,
        "calibration_error": 0.1,
        "log_loss": 0.7,
        "confusion": confusion,
    }
    return ClassScores.from_dict(values | changes).as_dict()


def record_of(number=0, *, confusion=((4, 1), (2, 3)), lr=1e-3, **changes):
    """A record as a worker writes it."""
    method = changes.get("method", "supervised")
    label_set = changes.get("label_set", 0)
    status = changes.get("status", "complete")
    curve = [
        {
            "epoch": e,
            "images": 20 * e,
            "seconds": 1.5 * e,
            "losses": [{"epoch": e, "loss": 1.0 / e}],
            "scores": {method: scores(confusion)},
            "selected": {method: scores(confusion)},
        }
        for e in (5, 10)
    ]
    return {
        "record_id": f"{number:04x}{label_set:04x}{len(method):04x}",
        "run_id": f"run-{method}-{number}-{label_set}",
        "trial_id": f"trial-{method}-{number}",
        "sweep": "test",
        "study": "study",
        "number": number,
        "start": "",
        "method": method,
        "kind": "classification",
        "predictors": [method],
        "patch_predictors": [],
        "config": {"image_size": 32, "lr": lr, "classifier": "test_resnet", "pretrained": ""},
        "inactive": "",
        "dataset": "digits",
        "source": "digits",
        "content_hash": "c0ffee",
        "official": True,
        "folds": 5,
        "shots": 5,
        "label_sets": str(label_set),
        "num_runs": 1,
        "label_set": label_set,
        "fold": 0,
        "label_set_hash": f"hash{label_set}",
        "validation": "realistic",
        "label_budget": 20,
        "shots_in_all": False,
        "patch_labels": "",
        "aggregate": "mean",
        "threshold": "youden",
        "decision": "argmax",
        "statistics": "both",
        "status": status,
        "reason": "",
        "images": 200,
        "evaluate_every": 100,
        "selection": "last",
        "seed": 0,
        "precision": "no",
        "processes": 1,
        "accumulate": 1,
        "compile": False,
        "threads": 1,
        "processor": "cpu",
        "protocol": 1,
        "wall_seconds": 20.0,
        "gpu_seconds": 0.0,
        "peak_memory_bytes": 1000,
        "device": "cpu",
        "host": "here",
        "versions": {"torch": "2"},
        "finished_at": "2026-01-01T00:00:00+00:00",
        "curve": curve,
    } | changes


@pytest.fixture
def make_record():
    """A maker of records; the changes name what differs."""
    return record_of


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "results")
    made.prepare()
    return made


@pytest.fixture(scope="session")
def one_ray():
    """A Ray for all sweeps within this process, which disturb nothing: they find and leave it. Its workers' cache."""
    from sparse_search.execution.schedule import ray_session

    with ExitStack() as until_the_end:
        with pytest.MonkeyPatch.context() as patch:  # only what workers start with: tests of real data come later
            for name in ("RAY_ADDRESS", ROOT_VARIABLE):
                patch.delenv(name, raising=False)
            until_the_end.enter_context(ray_session())
        yield Path(os.environ[CACHE_VARIABLE])


TINY = {
    "name": "tiny",
    "datasets": ["digits"],
    "shots": [2],
    "image_size": 16,
    "images": 80,
    "evaluate_every": 40,
    "label_sets": [0],
    "confirm": 0,
    "pruner": "median",
    "methods": {
        "supervised": {
            "trials": 5,
            "settings": {"classifier": "test_resnet", "lr": 1e-3},
            "search": ["lr", "dropout", "mixup_alpha"],
        },
        "constant": {},
    },
}


def studies_of(sweep, content_hash="a", num_unlabelled=400):
    """The studies of a sweep on data of which only this is known."""
    cells = [(dataset, shots) for dataset in sweep.datasets for shots in sweep.shots]
    return sweep.studies(
        {(dataset, shots): DatasetFacts(content_hash, 10 * shots, num_unlabelled) for dataset, shots in cells}
    )


@pytest.fixture
def tiny():
    """A maker of tiny sweeps."""
    return lambda **changes: parse_sweep(TINY | changes)


class ObjectStorage:
    """A server that speaks S3, in a process of its own; what it was asked stands in its log."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.endpoint, self._log = f"http://127.0.0.1:{port}", folder / "log"
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.endpoint}/moto-api/").close()
                return
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.1)

    def make_bucket(self, name):
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")).close()

    def log(self):
        return self._log.read_text()

    def num_requests(self):
        return len(self.log().splitlines())

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory):
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("needs moto[server], which the dev extra installs")
    server = ObjectStorage(tmp_path_factory.mktemp("moto"))
    yield server
    server.stop()


@pytest.fixture
def bucket(object_storage, monkeypatch, tmp_path):
    """The URI of a place in an empty bucket; mirrors lie in tmp_path / "here"."""
    name = f"bucket-{uuid4().hex[:8]}"
    object_storage.make_bucket(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_storage.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "here"))
    return f"s3://{name}/some/results"


@pytest.fixture
def move_to(monkeypatch, tmp_path):
    """Goes on on another machine: one with other mirrors."""
    return lambda machine: monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / machine))
