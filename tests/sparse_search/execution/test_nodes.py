"""A trial over several nodes: real sweeps on a Ray cluster of several nodes on this machine.

The method leaves a line in a log for each epoch that a process trains (witness.py), with the raylet of its node.
"""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from sparse_search.results.store import Store

from ..conftest import TINY
from . import scenes
from .scenes import ROOT, raylet_of
from .two_machines import two_machines

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTINGS = {"classifier": "test_resnet", "dropout": 0.0, "drop_path": 0.0}  # masks differ between processes
SWEEP = TINY | {
    "pruner": "none", "memory_per_trial": 0.3, "retries": 0, "processes": 2, "nodes_per_trial": 2,
    "objective": "auroc",  # networks that have seen so little often name one class
    "methods": {"witness:METHOD": {"trials": 1, "presets": [], "search": ["lr"], "settings": SETTINGS}},
}  # fmt: skip
EPOCHS, INTERVAL, BATCH = 40, 4, 20
LONG = {"images": EPOCHS * BATCH, "evaluate_every": INTERVAL * BATCH}
"""40 epochs, with a checkpoint after every fourth."""

GIVE_UP = {
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "2000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_worker_niceness": "0",
}
"""Variables with which a node that a link no longer joins to its head gives up in seconds; by Ray's defaults it takes
three and a half minutes. And workers do not wait for whatever else this machine computes."""

SOME = 3 * INTERVAL
"""Epochs after which something happens."""


