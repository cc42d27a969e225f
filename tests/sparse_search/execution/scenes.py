"""A real sweep on a Ray cluster of several nodes on this machine, and what became of it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CALL = "from sparse_search.cli.app import main; main()"

NOTICE = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}
"""Variables of a head that notices a dead node after 2 s and a cut link after 10; by Ray's defaults, 15 and 65."""


@contextmanager
def new_cluster():
    """A cluster whose head trains nothing; nodes are added with the variables that this process has by then."""
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="ray-")  # a socket's path has 107 letters at most
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": short}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in NOTICE.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(short, ignore_errors=True)


def children_of(parent):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def raylet_of(node):
    """Id of the process that is a node."""
    return node.all_processes["raylet"][0].process.pid


class Scene:
    """A sweep in a folder with a method that keeps a log there, and the nodes that it was given."""

    def __init__(self, cluster, folder, inside=()):
        self._cluster, self.folder, self._inside = cluster, folder, inside
        self.log, self._out, self._error = (folder / name for name in ("log", "out", "error"))
        self._driver, self._nodes = None, []

    def add_node(self):
        node = self._cluster.add_node(num_cpus=1)
        self._nodes.append(node)
        return node

    def kill(self, node):
        """As when its machine is gone: raylet and workers die at once, and nobody says goodbye."""
        for process in (raylet_of(node), *children_of(raylet_of(node))):
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

    def hurry(self):
        """From now on an epoch takes no longer than it must."""
        self.log.with_name(f"{self.log.name}.hurry").touch()

    def wait_for(self, condition, seconds=240):
        until = time.monotonic() + seconds
        while not condition():
            assert self._driver.poll() is None, self._error.read_text()
            assert time.monotonic() < until, f"waited in vain: {self.said}"
            time.sleep(0.1)

    def finish(self):
        self.hurry()
        assert self._driver.wait(240) == 0, self._error.read_text()
        assert "Traceback" not in self._error.read_text()

    def end(self):
        """Ends the driver, and the nodes that are left: the next scene has its own."""
        if self._driver and self._driver.poll() is None:
            self._driver.kill()
            self._driver.wait()
        for node in self._nodes:
            self._cluster.remove_node(node, allow_graceful=False)

    @property
    def said(self):
        return self._out.read_text()
