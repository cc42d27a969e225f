"""Two machines that a link joins, made of network namespaces: a Ray head that trains in one, a node in the other."""

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

from .scenes import NOTICE


class TwoMachines:
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
        """Ends whatever runs on them: beyond a cut link nobody hears of a head's end."""
        for name in self._names:
            for process in ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
        for process in self._rays:
            process.wait(20)
        for name in self._names:
            ip("netns", "delete", name)

    def _start(self, name, place, *options):
        command = [
            "ip", "netns", "exec", name, Path(sys.executable).with_name("ray"), "start", "--block", *options,
            f"--node-ip-address={place}", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats",
        ]  # fmt: skip
        environment = os.environ | NOTICE | {"RAY_AUTH_MODE": "disabled"}
        with (self._folder / f"{place}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._rays.append(process)
        until = time.monotonic() + 90
        while "Ray runtime started" not in (said := (self._folder / f"{place}.log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.2)


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def two_machines():
    """Them, with a node on each; the test that asks is skipped where namespaces cannot be made."""
    if not _can_make_namespaces():
        pytest.skip("needs iproute2 and the right to make network namespaces")
    short = Path(tempfile.mkdtemp(prefix="ray-"))
    machines = TwoMachines(short)
    try:
        machines.add_node()
        yield machines
    finally:
        machines.shutdown()
        shutil.rmtree(short, ignore_errors=True)


def _can_make_namespaces():
    name = f"sparse-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "delete", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
