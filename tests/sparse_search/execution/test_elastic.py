"""Nodes that die, come late or are not there at all: real sweeps on a Ray cluster of several nodes on this machine.

The method leaves a line in a log for each epoch it trains (chaotic.py), so what is lost or repeated can be counted.
"""

import os
import shutil
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import yaml
from optuna.trial import TrialState

from sparse_search.results.store import Store
from sparse_search.search.journal_file import Journal

from ..conftest import TINY
from . import scenes
from .scenes import ROOT, children_of, raylet_of
from .two_machines import two_machines

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EPOCHS, INTERVAL, TRIALS = 60, 4, 3
BATCH = 30
"""Images of an epoch."""

SWEEP = TINY | {
    "shots": [3], "image_size": 8, "images": EPOCHS * BATCH, "evaluate_every": INTERVAL * BATCH, "pruner": "none",
    "memory_per_trial": 0.3, "retries": 0,
    "methods": {"chaotic:METHOD": {"trials": TRIALS, "presets": [], "search": ["rate", "noise"]}},
}  # fmt: skip


class Epoch(NamedTuple):
    """A line of the log."""

    run: str
    number: int
    process: int


class Scene(scenes.Scene):
    """A scene whose log tells runs."""

    def epochs(self):
        lines = [line.rsplit(" ", 2) for line in self.log.read_text().splitlines()] if self.log.exists() else []
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
    shutil.copy(ROOT / "tests/sparse_search/execution/chaotic.py", tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(tmp_path))))
    monkeypatch.setenv("CHAOS_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("CHAOS_SECONDS", "0.3")  # so that a moment can be hit, and what comes late finds trials left
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.fixture
def scene(folder, cluster):
    made = Scene(cluster, folder)
    yield made
    made.end()


def check_complete(scene):
    """Every trial is complete in the journal and has one record, and every run had each of its epochs."""
    trials = scene.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * TRIALS
    records = Store(scene.folder / "results").records()
    assert sorted(record["number"] for record in records) == [trial.number for trial in trials]
    assert {record["status"] for record in records} == {"complete"}
    assert all(record["curve"][-1]["images"] == EPOCHS * BATCH for record in records)
    trained = defaultdict(set)
    for epoch in scene.epochs():
        trained[epoch.run].add(epoch.number)
    assert list(trained.values()) == [set(range(1, EPOCHS + 1))] * TRIALS
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


def test_nodes_come_late_die_and_are_missed(scene):
    """Whoever watches is told, and nothing is lost but what came after a checkpoint."""
    waiting = "no node can train a trial (1 CPU and 0.3 GB); waiting for one"
    scene.start()
    scene.wait_for(lambda: waiting in scene.said)
    first = scene.add_node()
    scene.wait_for(lambda: sum(scene.processes().values()) > INTERVAL)
    assert "1 trials at a time" in scene.said
    second = scene.add_node()
    scene.wait_for(lambda: len(scene.processes()) == 2 and min(scene.processes().values()) > 3 * INTERVAL)
    assert "more nodes: 2 trials at a time" in scene.said
    assert not taken_up(scene)
    scene.kill(second)
    scene.wait_for(lambda: "fewer nodes: 1 trials at a time" in scene.said)
    before = len(scene.epochs())
    scene.wait_for(lambda: len(scene.epochs()) > before + 2 * INTERVAL)
    scene.kill(first)
    scene.wait_for(lambda: scene.said.count(waiting) == 2)
    scene.add_node()
    scene.finish()
    check_complete(scene)
    moves = taken_up(scene)
    assert len(moves) == 2
    for moved in moves:
        assert moved.before - 2 * INTERVAL <= moved.after <= moved.before + 1
    assert len(scene.epochs()) <= TRIALS * EPOCHS + 2 * 2 * INTERVAL


def test_a_node_that_is_recalled_is_left_at_a_checkpoint(scene):
    scene.add_node()
    recalled = scene.add_node()
    scene.start()
    scene.wait_for(lambda: len(scene.processes()) == 2)
    scene.drain(recalled)
    scene.wait_for(lambda: "fewer nodes: 1 trials at a time" in scene.said)
    scene.wait_for(lambda: not scene.processes().keys() & set(children_of(raylet_of(recalled))))
    scene.finish()
    check_complete(scene)
    (moved,) = taken_up(scene)
    assert moved.after == moved.before + 1
    assert len(scene.epochs()) == TRIALS * EPOCHS  # nothing was trained twice


def test_a_cut_link_ends_in_resumed_trials(folder, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with two_machines() as machines:
        scene = Scene(machines, folder, machines.inside)
        try:
            scene.start()
            scene.wait_for(lambda: len(scene.processes()) == 2 and min(scene.processes().values()) > 4 * INTERVAL)
            before = {epoch.run: epoch for epoch in scene.epochs()}
            machines.cut()
            scene.wait_for(lambda: "fewer nodes: 1 trials at a time" in scene.said)
            scene.finish()
        finally:
            scene.end()
    check_complete(scene)
    moved = [e for e in scene.epochs() if e.run in before and e.process != before[e.run].process]
    # Beyond the cut its old process may have gone on for a while, on the shared disk even to its end.
    assert len({epoch.run for epoch in moved}) <= 1
    assert all(epoch.number >= before[epoch.run].number - 2 * INTERVAL for epoch in moved)
