"""A whole sweep at a URI: killed, resumed where nothing of it is left, read where nothing of it ever was.

The method leaves a line in a log for each epoch it trains (chaotic.py), so what is repeated can be counted.
"""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from search_spaces.core.config import read_config, short_hash, write_config
from sparse_search.results.mirror import read_store, store_at
from sparse_search.results.records import decode
from sparse_search.results.store import Store

from .. import command
from ..conftest import TINY
from .chaotic import ChaoticConfig
from .scenes import CALL, ROOT, raylet_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EPOCHS, INTERVAL, BATCH, TRIALS = 100, 5, 30, 4
# Ten seconds a run, so that the journal, which is sent every three, tells of one that is under way.

SWEEP = TINY | {
    "shots": [3], "image_size": 8, "images": EPOCHS * BATCH, "evaluate_every": INTERVAL * BATCH, "pruner": "none",
    "memory_per_trial": 0.3, "workers": 1, "seed": 3,
    "methods": {"chaotic:METHOD": {"trials": TRIALS, "presets": [], "search": ["rate", "noise"]}},
}  # fmt: skip

THE_SAME = (
    "config_id", "start", "label_sets", "label_set", "status", "reason", "images_done", "confusion_json", "log_loss",
    "number",
)  # fmt: skip
"""Columns of a run that do not depend on time."""

TIMED = ("seconds", "finished_at", "versions_json")
"""In names of columns of a leaderboard that do."""


class Epoch(NamedTuple):
    """A line of the log."""

    run: str
    number: int
    process: int


class Scene:
    """A sweep with a place in an object storage, and what became of it."""

    def __init__(self, folder, place):
        self.folder, self.place = folder, place
        self.hurry = folder / "log.hurry"

    def start(self, *arguments, machine):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(self.folder))),
            "SPARSE_SEARCH_CACHE": str(self.folder / machine),
            "CHAOS_LOG": str(self.folder / "log"),
            "CHAOS_SECONDS": "0.1",
        }
        return subprocess.Popen(
            [sys.executable, "-c", CALL, *arguments], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, place, **where):
        """Runs the sweep to its end in a process of its own; what it printed."""
        process = self.start("run", "sweep.yaml", "--results", place, **where)
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        assert "Traceback" not in error
        return out

    def call(self, *arguments, machine):
        """What a command prints that trains nothing."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPARSE_SEARCH_CACHE", str(self.folder / machine))
            done = command.call(*arguments, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def epochs(self):
        path = self.folder / "log"
        lines = [line.rsplit(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []
        return [Epoch(run, int(number), int(process)) for run, number, process in lines]

    def is_late_in_a_run(self):
        """At a moment that lasts for two seconds."""
        return EPOCHS * 3 // 4 <= self.epochs()[-1].number < EPOCHS - INTERVAL

    def recorded(self):
        """Runs whose records are in the storage, by the name that they have in the log."""
        objects = store_at(self.place).objects
        found = [decode(objects.get(name), name) for name in objects.sizes("records")]
        configs = [(write_config(read_config(ChaoticConfig, each["config"])), each["label_set"]) for each in found]
        return {f"{short_hash(config)} {label_set}" for config, label_set in configs}


def descendants(process):
    """All processes below one, and itself."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for parent in found:
        found += [child for child, own in parents.items() if own == parent]
    return found


