"""Trackers at work: in a thread of their own, so that a slow or broken one holds up no trial.

What a tracker holds already is asked of it, so that a sweep that was killed goes on with the same runs, and one that is
given a tracker later is written down from its beginning.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread
from time import monotonic
from typing import Any

from sparse_search.trackers.choices import find_tracker
from sparse_search.trackers.tracker import Known, Tracker, run_of

Record = Mapping[str, Any]
_Say = Callable[[str], object]

PATIENCE_SECONDS = 60.0
"""Longest wait at the end of a sweep in which a tracker gets nothing done."""

_TICK_SECONDS = 0.2
_MAX_REASON = 200


@dataclass
class Follower:
    """A tracker, and what is known of its runs."""

    name: str
    tracker: Tracker
    at_end_only: bool = False
    seen: dict[str, Known | None] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Write what the tracker lacks of a record's run."""
        run = run_of(record)
        if self.at_end_only and not run.status:
            return
        if run.key not in self.seen:
            self.seen[run.key] = self.tracker.known(run)
        known = self.seen[run.key]
        images, has_ended = known or Known()
        points = tuple(point for point in run.points if point.images > images)
        if not points and (has_ended or not run.status) and known:
            return
        self.tracker.write(replace(run, points=points), is_new=known is None)
        self.seen[run.key] = Known(max(images, run.images), has_ended or bool(run.status))


class Following:
    """Trackers of one start of a sweep."""

    def __init__(self, followers: Iterable[Follower], say: _Say) -> None:
        """Begin to follow; `say` is told, in one line each, of trackers that fail."""
        self._followers = list(followers)
        self._say = say
        self._records: Queue[Record | None] = Queue()
        self._num_done = 0
        self._thread = Thread(target=self._follow, name="trackers", daemon=True)
        self._thread.start()

    def take(self, record: Record) -> None:
        """Have a record written down, of a run that has ended or not; the same one again changes nothing."""
        self._records.put(record)

    def close(self) -> None:
        """Wait until all is written, or nothing has been for `PATIENCE_SECONDS`."""
        self._records.put(None)
        done, since = self._num_done, monotonic()
        while self._thread.is_alive() and monotonic() - since < PATIENCE_SECONDS:
            self._thread.join(_TICK_SECONDS)
            if self._num_done > done:
                done, since = self._num_done, monotonic()
        if self._thread.is_alive():
            self._say("a tracker does not answer; what it lacks is written at the next start")

    def _follow(self) -> None:
        while (record := self._records.get()) is not None:
            for follower in list(self._followers):
                self._guarded(follower, partial(follower.take, record))
            self._num_done += 1
        for follower in list(self._followers):
            self._guarded(follower, follower.tracker.close)

    def _guarded(self, follower: Follower, act: Callable[[], object]) -> None:
        """Do what a tracker is for, and leave it out from its first failure on."""
        try:
            act()
        except Exception as problem:  # the boundary to libraries, networks and disks on which no trial may depend
            self._followers.remove(follower)
            self._say(f"tracker {follower.name} failed and is left out from now on: {_reason(problem)}")


@contextmanager
def following(
    names: Sequence[str], folder: Path, sweep: str, earlier: Callable[[], Sequence[Record]], say: _Say
) -> Iterator[Callable[[Record], object]]:
    """Follow a sweep with trackers; gives what is to be told of every record.

    Args:
        names: Names of the trackers; with none, nothing is loaded or written.
        folder: A folder for what they write on this machine.
        sweep: Name of the sweep.
        earlier: The records that there are.
        say: Told in one line of a tracker that fails.

    Raises:
        ConfigError: a library is not installed.
    """
    if not names:
        yield lambda record: None
        return
    found = Following(_opened(names, folder, sweep, say), say)
    for record in earlier():
        if record["sweep"] == sweep:
            found.take(record)
    try:
        yield found.take
    finally:
        found.close()


def _opened(names: Sequence[str], folder: Path, sweep: str, say: _Say) -> Iterator[Follower]:
    for name in names:
        kind = find_tracker(name)
        try:
            yield Follower(name, kind.open(folder / name, sweep), kind.at_end_only)
        except Exception as problem:  # as in `_guarded`
            say(f"tracker {name} cannot begin and is left out: {_reason(problem)}")


def _reason(problem: Exception) -> str:
    """The first line of what went wrong."""
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return lines[0][:_MAX_REASON]
