"""Optuna's journal in a file that one process writes, as a sweep has one driver, and any number read."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalStorage

from search_spaces.core.errors import ResultsError


class _OneWriterFile(JournalFileBackend):
    """Journal file of Optuna without its lock, which a killed driver would leave behind for the next one to wait for.

    What is appended can be read by other processes, and outlives this one, at once; it is on the disk, and outlives the
    machine, at the end of a step.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._depth = 0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append a line for each entry."""
        lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
        with self.step(), self._path.open("ab") as file:
            file.write(lines.encode())

    @contextmanager
    def step(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                with self._path.open("ab") as file:
                    os.fsync(file.fileno())


class Journal(JournalStorage):
    """Journal of all studies of a sweep.

    Raises:
        ResultsError: the file cannot be read or made.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _OneWriterFile(path)
            super().__init__(self._file)
        except (OSError, ValueError) as problem:
            raise ResultsError(f"cannot read the journal {path}: {problem}") from problem

    def step(self) -> AbstractContextManager[None]:
        """Wait for the disk once, at the end of the context, instead of after each line."""
        return self._file.step()


def mend_journal(path: Path) -> None:
    """Remove a last line that a full disk or a power cut left half written: that step never happened.

    Only for the one driver of a sweep.
    """
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
