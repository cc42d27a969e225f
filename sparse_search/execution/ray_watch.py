"""Watch over Ray where it was started for one sweep: without its `gcs_server` many a call of Ray waits for ever.

Ray's own answer is a minute of silence, after which it aborts the process with a dump.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray
from rich.console import Console

from search_spaces.core.errors import ResultsError

LOOK_SECONDS = 1.0

MAX_ENDING_SECONDS = 15.0
"""Longest time in which a sweep may end by itself once Ray is dead; then the process is ended."""

END_CODE = 2
"""Exit code of a process that is ended: that of any error told in one line."""

VITAL = ("gcs_server", "raylet")
"""Names of the processes without which Ray of one machine is dead."""


@contextmanager
def ray_watched(lost: str) -> Iterator[None]:
    """Interrupt the main thread when the Ray that is started in this context dies; shut it down at the end.

    The process is ended where it stays stuck in Ray.

    Args:
        lost: What to say of a dead Ray.

    Raises:
        ResultsError: Ray has died.
    """
    watch, is_well = RayWatch(lost), False
    watch.start()
    try:
        yield
        is_well = True
    finally:
        if not watch.has_lost:
            watch.stop()  # what ends now is meant to
        ray.shutdown()
        watch.stop()
        if watch.has_lost and not is_well:
            raise ResultsError(lost)


class RayWatch(threading.Thread):
    """Thread that looks at the vital processes which Ray starts from now on in this process, until it is stopped."""

    def __init__(self, lost: str) -> None:
        super().__init__(name="ray-watch", daemon=True)
        self._lost, self._is_over = lost, threading.Event()
        self._can_interrupt = threading.current_thread() is threading.main_thread()
        self._earlier, self._vital = set(_children()), set[psutil.Process]()
        self.has_lost = False

    def run(self) -> None:
        """Look now and then, and act once."""
        while not self._is_over.wait(LOOK_SECONDS):
            if self.is_dead() and not self._is_over.is_set():  # nobody has stopped it while it looked
                self.has_lost = True
                self._interrupt()
                if not self._is_over.wait(MAX_ENDING_SECONDS):
                    _end_process(self._lost)

    def is_dead(self) -> bool:
        """Return True where a process has ended that was there at an earlier look."""
        if len(self._vital) < len(VITAL):
            self._vital |= set(_children()) - self._earlier
        return any(_has_ended(process) for process in self._vital)

    def _interrupt(self) -> None:
        """Send what Ctrl-C does, which also ends a wait of the system; nothing where it is ignored."""
        if self._can_interrupt and callable(signal.getsignal(signal.SIGINT)):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()


def _children() -> list[psutil.Process]:
    """Return the processes that this one has started without which its Ray is dead."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name() in VITAL:
                found.append(child)
    return found


def _has_ended(process: psutil.Process) -> bool:
    """Return True also where nobody has asked yet how it ended."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def _end_process(why: str) -> None:
    """End this process, and what it has started, from whatever thread; no handler runs."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    if sys.stdout.isatty():
        Console().show_cursor()  # which a live table hides
    Console(stderr=True).print(f"error: {why}", markup=False, highlight=False, soft_wrap=True)
    os._exit(END_CODE)
