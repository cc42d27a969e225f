"""Checkpoints that survive a kill: written aside, hashed, renamed; the newest good one is found again.

A file is called `epoch-000012-<hash>.pt`. The hash of its bytes is part of its name, so a file is either
whole or recognisably damaged, and there is no second file that could be lost.
"""

import logging
import os
import pickle
import shutil
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

log = logging.getLogger(__name__)

KEPT = 2
"""Newest checkpoints kept: one to use, one to fall back on."""


class Checkpoints:
    """The checkpoints of one run, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint and removes all but the newest two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".partial-{os.getpid()}"
        try:
            with partial.open("wb") as file:
                torch.save({"epoch": epoch, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.folder / f"epoch-{epoch:06d}-{_digest(partial)}.pt")
        finally:
            partial.unlink(missing_ok=True)  # a full disk should not stay full
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self, device: torch.device | str = "cpu") -> tuple[int, dict[str, Any]] | None:
        """Epoch and state of the newest undamaged checkpoint; damaged ones are set aside and named in the log."""
        for path in self._files():
            try:
                if _digest(path) != path.stem.rpartition("-")[2]:
                    raise ValueError("its bytes do not match its name")
                saved = torch.load(path, map_location=device, weights_only=True)
                return saved["epoch"], saved["state"]
            except (
                OSError,
                ValueError,
                RuntimeError,
                KeyError,
                EOFError,
                BadZipFile,
                pickle.UnpicklingError,
            ) as why:
                log.warning("set aside damaged checkpoint %s: %s", path, why)
                with suppress(FileNotFoundError):  # another process of a killed sweep may just have removed it
                    path.replace(path.with_suffix(".damaged"))
        return None

    def remove(self) -> None:
        """Deletes all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("epoch-*.pt"), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "blake2b").hexdigest()[:16]
