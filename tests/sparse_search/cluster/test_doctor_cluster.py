"""The doctor on real Ray clusters: nodes started on this machine as `ray start` starts them on others.

What is wrong with a node is really so: it lives in a mount namespace of its own, in which folders are hidden,
read-only or full.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from ..command import call
from ..conftest import TINY

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
CALL = "from sparse_search.cli.app import main; main()"
RAY = "from ray.scripts.scripts import main; main()"


def environment(**changes):
    """Of a shell in which Ray was never used."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"} | changes


class Nodes:
    """Nodes on this machine, the first of which is the head."""

    def __init__(self):
        self._temp = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need a short path
        self._started, self._num_logs, self.address = [], 0, ""

    def start(self, *, setup="", **changes):
        head = ["--head", "--port=0", "--include-dashboard=false", "--temp-dir", str(self._temp / "ray")]
        options = ["--address", self.address] if self.address else head
        command = [sys.executable, "-c", RAY, "start", "--block", "--num-cpus=1"]
        command = [*command, *options, "--object-store-memory=100000000"]
        if setup:
            command = ["unshare", "--mount", "sh", "-c", f'set -e; {setup}; exec "$@"', "sh", *command]
        log = self._temp / f"{self._num_logs}.log"
        self._num_logs += 1
        with log.open("w") as file:
            node = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=self._temp, env=environment(**changes),
                start_new_session=True,
            )  # fmt: skip
        self._started.append(node)
        until = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        self.address = self.address or re.search(r"--address='(\S+:\d+)'", log.read_text())[1]

    def end(self, left=0):
        """Ends all but the first."""
        ended = self._started[left:][::-1]
        del self._started[left:]
        for node in ended:
            node.send_signal(signal.SIGTERM)  # with --block it ends what it started
        for node in ended:
            try:
                node.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait(10)

    def remove(self):
        self.end()
        shutil.rmtree(self._temp, ignore_errors=True)


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two that are well."""
    nodes = Nodes()
    try:
        nodes.start()
        nodes.start()
        yield nodes
    finally:
        nodes.remove()


@pytest.fixture
def nodes(two_nodes):
    """The cluster of two, to which a test may add others."""
    yield two_nodes
    two_nodes.end(left=2)


@pytest.fixture
def folder(tmp_path):
    """A folder with a sweep on images of its own, below `data`."""
    (tmp_path / "data").mkdir()
    rng, labels = np.random.default_rng(0), np.arange(60)[:, None] % 2
    splits = {f"{split}_labels": labels for split in ("train", "val", "test")}
    images = {f"{split}_images": rng.integers(0, 256, (60, 16, 16), np.uint8) for split in ("train", "val", "test")}
    np.savez(tmp_path / "data" / "scans.npz", **splits, **images)
    write_sweep(tmp_path)
    return tmp_path


def write_sweep(folder, **changes):
    changes = {"datasets": ["scans.npz"], "memory_per_trial": 1.5} | changes
    (folder / "sweep.yaml").write_text(yaml.safe_dump(TINY | changes))


def doctor(folder, *arguments, inside=(), **changes):
    """Exit code, and what was printed."""
    command = [*inside, sys.executable, "-c", CALL, "doctor", *arguments, "--results", "results", "--data-root", "data"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, timeout=300, env=environment(**changes)
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_this_machine_is_well(folder):
    code, out = doctor(folder, "sweep.yaml")
    assert code == 0, out
    assert "trial supervised" in out
    assert "trial constant" in out
    assert "failed" not in out
    assert sorted(path.name for path in folder.iterdir()) == ["data", "sweep.yaml"]


def test_two_nodes_are_well(folder, nodes):
    code, out = doctor(folder, "sweep.yaml", RAY_ADDRESS=nodes.address)
    assert code == 0, out
    for check in ("versions", "storage", "disk of temp", "data scans.npz"):
        assert re.search(rf"{check} +│ driver, all 2 nodes +│ ok", out), out
    assert "a trial asks for 1 CPU and 1.5 GB: 2 at a time" in out
    assert re.search(r"GB at most in \d+ images; memory_per_trial is 1.5 GB", out)
    assert "failed" not in out


def can_unshare():
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("unshare") or not can_unshare(), reason="mount namespaces need root")
def test_a_sick_node_is_told_from_a_healthy_one(folder, nodes):
    (folder / "results").mkdir()
    (folder / "small").mkdir()
    for package in ("sparse_search", "trainables", "search_spaces"):
        shutil.copytree(ROOT / package, folder / "other" / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(folder / "other", folder / "older")
    absent = folder / "older" / "sparse_search" / "cluster" / "node.py"  # were it not there, an editable install has it
    absent.write_text("raise ModuleNotFoundError(\"No module named 'sparse_search.cluster.node'\")")
    with (folder / "other" / "sparse_search" / "search" / "cost.py").open("a") as file:
        file.write("# another version\n")
    nodes.start(PYTHONPATH=str(folder / "older"))
    setup = f"mount -t tmpfs none {folder}/data; mount -t tmpfs -o size=50m none {folder}/small"
    setup += f"; mount --bind {folder}/results {folder}/results; mount -o remount,bind,ro {folder}/results"
    nodes.start(setup=setup, PYTHONPATH=str(folder / "other"), TMPDIR=str(folder / "small"))
    code, out = doctor(folder, "sweep.yaml", RAY_ADDRESS=nodes.address)
    assert code == 1
    told = " ".join(re.sub(r"[│┃]", " ", out).split())
    assert "no data at 'scans.npz'" in told
    assert "it cannot write there (Read-only file system)" in told
    assert "temp: 0.1 GB free, expected 2 or more" in told
    assert "other source files of sparse-search" in told
    failed = re.findall(r"failed: (.+?) \((.+?\(\w+\))\): ", out)
    assert sorted(name for name, _ in failed) == ["data scans.npz", "disk of temp", "storage", "versions", "versions"]
    assert sorted(Counter(node for _, node in failed).values()) == [1, 4]
    assert "No module named 'sparse_search.cluster.node'" in told
    assert list((folder / "results").iterdir()) == []


@pytest.mark.skipif(not shutil.which("unshare") or not can_unshare(), reason="process namespaces need root")
def test_a_machine_that_is_none_of_the_nodes_is_told_so(folder, nodes):
    apart = ("unshare", "--pid", "--fork", "--mount-proc")  # a driver looks for its node among the processes
    code, out = doctor(folder, inside=apart, RAY_ADDRESS=nodes.address)
    assert code == 1
    assert "is alive, but this machine is none of its nodes" in " ".join(re.sub(r"[│┃]", " ", out).split())


def test_one_and_a_half_gpus_and_a_dead_address_are_told_together(folder, monkeypatch):
    write_sweep(folder, gpus_per_trial=1.5)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    done = call("doctor", "sweep.yaml", "--results", "results", "--data-root", "data", cwd=folder)
    assert done.returncode == 1
    told = " ".join(re.sub(r"[│┃]", " ", done.stdout).split())
    assert "gpus_per_trial: 1.5 is impossible" in told
    assert "nothing answers at 127.0.0.1:1 (Connection refused)" in told
