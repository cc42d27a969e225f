"""Cost of a sweep so far, and the clock that may end it."""

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.core.errors import ResultsError
from sparse_search.results.catalog import SetAsideWarning
from sparse_search.results.files import write_atomically
from sparse_search.results.store import Store

NOTE_SECONDS = 30.0
"""Time between two notes on disk: what a killed driver may forget."""


class OutOfTimeError(KeyboardInterrupt):
    """The clock has run out. Like Ctrl-C it passes through Tune, which catches every plain exception."""


@dataclass(frozen=True)
class Cost:
    """Cost of a sweep, all starts together."""

    hours: float
    """Time of driving, on the wall."""

    busy: float
    """Share of its slots for trials that trained, from the first trial of a start to its last; 0 when none ended."""

    num_runs: int
    images: int
    run_hours: float
    gpu_hours: float
    peak_memory_bytes: int
    """Memory of the run that needed most."""

    def __str__(self) -> str:
        gpu = f", {self.gpu_hours:.2g} GPU hours" if self.gpu_hours else ""
        return (
            f"{self.num_runs:,} runs, {self.images:,} images, {self.run_hours:.2g} hours of training{gpu}, at most "
            f"{self.peak_memory_bytes / 1e9:.1f} GB; {self.hours:.2g} hours on the clock, workers busy {self.busy:.0%}"
        )


class Clock:
    """Time spent on a sweep, remembered from start to start."""

    def __init__(self, path: Path, max_hours: float | None = None) -> None:
        self._path = path
        self._max_seconds = None if max_hours is None else max_hours * 3600
        self._noted = {"seconds": 0.0, "busy_seconds": 0.0, "slot_seconds": 0.0}
        self._noted |= _read_note(path, self._noted)
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent so far, all starts together."""
        return self._noted["seconds"] + time.monotonic() - self._since

    @property
    def is_over(self) -> bool:
        """True when the sweep has had its time."""
        return self._max_seconds is not None and self.seconds >= self._max_seconds

    @property
    def busy(self) -> float:
        """Share of the slots for trials that trained."""
        return min(1.0, self._noted["busy_seconds"] / (self._noted["slot_seconds"] or 1.0))

    def tick(self) -> None:
        """Note the time now and then, so that a kill costs little of it."""
        if time.monotonic() - self._since > NOTE_SECONDS:
            self.note()

    def note(self, busy_seconds: float = 0.0, slot_seconds: float = 0.0) -> None:
        """Keep what was spent, and of it what slots for trials there were and how long they trained.

        Raises:
            ResultsError: the disk refuses it.
        """
        self._noted["seconds"], self._since = self.seconds, time.monotonic()
        self._noted["busy_seconds"] += busy_seconds
        self._noted["slot_seconds"] += slot_seconds
        try:
            write_atomically(self._path, json.dumps(self._noted).encode())
        except OSError as problem:
            raise ResultsError(
                f"cannot write {self._path}: {problem.strerror}; mend this, and the same command goes on"
            ) from problem


def _read_note(path: Path, known: Mapping[str, float]) -> dict[str, float]:
    """Return what was noted; nothing where there is no note, or none that can be read."""
    try:
        noted = json.loads(path.read_bytes())
        return {name: float(noted[name]) for name in known if name in noted and isfinite(noted[name])}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError) as problem:
        why = f"{path} is damaged ({problem}): the clock of this sweep begins anew"
        warnings.warn(why, SetAsideWarning, stacklevel=3)
        return {}


def cost_of(store: Store, sweep: str, clock: Clock) -> Cost:
    """Add up what the runs of a sweep have cost; one that a confirmation took over from its search counts once."""
    sums = ("wall_seconds", "gpu_seconds", "images_done", "peak_memory_bytes")
    runs = store.runs(columns=("sweep", "run_id", *sums))
    each = runs.filter(pc.field("sweep") == sweep).group_by("run_id").aggregate([(name, "max") for name in sums])
    wall, gpu, images, memory = (each[f"{name}_max"] for name in sums)
    return Cost(
        hours=clock.seconds / 3600,
        busy=clock.busy,
        num_runs=len(each),
        images=int(_sum(images)),
        run_hours=_sum(wall) / 3600,
        gpu_hours=_sum(gpu) / 3600,
        peak_memory_bytes=pc.max(memory).as_py() or 0,
    )


def _sum(column: pa.ChunkedArray) -> float:
    total: float = pc.sum(column).as_py() or 0
    return total
