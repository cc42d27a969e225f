"""Optuna's journal in a file that one process writes, as a sweep has one driver, and any number read.

    {"op_code":4,"worker_id":"…","study_id":0, … ,"crc32":"9f04c1a2"}

A line is an entry of Optuna's, as `optuna-dashboard` reads it too, with a checksum of every byte before it. Lines
without one, of earlier versions or added by a tool of Optuna's, are read as well, if they hold nothing that Optuna does
not write.
"""

import json
import os
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.errors import ResultsError
from sparse_search.search.judged import Judge

_MARK = b',"crc32":"'

_PARAMETER = b'{"op_code":5,'
"""Beginning of the lines that set the value of a parameter."""

_OF_OPTUNA = {
    "op_code", "worker_id", "study_id", "study_name", "directions", "trial_id", "datetime_start", "datetime_complete",
    "param_name", "param_value_internal", "distribution", "state", "value", "values", "step", "intermediate_value",
    "user_attr", "system_attr", "user_attrs", "system_attrs", "params", "distributions", "intermediate_values",
}  # fmt: skip
"""Keys of the entries that Optuna writes."""

_IMPOSSIBLE = (AssertionError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""Errors that Optuna raises at an entry that says what cannot be."""


class DamagedJournalError(ResultsError):
    """A journal with a line that is not as it was written."""

    def __init__(self, path: Path, number: int, why: str) -> None:
        super().__init__(
            f"line {number} of the journal {path} is damaged ({why}); `sparse-search run` sets it aside and builds the "
            "search again from the lines before and from the records, and trains nothing again that is in these"
        )
        self.path, self.number, self.why = path, number, why


def encode_entry(entry: dict[str, Any]) -> bytes:
    """Encode an entry as a line with its checksum."""
    body = json.dumps(entry, separators=(",", ":")).encode()[:-1]
    return body + _end(body) + b"\n"


def decode_entry(line: bytes) -> dict[str, Any]:
    """Decode the entry of a line; ValueError says how it is damaged."""
    body, mark, end = line.rstrip(b"\r\n").rpartition(_MARK)
    if mark and mark + end != _end(body):
        raise ValueError("its checksum differs")
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("it is no entry")
    if not mark and (odd := entry.keys() - _OF_OPTUNA):
        raise ValueError(f"it has no checksum and an unknown '{min(odd)}'")
    entry.pop("crc32", None)
    return entry


def _end(body: bytes) -> bytes:
    return _MARK + f"{crc32(body):08x}".encode() + b'"}'


class _OneWriterFile(JournalFileBackend):
    """Journal file of Optuna without its lock, which a killed driver would leave behind for the next one to wait for.

    What is appended can be read by other processes, and outlives this one, at once; it is on the disk, and outlives the
    machine, at the end of a step.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._depth = 0
        self._read = 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the entries from a number on; a last line without an end is being written, or never was.

        Raises:
            DamagedJournalError: naming the line.
        """
        start = self._read if self._read[0] == log_number_from else (0, 0)
        return (entry for number, entry in self._entries(*start) if entry and number > log_number_from)

    def _entries(self, number: int, offset: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield whole lines behind the first `number`, which end at `offset`: their numbers, and what they say."""
        with self._path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    entry = self._decoded(line)
                except (ValueError, RecursionError) as problem:
                    raise DamagedJournalError(self._path, number + 1, str(problem)) from problem
                number, offset = number + 1, offset + len(line)
                self._read = number, offset
                yield number, entry

    def _decoded(self, line: bytes) -> dict[str, Any] | None:
        return decode_entry(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append a line for each entry."""
        with self.step(), self._path.open("ab") as file:
            file.write(b"".join(map(encode_entry, logs)))

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


class _LookedAtFile(_OneWriterFile):
    """Journal file of which nobody wants the values of parameters, which are nearly all of it: checked, not read."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the entries behind those that were read before.

        Raises:
            DamagedJournalError: naming the line.
        """
        return (entry for _, entry in self._entries(*self._read) if entry)

    def _decoded(self, line: bytes) -> dict[str, Any] | None:
        return None if _is_parameter(line) else decode_entry(line)


def _is_parameter(line: bytes) -> bool:
    """Return True for a whole line that sets the value of a parameter."""
    body, mark, end = line.rstrip(b"\r\n").rpartition(_MARK)
    return line.startswith(_PARAMETER) and mark + end == _end(body)


class Journal(JournalStorage):
    """Journal of all studies of a sweep.

    Args:
        path: The file; made if it is not there.
        look_only: Leave out the values of parameters, and write nothing: three times as fast.

    Raises:
        DamagedJournalError: a line is not as it was written, or says what cannot be.
        ResultsError: the file cannot be read or made.
    """

    def __init__(self, path: Path, *, look_only: bool = False) -> None:
        self.path = path
        try:
            if not look_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _LookedAtFile(path) if look_only else _OneWriterFile(path)
            self._judges: dict[int, Judge] = {}
            super().__init__(self._file)
        except OSError as problem:
            raise ResultsError(f"cannot read the journal {path}: {problem}") from problem

    def step(self) -> AbstractContextManager[None]:
        """Wait for the disk once, at the end of the context, instead of after each line."""
        return self._file.step()

    def judge(self, study_id: int, judge: Judge) -> None:
        """Show the trials of a study as a judge has them from now on."""
        self._judges[study_id] = judge

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study, as its judge shows them."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return self._judges[study_id].shown(trials) if study_id in self._judges else trials

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
        except _IMPOSSIBLE as problem:
            number = self._replay_result.log_number_read
            raise DamagedJournalError(self.path, number, f"it says what cannot be: {problem!r}") from problem


def mend_journal(path: Path) -> int:
    """Remove the last lines that a full disk or a power cut left half written: that step never happened.

    Only for the one driver of a sweep. Damage with whole lines behind it stays: nothing that may have happened is
    removed without a word.

    Returns:
        The number of lines that were removed.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    keep = len(lines)
    while keep and not _is_whole(lines[keep - 1]):
        keep -= 1
    if keep < len(lines):
        os.truncate(path, sum(map(len, lines[:keep])))
    return len(lines) - keep


def _is_whole(line: bytes) -> bool:
    try:
        decode_entry(line)
    except (ValueError, RecursionError):
        return False
    return line.endswith(b"\n")
