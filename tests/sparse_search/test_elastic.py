"""Nodes that die, come late or are not there at all: real sweeps on a Ray cluster of several nodes on this machine.

The method leaves a line in a log for each epoch it trains (chaotic.py), so what is lost or repeated can be counted.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import yaml
from optuna.trial import TrialState

from sparse_search.journal_file import Journal
from sparse_search.store import Store

from .conftest import TINY

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[2]
CALL = "from sparse_search.cli import main; main()"
EPOCHS, INTERVAL = 60, 4
BATCH = 30
"""Images of an epoch."""

SWEEP = TINY | {
    "shots": [3], "image_size": 8, "images": EPOCHS * BATCH, "evaluate_every": INTERVAL * BATCH, "pruner": "none",
    "memory_per_trial": 0.3, "retries": 0,
    "methods": {"chaotic:METHOD": {"trials": 5, "presets": [], "search": ["rate", "noise"]}},
}  # fmt: skip


class Epoch(NamedTuple):
    """A line of the log."""

    run: str
    number: int
    process: int


def children_of(parent):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


class Scene:
    """A cluster whose head trains nothing, a sweep, and what became of it."""

    def __init__(self, cluster, folder):
        self._cluster, self.folder = cluster, folder
        self._log, self._out, self._error = (folder / name for name in ("log", "out", "error"))
        self._driver = None

    def add_node(self):
        return self._cluster.add_node(num_cpus=1)

    def kill(self, node):
        """As when its machine is gone: raylet and workers die at once, and nobody says goodbye."""
        (raylet,) = node.all_processes["raylet"]
        for process in (raylet.process.pid, *children_of(raylet.process.pid)):
            os.kill(process, signal.SIGKILL)

    def start(self):
        environment = os.environ | {"RAY_ADDRESS": self._cluster.address}
        with self._out.open("w") as out, self._error.open("w") as error:
            command = [sys.executable, "-c", CALL, "run", "sweep.yaml"]
            self._driver = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=error, env=environment)

    def wait_for(self, condition, seconds=120):
        until = time.monotonic() + seconds
        while not condition():
            assert self._driver.poll() is None, self._error.read_text()
            assert time.monotonic() < until, f"waited in vain: {self.said}"
            time.sleep(0.1)

    def finish(self):
        assert self._driver.wait(240) == 0, self._error.read_text()
        assert "Traceback" not in self._error.read_text()

    def end(self):
        if self._driver and self._driver.poll() is None:
            self._driver.kill()
            self._driver.wait()

    @property
    def said(self):
        return self._out.read_text()

    def epochs(self):
        lines = [line.rsplit(" ", 2) for line in self._log.read_text().splitlines()] if self._log.exists() else []
        return [Epoch(run, int(number), int(process)) for run, number, process in lines]

    def processes(self):
        """How many epochs each has trained."""
        return Counter(epoch.process for epoch in self.epochs())

    def trials(self):
        storage = Journal(self.folder / "results" / "sweeps" / "tiny" / "journal.log")
        return [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id, deepcopy=False)]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    shutil.copy(Path(__file__).with_name("chaotic.py"), tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(tmp_path))))
    monkeypatch.setenv("CHAOS_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RAY_health_check_period_ms", "1000")  # a dead node is noticed after 5 s instead of 15
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    short = tempfile.mkdtemp(prefix="ray-")  # a socket's path has 107 letters at most
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": short}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    made = Scene(cluster, tmp_path)
    try:
        yield made
    finally:
        made.end()
        cluster.shutdown()
        shutil.rmtree(short, ignore_errors=True)


def check_complete(scene):
    """Every trial is complete in the journal and has one record, and every run had each of its epochs."""
    trials = scene.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    records = Store(scene.folder / "results").records()
    assert sorted(record["number"] for record in records) == [trial.number for trial in trials]
    assert {record["status"] for record in records} == {"complete"}
    assert all(record["curve"][-1]["images"] == EPOCHS * BATCH for record in records)
    trained = defaultdict(set)
    for epoch in scene.epochs():
        trained[epoch.run].add(epoch.number)
    assert list(trained.values()) == [set(range(1, EPOCHS + 1))] * 5
    assert not list((scene.folder / "results" / "sweeps" / "tiny" / "checkpoints").glob("*/*"))


def taken_up(scene):
    """Epochs at which a run went on in another process, with the last one that it had before."""
    found, last = [], {}
    for epoch in scene.epochs():
        before = last.get(epoch.run)
        if before and before.process != epoch.process:
            found.append(SimpleNamespace(before=before.number, after=epoch.number))
        last[epoch.run] = epoch
    return found


def test_the_trials_of_a_killed_node_go_on_elsewhere_from_their_checkpoints(scene):
    scene.add_node()
    doomed = scene.add_node()
    scene.start()
    scene.wait_for(lambda: len(scene.processes()) == 2 and min(scene.processes().values()) > EPOCHS // 2)
    scene.kill(doomed)
    scene.finish()
    check_complete(scene)
    assert "fewer nodes: 1 trials at a time" in scene.said
    (moved,) = taken_up(scene)
    assert moved.before - 2 * INTERVAL <= moved.after <= moved.before + 1
    assert len(scene.epochs()) <= 5 * EPOCHS + 2 * INTERVAL