def wait_for(condition, process, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def runs_of(store):
    return sorted(tuple(row[name] for name in THE_SAME) for row in store.runs().to_pylist())


def untimed(text):
    rows = list(csv.DictReader(io.StringIO(text)))
    return [{name: value for name, value in row.items() if not any(t in name for t in TIMED)} for row in rows]


@pytest.fixture
def scene(tmp_path, bucket):
    shutil.copy(ROOT / "tests/sparse_search/execution/chaotic.py", tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return Scene(tmp_path, bucket)


def test_killed_and_without_its_mirror_a_sweep_ends_as_if_nothing_had_happened(scene):
    scene.hurry.touch()
    scene.run("plain", machine="plain")
    (scene.folder / "log").unlink()
    scene.hurry.unlink()

    killed = scene.start("run", "sweep.yaml", "--results", scene.place, machine="one")
    wait_for(lambda: len(scene.recorded()) >= 2, killed)
    trained = len(scene.epochs())
    wait_for(lambda: len(scene.epochs()) > trained and scene.is_late_in_a_run(), killed)
    for process in descendants(killed.pid):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    killed.communicate()
    recorded, before = scene.recorded(), scene.epochs()
    shutil.rmtree(scene.folder / "one")

    standing = scene.call("status", "sweep.yaml", "--results", scene.place, machine="looking")
    assert f"/{TRIALS}" in standing
    assert f"{TRIALS}/{TRIALS}" not in standing

    scene.hurry.touch()
    assert f"{TRIALS}/{TRIALS}" in scene.run(scene.place, machine="two")
    after = scene.epochs()[len(before) :]
    assert len(recorded) >= 2
    assert not recorded & {epoch.run for epoch in after}
    first = next(epoch for epoch in after if epoch.run == before[-1].run)
    assert first.number > EPOCHS // 2, "it went on from its checkpoint"

    plain, stored = Store(scene.folder / "plain"), read_store(scene.place)
    assert runs_of(stored) == runs_of(plain)
    asked = ("leaderboard", "--all", "--format", "csv", "--results")
    ranked = scene.call(*asked, scene.place, machine="three")
    assert untimed(ranked) == untimed(scene.call(*asked, "plain", machine="plain"))
    assert len([row for row in untimed(ranked) if row["method"] != "average"]) == TRIALS
    names = store_at(scene.place).objects.sizes("")
    assert not [name for name in names if "checkpoints" in name or "driver" in name]
    assert len([name for name in names if name.endswith("predictions.parquet")]) == TRIALS

    logged = len(scene.epochs())
    scene.call("run", "sweep.yaml", "--results", scene.place, machine="four")
    assert len(scene.epochs()) == logged
    assert runs_of(read_store(scene.place)) == runs_of(plain)
    scene.call("export", "--dataset", "digits", "--shots", "3", "--results", scene.place, machine="five")
    assert (scene.folder / "best.yaml").exists()


@pytest.fixture
def add_node(scene, cluster, monkeypatch):
    """An adder of machines with a mirror each to a cluster on which nobody else trains."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(scene.folder))))
    monkeypatch.setenv("CHAOS_LOG", str(scene.folder / "log"))
    monkeypatch.setenv("CHAOS_SECONDS", "0.1")
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    nodes = []

    def add(machine):
        mirror = {"SPARSE_SEARCH_CACHE": str(scene.folder / machine)}
        nodes.append(cluster.add_node(num_cpus=1, env_vars=mirror))
        return nodes[-1]

    yield add
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)


def test_nodes_share_nothing_but_the_storage(scene, add_node):
    doomed = add_node("a")
    driver = scene.start("run", "sweep.yaml", "--results", scene.place, machine="head")
    wait_for(lambda: len(scene.recorded()) >= 1 and scene.is_late_in_a_run(), driver)
    for process in descendants(raylet_of(doomed)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    before = scene.epochs()
    scene.hurry.touch()
    add_node("b")
    out, error = driver.communicate(timeout=240)
    assert driver.returncode == 0, error
    assert f"{TRIALS}/{TRIALS}" in out
    after = scene.epochs()[len(before) :]
    assert before[-1].number - 3 * INTERVAL <= after[0].number <= before[-1].number + 1
    assert after[0].run == before[-1].run
    assert len(runs_of(read_store(scene.place))) == TRIALS
    assert list((scene.folder / "a").rglob("*.pt"))
    assert not [*(scene.folder / "b").rglob("*.pt"), *(scene.folder / "head").rglob("*.pt")]
    names = store_at(scene.place).objects.sizes("")
    assert len([name for name in names if name.endswith("predictions.parquet")]) == TRIALS
    assert not [name for name in names if name.endswith(".pt")]