class Epoch(NamedTuple):
    """A line of the log."""

    rank: int
    process: int
    parent: int
    raylet: int
    number: int


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a sweep runs, with the variables of its driver and its nodes."""
    shutil.copy(ROOT / "tests/sparse_search/execution/witness.py", tmp_path)
    write(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(tmp_path))))
    monkeypatch.setenv("WITNESS_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("WITNESS_SECONDS", "0.3")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def write(folder, **changes):
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP | changes))


class Scene(scenes.Scene):
    """A scene whose log tells nodes."""

    def epochs(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [Epoch(*map(int, line.split())) for line in lines]

    def last(self, rank):
        """The newest line of a rank."""
        return next((each for each in reversed(self.epochs()) if each.rank == rank), Epoch(rank, 0, 0, 0, 0))

    def records(self):
        return sorted(Store(self.folder / "results").records(), key=lambda record: record["number"])


@pytest.fixture
def scene(cluster, folder):
    made = Scene(cluster, folder)
    yield made
    made.end()


def is_alive(process):
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def check_complete(scene, images):
    (record,) = (record for record in scene.records() if record["status"] == "complete")
    assert record["curve"][-1]["images"] == images
    assert not list((scene.folder / "results" / "sweeps" / "tiny" / "checkpoints").glob("*/*"))
    assert not [each for each in scene.epochs() if is_alive(each.process)], "nothing goes on"


def test_trials_over_two_nodes_find_what_one_process_finds(scene, folder):
    nodes = [scene.add_node(), scene.add_node()]
    scene.start()
    scene.finish()
    check_complete(scene, images=80)
    assert "1 trials at a time" in scene.said
    assert {(each.rank, each.raylet) for each in scene.epochs()} in (
        {(rank, raylet_of(nodes[rank])) for rank in (0, 1)},
        {(rank, raylet_of(nodes[1 - rank])) for rank in (0, 1)},
    )
    together = scene.records()
    for left in (folder / "results", scene.log):
        left.rename(left.with_name(f"{left.name} together"))
    write(folder, processes=1, nodes_per_trial=1)
    scene.start()
    scene.finish()
    assert {each.rank for each in scene.epochs()} == {0}
    check_equal_to_rounding(together, scene.records())


def check_equal_to_rounding(together, alone):
    (two,), (one,) = together, alone
    assert (two["processes"], one["processes"]) == (2, 1)
    assert two["config"] == one["config"]
    for ours, theirs in zip(two["curve"], one["curve"], strict=True):
        assert ours["images"] == theirs["images"]
        for losses in zip(ours["losses"], theirs["losses"], strict=True):
            assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        ours, theirs = (each["scores"]["supervised"] for each in (ours, theirs))
        assert ours["log_loss"] == pytest.approx(theirs["log_loss"], rel=1e-3)
        # Two classes of an image may be equally likely to rounding, and either be named.
        moved = np.abs(np.subtract(ours["confusion"], theirs["confusion"])).sum()
        assert moved <= 2


def test_a_trial_whose_second_node_is_killed_goes_on_elsewhere(scene, folder):
    write(folder, **LONG)
    nodes = {raylet_of(node): node for node in (scene.add_node(), scene.add_node(), scene.add_node())}
    scene.start()
    scene.wait_for(lambda: scene.last(1).number > SOME)
    before, doomed = scene.epochs(), scene.last(1).raylet
    scene.kill(nodes[doomed])
    scene.finish()
    check_complete(scene, images=EPOCHS * BATCH)
    assert len(scene.records()) == 1, "it has cost no retry"
    known = {each.process for each in before}
    after = [each for each in scene.epochs()[len(before) :] if each.process not in known]
    assert after[0].number > SOME - 2 * INTERVAL, "from its checkpoint"
    assert doomed not in {each.raylet for each in after}
    assert {each.number for each in scene.epochs() if each.rank == 1} == set(range(1, EPOCHS + 1))


def test_a_trial_whose_process_on_the_second_node_is_killed_goes_on(scene, folder):
    write(folder, retries=1, **LONG)
    scene.add_node()
    scene.add_node()
    scene.start()
    scene.wait_for(lambda: scene.last(1).number > SOME)
    os.kill(scene.last(1).process, signal.SIGKILL)
    before, killed = scene.epochs(), time.monotonic()
    known = {each.process for each in before}
    scene.wait_for(lambda: {each.process for each in scene.epochs()} - known, 180)
    assert time.monotonic() - killed < 60
    moved = next(each for each in scene.epochs() if each.process not in known)
    assert moved.number > SOME - 2 * INTERVAL, "from its checkpoint"
    scene.finish()
    check_complete(scene, images=EPOCHS * BATCH)
    (failed,) = (record["reason"] for record in scene.records() if record["status"] != "complete")
    assert "LostProcessError: process 1 of a run ended with exit code -9" in failed


def test_a_trial_whose_second_node_is_recalled_leaves_at_a_checkpoint(scene, folder, monkeypatch):
    monkeypatch.setenv("WITNESS_SECONDS", "1")  # a look at the nodes every 5 s should not come too late
    write(folder, **LONG)
    nodes = {raylet_of(node): node for node in (scene.add_node(), scene.add_node(), scene.add_node())}
    scene.start()
    scene.wait_for(lambda: scene.last(1).number > INTERVAL)
    recalled = scene.last(1)
    scene.drain(nodes[recalled.raylet])
    scene.wait_for(lambda: scene.last(1).process != recalled.process)
    scene.finish()
    check_complete(scene, images=EPOCHS * BATCH)
    assert len(scene.records()) == 1
    assert [each.number for each in scene.epochs() if each.rank == 0] == list(range(1, EPOCHS + 1)), "nothing twice"
    there = [number for number, each in enumerate(scene.epochs()) if each.raylet == recalled.raylet]
    assert scene.epochs()[there[-1]].process == recalled.process, "nobody comes back"


def test_machines_that_only_a_link_joins_train_together_and_a_cut_ends_it(folder, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name, value in GIVE_UP.items():
        monkeypatch.setenv(name, value)
    write(folder, **LONG)
    with two_machines() as machines:
        scene = Scene(machines, folder, machines.inside)
        try:
            scene.start()
            scene.wait_for(lambda: scene.last(1).number > SOME)
            sides = scene.last(0), scene.last(1)  # which of them is the head's is up to Ray
            assert sides[0].raylet != sides[1].raylet
            machines.cut()
            scene.wait_for(lambda: "there are not enough nodes for a trial" in scene.said)
            scene.wait_for(lambda: not any(is_alive(each.process) for each in sides))
        finally:
            scene.end()
