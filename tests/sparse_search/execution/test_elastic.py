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

from sparse_search.results.store import Store
from sparse_search.search.journal_file import Journal

from ..conftest import TINY

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[3]
CALL = "from sparse_search.cli.app import main; main()"
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

    def __init__(self, cluster, folder, inside=()):
        self._cluster, self.folder, self._inside = cluster, folder, inside
        self._log, self._out, self._error = (folder / name for name in ("log", "out", "error"))
        self._driver = None

    def add_node(self):
        return self._cluster.add_node(num_cpus=1)

    def kill(self, node):
        """As when its machine is gone: raylet and workers die at once, and nobody says goodbye."""
        (raylet,) = node.all_processes["raylet"]
        for process in (raylet.process.pid, *children_of(raylet.process.pid)):
            os.kill(process, signal.SIGKILL)

    def drain(self, node):
        """As a cloud does some time before it takes a machine back."""
        reason = ("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=test", "--deadline-remaining-seconds=300")
        ray = Path(sys.executable).with_name("ray")
        command = [ray, "drain-node", f"--address={self._cluster.address}", f"--node-id={node.node_id}", *reason]
        subprocess.run(command, check=True, capture_output=True)

    def start(self):
        environment = os.environ | {"RAY_ADDRESS": self._cluster.address}
        with self._out.open("w") as out, self._error.open("w") as error:
            command = [*self._inside, sys.executable, "-c", CALL, "run", "sweep.yaml"]
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
def folder(tmp_path, monkeypatch):
    """Where a sweep runs, with the variables of its driver and its nodes."""
    shutil.copy(Path(__file__).with_name("chaotic.py"), tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(tmp_path))))
    monkeypatch.setenv("CHAOS_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("CHAOS_SECONDS", "0.15")  # so that a node which comes late finds trials left
    monkeypatch.setenv("RAY_health_check_period_ms", "1000")  # a dead node is noticed after 5 s instead of 15
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.fixture
def scene(folder):
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="ray-")  # a socket's path has 107 letters at most
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": short}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    made = Scene(cluster, folder)
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


def test_a_node_that_is_added_later_takes_trials(scene):
    scene.add_node()
    scene.start()
    scene.wait_for(lambda: sum(scene.processes().values()) > 0)
    scene.add_node()
    scene.finish()
    check_complete(scene)
    assert "1 trials at a time" in scene.said.splitlines()[1]
    assert "more nodes: 2 trials at a time" in scene.said
    assert len(scene.processes()) == 2
    assert min(scene.processes().values()) >= EPOCHS
    assert not taken_up(scene)


def test_a_sweep_waits_for_a_node_and_says_so(scene):
    scene.start()
    waiting = "no node can train a trial (1 CPU and 0.3 GB); waiting for one"
    scene.wait_for(lambda: waiting in scene.said)
    time.sleep(3)
    only = scene.add_node()
    scene.wait_for(lambda: sum(scene.processes().values()) > EPOCHS + 3 * INTERVAL)
    scene.kill(only)
    scene.wait_for(lambda: scene.said.count(waiting) == 2)
    time.sleep(3)
    scene.add_node()
    scene.finish()
    check_complete(scene)
    (moved,) = taken_up(scene)
    assert moved.before - 2 * INTERVAL <= moved.after <= moved.before + 1


def test_a_node_that_is_recalled_is_left_at_a_checkpoint(scene):
    scene.add_node()
    recalled = scene.add_node()
    scene.start()
    scene.wait_for(lambda: len(scene.processes()) == 2)
    scene.drain(recalled)
    scene.finish()
    check_complete(scene)
    assert "fewer nodes: 1 trials at a time" in scene.said
    assert all(moved.after == moved.before + 1 for moved in taken_up(scene))
    assert len(taken_up(scene)) == 1
    assert len(scene.epochs()) == 5 * EPOCHS  # nothing was trained twice


class TwoMachines:
    """Two network namespaces with a link between them: a head that trains in one, a node in the other."""

    HEAD, NODE = "10.201.77.1", "10.201.77.2"
    address = f"{HEAD}:6379"

    def __init__(self, folder):
        self._names = [f"sparse-{side}-{os.getpid()}" for side in ("head", "node")]
        self._folder, self._rays = folder, []
        head, node = self._names
        for name in self._names:
            ip("netns", "add", name)
        ip("link", "add", "link0", "netns", head, "type", "veth", "peer", "name", "link0", "netns", node)
        for name, place in zip(self._names, (self.HEAD, self.NODE), strict=True):
            ip("-n", name, "address", "add", f"{place}/24", "dev", "link0")
            for device in ("lo", "link0"):
                ip("-n", name, "link", "set", device, "up")
        self._start(head, self.HEAD, "--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={folder}")

    @property
    def inside(self):
        """What a command on the head's machine begins with."""
        return ["ip", "netns", "exec", self._names[0]]

    def add_node(self):
        self._start(self._names[1], self.NODE, f"--address={self.address}")

    def cut(self):
        ip("-n", self._names[0], "link", "set", "link0", "down")

    def shutdown(self):
        for process in self._rays:
            process.terminate()
        for process in self._rays:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
        for name in self._names:
            for process in ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            ip("netns", "delete", name)

    def _start(self, name, place, *options):
        command = [
            "ip", "netns", "exec", name, Path(sys.executable).with_name("ray"), "start", "--block", *options,
            f"--node-ip-address={place}", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats",
        ]  # fmt: skip
        environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
        log = (self._folder / f"{place}.log").open("w")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._rays.append(process)
        until = time.monotonic() + 90
        while "Ray runtime started" not in (said := (self._folder / f"{place}.log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.2)


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def can_make_namespaces():
    name = f"sparse-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "delete", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def test_a_cut_link_ends_in_resumed_trials(folder, monkeypatch):
    if not can_make_namespaces():
        pytest.skip("needs iproute2 and the right to make network namespaces")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    short = Path(tempfile.mkdtemp(prefix="ray-"))
    machines = TwoMachines(short)
    scene = Scene(machines, folder, machines.inside)
    try:
        machines.add_node()
        scene.start()
        scene.wait_for(lambda: len(scene.processes()) == 2 and min(scene.processes().values()) > EPOCHS // 2)
        before = {epoch.run: epoch for epoch in scene.epochs()}
        machines.cut()
        scene.finish()
    finally:
        scene.end()
        machines.shutdown()
        shutil.rmtree(short, ignore_errors=True)
    check_complete(scene)
    moved = [e for e in scene.epochs() if e.run in before and e.process != before[e.run].process]
    assert len({epoch.run for epoch in moved}) == 1  # beyond the cut, its old process may have gone on for a while
    assert moved[0].number >= before[moved[0].run].number - 2 * INTERVAL
