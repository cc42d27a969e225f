"""A dead Ray ends a sweep: by an interrupt, and where the main thread is stuck by the end of the process."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import ray

from search_spaces.core.errors import ResultsError
from sparse_search.execution import ray_watch
from sparse_search.execution.ray_watch import END_CODE, RayWatch, ray_watched

STUCK = """
import signal, subprocess, sys, time
from sparse_search.execution import ray_watch

ray_watch.LOOK_SECONDS, ray_watch.MAX_ENDING_SECONDS = 0.05, 0.3
ray_watch.RayWatch.is_dead = lambda watch: True
child = subprocess.Popen(["sleep", "3600"])
print(child.pid, flush=True)
with ray_watch.ray_watched("Ray [of this machine] has ended"):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # as a call of Ray, it hears of no interrupt
    time.sleep(3600)
"""


@pytest.fixture
def dies(monkeypatch):
    """A Ray that is dead after some looks; the number of times that it was shut down.

    Other tests of this process have a Ray, and a watch over it, that must not hear of this. A suite that was started in
    the background ignores Ctrl-C.
    """
    downs, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)

    def make(looks):
        left = iter([False] * looks)

        class Dying(RayWatch):
            def is_dead(self):
                return next(left, True)

        monkeypatch.setattr(ray_watch, "RayWatch", Dying)
        return downs

    monkeypatch.setattr(ray_watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(ray, "shutdown", lambda: downs.append(1))
    yield make
    signal.signal(signal.SIGINT, before)


def test_the_main_thread_is_interrupted(dies):
    downs = dies(2)
    with pytest.raises(ResultsError, match="Ray is gone"), ray_watched("Ray is gone"):
        time.sleep(30)
    assert downs == [1]


def test_an_error_of_a_dead_ray_is_told_as_its_death(dies):
    def call():
        try:
            time.sleep(30)
        except KeyboardInterrupt as problem:
            raise RuntimeError("a call failed") from problem

    dies(0)
    with pytest.raises(ResultsError, match="Ray is gone"), ray_watched("Ray is gone"):
        call()


def test_while_ray_lives_errors_are_what_they_are(dies):
    downs = dies(10_000)
    with pytest.raises(ZeroDivisionError), ray_watched("Ray is gone"):
        1 / 0  # noqa: B018
    with pytest.raises(KeyboardInterrupt), ray_watched("Ray is gone"):
        raise KeyboardInterrupt
    assert downs == [1, 1]


def test_a_process_that_is_stuck_is_ended_with_what_it_started(tmp_path):
    command = [sys.executable, "-c", STUCK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=500)
    assert (done.returncode, done.stderr) == (END_CODE, "error: Ray [of this machine] has ended\n")
    listed = subprocess.run(["ps", "-o", "stat=", "-p", done.stdout.strip()], capture_output=True, text=True)
    assert listed.stdout.strip()[:1] in ("", "Z")


@pytest.fixture
def vital(tmp_path):
    """Starts a process named as one of Ray's; ends it in the end."""
    started = []

    def start(name):
        (tmp_path / name).symlink_to(shutil.which("sleep"))
        started.append(subprocess.Popen([tmp_path / name, "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_ray_is_dead_once_a_vital_process_has_ended(vital):
    watch = RayWatch("")
    assert not watch.is_dead()
    processes = [vital("gcs_server"), vital("raylet")]
    assert not watch.is_dead()
    processes[0].kill()
    os.waitid(os.P_PID, processes[0].pid, os.WEXITED | os.WNOWAIT)
    assert watch.is_dead()
    processes[0].wait()
    assert watch.is_dead()


def test_an_earlier_ray_and_other_processes_may_end(vital):
    earlier = vital("raylet")
    watch = RayWatch("")
    other = vital("monitor")
    assert not watch.is_dead()
    for process in (earlier, other):
        process.kill()
        process.wait()
    assert not watch.is_dead()
