"""Checkpoints that lie at a URI as well: on whichever machine a trial goes on, it finds them."""

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparse_search.results.mirror import MirroredStore, fetch_missing, store_at
from sparse_search.results.object_store import StorageError
from trainables.training.checkpoint import Checkpoints

PATIENCE_SECONDS = 300.0
"""Time that a worker waits for a storage that does not answer."""

log = logging.getLogger(__name__)

_LATER = ThreadPoolExecutor(max_workers=2, thread_name_prefix="delete")
"""Threads that delete while the driver goes on; the interpreter's exit waits for them."""

_deleting: set[Future[None]] = set()


def checkpoints_at(results: Path | str, folder: str) -> Checkpoints:
    """Return the checkpoints in a folder below the results: of a run, or of a trial to remove them all."""
    store = store_at(results)
    return (
        StoredCheckpoints(str(results), folder)
        if isinstance(store, MirroredStore)
        else Checkpoints(store.folder / folder)
    )


def checkpoint_folders(results: Path | str, folder: str) -> set[str]:
    """Return the names of the folders with checkpoints below a folder of the results.

    Raises:
        StorageError: the storage does not answer, or refuses.
    """
    store = store_at(results)
    names = {path.name for path in (store.folder / folder).glob("*")}
    if isinstance(store, MirroredStore):
        names |= {name[len(folder) + 1 :].partition("/")[0] for name in store.objects.sizes(folder)}
    return names


def forget_here(results: Path | str, folder: str) -> None:
    """Remove the mirror's copies on this machine, as a trial has ended; keep those that are all there is."""
    store = store_at(results)
    if isinstance(store, MirroredStore):
        shutil.rmtree(store.folder / folder, ignore_errors=True)


def finish_removing() -> None:
    """Return when what was removed is gone, before a new trial may take its place."""
    wait(list(_deleting))


class StoredCheckpoints(Checkpoints):
    """Checkpoints that are sent when they are written; a silent storage costs no more than what it missed."""

    def __init__(self, results: str, name: str) -> None:
        super().__init__(store_at(results).folder / name)
        self._results, self._name = results, name

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Load as `Checkpoints.load` what the storage has: others may be left of another history of the sweep.

        One that is damaged here is fetched again.

        Raises:
            StorageError: the storage does not answer, or refuses.
        """
        self.wait()
        damaged = self._num_damaged()
        there = self._store.objects.sizes(self._name)
        for path in self._files():
            if f"{self._name}/{path.name}" not in there:
                path.unlink(missing_ok=True)
        fetch_missing(self._store, self._name)
        found = super().load()
        if self._num_damaged() > damaged:
            fetch_missing(self._store, self._name)
            found = super().load()
        return found

    def remove(self) -> None:
        """Delete all of them here, and soon in the storage."""
        super().remove()
        deleting = _LATER.submit(self._delete)
        _deleting.add(deleting)
        deleting.add_done_callback(_deleting.discard)

    def _write(self, epoch: int, state: dict[str, Any]) -> None:
        super()._write(epoch, state)
        try:
            self._send()
        except StorageError as problem:
            log.warning("a checkpoint was written here only: %s", problem)

    def _send(self) -> None:
        objects = self._store.objects
        here = {f"{self._name}/{path.name}": path for path in self._files()}
        there = objects.sizes(self._name)
        for name in here.keys() - there.keys():
            objects.put(name, here[name].read_bytes())
        for name in there.keys() - here.keys():
            objects.delete(name)

    def _delete(self) -> None:
        try:
            self._store.objects.delete_folder(self._name)
        except StorageError as problem:  # the next start of the driver tries again
            log.warning("old checkpoints were not deleted: %s", problem)

    def _num_damaged(self) -> int:
        return len(list(self.folder.glob("*.damaged")))

    @property
    def _store(self) -> MirroredStore:
        """Mirror of the results, made anew: this object travels between processes."""
        store = store_at(self._results)
        assert isinstance(store, MirroredStore)  # or this object would not have been made
        return replace(store, objects=replace(store.objects, patience_seconds=PATIENCE_SECONDS))
