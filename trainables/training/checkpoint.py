"""Checkpoints that survive a kill: written aside, hashed, renamed; the newest good one is found again.

A file is called `epoch-000012-<hash>.pt`. The hash of its bytes is part of its name, so a file is either
whole or recognisably damaged, and there is no second file that could be lost. Training goes on while a file is
written: a kill in between leaves the one before.
"""

import copy
import logging
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zipfile import BadZipFile

import torch
from torch import Tensor

log = logging.getLogger(__name__)

KEPT = 2
"""Newest checkpoints kept: one to use, one to fall back on."""


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    As a context it ends when what was saved is on disk, and raises what the last write raised; where another exception
    is on its way already, that one goes on and the write's is logged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        error = self._finish()
        if error and problem is None:
            raise error
        if error:
            log.warning("the last checkpoint in %s was not written: %s", self.folder, error)

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Start to write a checkpoint of the state as it is now; all but the newest two are then removed.

        Raises:
            Exception: the write before this one failed; nothing is saved.
        """
        self.wait()
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing = writer.submit(self._write, epoch, _snapshot(state))
        writer.shutdown(wait=False)  # its thread ends with this write, which the interpreter's exit waits for

    def wait(self) -> None:
        """Return when what was saved is on disk.

        Raises:
            Exception: the write failed; told once.
        """
        if error := self._finish():
            raise error

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Epoch and state, on the CPU, of the newest undamaged checkpoint; damaged ones are set aside and logged.

        Raises:
            Exception: a write was in progress and failed.
        """
        self.wait()
        for path in self._files():
            saved = load_hashed(path, _digest)
            if saved is not None and _is_checkpoint(path, saved):
                return saved["epoch"], saved["state"]
        return None

    def remove(self) -> None:
        """Delete all of them, also one that is being written; whether its write failed no longer matters."""
        self._finish()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finish(self) -> BaseException | None:
        """Wait for the write in progress; what it raised, once."""
        writing, self._writing = self._writing, None
        return writing.exception() if writing else None

    def _write(self, epoch: int, state: dict[str, Any]) -> None:
        save_hashed(self.folder, f"epoch-{epoch:06d}", {"epoch": epoch, "state": state}, _digest)
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("epoch-*.pt"), reverse=True)


def save_hashed(folder: Path, stem: str, value: Any, digest: Callable[[Path], str]) -> Path:
    """Write `STEM-<hash>.pt`, whole or not at all; return its path.

    Args:
        folder: made where it is missing.
        stem: of its name.
        value: what `torch.load(weights_only=True)` can read.
        digest: hash of a file's bytes.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{os.getpid()}"
    try:
        with partial.open("wb") as file:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        return partial.replace(folder / f"{stem}-{digest(partial)}.pt")
    finally:
        partial.unlink(missing_ok=True)  # a full disk should not stay full


_UNREADABLE = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, AssertionError, EOFError, struct.error,
    BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
"""What `torch.load` raises of a file that is none of its own, whatever its bytes."""


def load_hashed(path: Path, digest: Callable[[Path], str]) -> Any | None:
    """Return what `save_hashed` wrote, on the CPU; None if it is damaged, and then it is set aside and logged."""
    try:
        if digest(path) != path.stem.rpartition("-")[2]:
            raise ValueError("its bytes do not match its name")
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as why:
        _set_aside(path, why)
    return None


def _is_checkpoint(path: Path, saved: Any) -> bool:
    """Return True for an epoch with its state; whole files with anything else are set aside and logged."""
    if isinstance(saved, dict) and type(saved.get("epoch")) is int and isinstance(saved.get("state"), dict):
        return True
    _set_aside(path, "it holds no epoch with its state")
    return False


def _set_aside(path: Path, why: object) -> None:
    log.warning("set aside damaged checkpoint %s: %s", path, why)
    with suppress(FileNotFoundError):  # another process of a killed sweep may just have removed it
        path.replace(path.with_suffix(".damaged"))


def _snapshot(value: Any) -> Any:
    """The value with copies of its tensors in CPU memory: the tensors of a state are live, and training goes on."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy.copy(value)  # not a new dict: that of a network also carries the versions of its layers
        copied.update({key: _snapshot(each) for key, each in value.items()})
        return copied
    if isinstance(value, list | tuple):
        return type(value)(map(_snapshot, value))
    return value


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "blake2b").hexdigest()[:16]
