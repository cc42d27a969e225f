"""The contract of a tracker, and a run as trackers see it.

A tracker is `sparse_search/trackers/kinds/NAME.py`, ending with `TRACKER = TrackerKind(library, extra, open)`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from search_spaces.core.config import short_hash
from trainables.metrics.table import METRICS

FINAL = "final/"
"""Beginning of the names of what a run is judged by."""


class Point(NamedTuple):
    """One evaluation of a run."""

    images: int
    """Images seen so far: the step of every curve."""

    values: Mapping[str, float]
    """Scores as `PREDICTOR/METRIC`, losses as `train/NAME`."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run, or what is new of it."""

    key: str
    """Twelve digits, the same at every start and every try."""

    name: str
    folder: str
    """A relative path that tells runs apart and sorts them."""

    settings: Mapping[str, Any]
    facts: Mapping[str, str]
    """What it is about: sweep, study, data set, …"""

    points: tuple[Point, ...]
    """In the order of their images."""

    status: str
    """The end of its trial; empty in training."""

    final: Mapping[str, float]
    """Scores that it is judged by, as `final/PREDICTOR/METRIC`."""

    images: int
    """Images seen so far."""


class Known(NamedTuple):
    """What a tracker holds of a run."""

    images: int = -1
    """Images seen at the last point that it holds; -1 for none."""

    has_ended: bool = False


class Tracker(Protocol):
    """Keeper of runs for another program. Whatever it raises is told once, and it is asked no more."""

    def known(self, run: TrackedRun) -> Known | None:
        """Return what it holds of a run, maybe written at an earlier start; None for nothing."""

    def write(self, run: TrackedRun, *, is_new: bool) -> None:
        """Keep what is new of a run; its end where it has a status. Killed within, no point stands there twice."""

    def close(self) -> None:
        """Finish what is being written."""


class TrackerKind(NamedTuple):
    """A kind of tracker."""

    library: str
    """Module without which it does not work."""

    extra: str
    """Extra of this package that brings it."""

    open: Callable[[Path, str], Tracker]
    """Makes it, given a folder of its own and the name of the sweep."""

    at_end_only: bool = False
    """Hears of a run when it has ended."""


def run_of(record: Mapping[str, Any]) -> TrackedRun:
    """Return the run of a record, whether it has ended or not."""
    curve, status = record["curve"], record.get("status", "")
    number, label_set, fold = (record[name] for name in ("number", "label_set", "fold"))
    facts = ("sweep", "study", "dataset", "shots", "method", "number", "label_set", "fold", "start", "run_id")
    return TrackedRun(
        key=short_hash({name: record[name] for name in ("sweep", "study", "run_id")}),
        name=f"{record['study']} · trial {number} · label set {label_set}{f' · fold {fold}' if fold else ''}",
        folder=f"{record['study'].replace(' ', '_').replace('/', '_')}/trial_{number:05}-set_{label_set}-fold_{fold}",
        settings=record["config"],
        facts={name: str(record[name]) for name in facts},
        points=tuple(Point(point["images"], dict(_values(point))) for point in curve),
        status=status,
        images=curve[-1]["images"] if curve else 0,
        final=dict(_scores(curve[-1]["selected"], FINAL)) if curve else {},
    )


def _values(point: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield from _scores(point["scores"])
    losses = {name: value for entry in point["losses"] for name, value in entry.items() if name != "epoch"}
    yield from ((f"train/{name}", float(value)) for name, value in losses.items() if isfinite(value))


def _scores(by_predictor: Mapping[str, Mapping[str, Any]], prefix: str = "") -> Iterator[tuple[str, float]]:
    for predictor, scores in by_predictor.items():
        for metric in METRICS:
            value = scores.get(metric)
            if value is not None and isfinite(value):
                yield f"{prefix}{predictor}/{metric}", float(value)
