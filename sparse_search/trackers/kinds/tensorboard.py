"""TensorBoard: event files, one folder a run; `tensorboard --logdir results/tracking/tensorboard`.

An evaluation is one entry of a file, written whole or not at all: readers pass over half an entry at a file's end, and
each start writes files of its own.
"""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, final

from sparse_search.trackers.tracker import FINAL, Known, TrackedRun, TrackerKind


@final
@dataclass
class _TensorBoard:
    """Event files below a folder."""

    folder: Path
    file_name: str = field(default_factory=lambda: f"events.out.tfevents.{int(time())}.{platform.node()}.{os.getpid()}")

    def known(self, run: TrackedRun) -> Known | None:
        """Return what the run's event files hold."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        if not any((self.folder / run.folder).glob("events.out.tfevents.*")):
            return None
        events = EventAccumulator(str(self.folder / run.folder), size_guidance={"scalars": 1}).Reload()
        tags = events.Tags()["scalars"]
        images = max((events.Scalars(tag)[-1].step for tag in tags), default=-1)
        return Known(images, any(tag.startswith(FINAL) for tag in tags))

    def write(self, run: TrackedRun, *, is_new: bool) -> None:
        """Add an entry for each point, before the first one for the settings, and one at the end."""
        from torch.utils.tensorboard.summary import hparams

        settings = {name: value for name, value in run.settings.items() if isinstance(value, bool | int | float | str)}
        begun, begins, ends = hparams(settings, dict.fromkeys(run.final, 0.0))  # type: ignore[no-untyped-call]
        entries: list[tuple[int, Any]] = [(0, begun), (0, begins)] if is_new else []
        entries += [(point.images, _summary(point.values)) for point in run.points]
        if run.status:
            entries += [(run.images, _summary(run.final)), (run.images, ends)]
        self._append(run.folder, entries)

    def close(self) -> None:
        """Do nothing: all is written."""

    def _append(self, folder: str, entries: list[tuple[int, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = self.folder / folder / self.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_empty = not path.exists()
        with path.open("ab") as file:
            writer = RecordWriter(file)
            if is_empty:
                writer.write(Event(wall_time=time(), file_version="brain.Event:2").SerializeToString())
            for step, summary in entries:
                writer.write(Event(wall_time=time(), step=step, summary=summary).SerializeToString())


def _summary(values: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


TRACKER = TrackerKind("tensorboard", "tensorboard", lambda folder, sweep: _TensorBoard(folder / sweep))
