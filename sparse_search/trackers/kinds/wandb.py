"""Weights & Biases: a project a sweep, a run a run, offline unless `WANDB_MODE` says otherwise.

A run is written when it has ended, all of it, since files that are written offline cannot be gone on with. `wandb sync
results/tracking/wandb/wandb/offline-run-*` sends them.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from sparse_search.results.files import write_atomically
from sparse_search.trackers.tracker import Known, TrackedRun, TrackerKind

MODE_VARIABLE = "WANDB_MODE"


@final
@dataclass
class _WandB:
    """Runs of a project, with the keys of those that were written."""

    folder: Path
    project: str

    def known(self, run: TrackedRun) -> Known | None:
        """Return that a run is complete, or that there is nothing of it."""
        return Known(run.images, True) if self._mark(run).exists() else None

    def write(self, run: TrackedRun, *, is_new: bool) -> None:
        """Write a run that has ended. Killed before it is marked, it is written again with the same id."""
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        begun = wandb.init(
            project=self.project, id=run.key, name=run.name, group=run.facts["study"], dir=self.folder,
            config={**run.settings, **run.facts}, mode=os.environ.get(MODE_VARIABLE, "offline"),
            reinit="create_new", resume="allow",
            settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
        )  # fmt: skip
        for images, values in run.points:
            begun.log(dict(values), step=images)
        begun.summary.update({**run.final, "status": run.status})
        begun.finish()
        write_atomically(self._mark(run), run.status.encode())

    def close(self) -> None:
        """Do nothing: all is written."""

    def _mark(self, run: TrackedRun) -> Path:
        return self.folder / "written" / run.key


TRACKER = TrackerKind("wandb", "wandb", _WandB, at_end_only=True)
