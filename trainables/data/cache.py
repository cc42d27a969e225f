"""Folders of files that take long to make, made once: below one place, named by what they hold.

A folder appears whole or not at all: it is filled under another name, then renamed, while a lock keeps other processes
waiting. A manifest tells sizes and the checksums of both ends of every file; a folder that differs is made again.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from filelock import FileLock

from search_spaces.core.errors import DataError
from trainables.core.home import from_home

CACHE_VARIABLE = "SPARSE_SEARCH_CACHE"

_MANIFEST = "manifest.json"
_END_BYTES = 65_536

CacheFacts = dict[str, Any]
"""Values to be known beside the files, as JSON holds them."""


def cache_root() -> Path:
    """The folder of everything that is kept: $SPARSE_SEARCH_CACHE, else ~/.cache/sparse-search."""
    return from_home(os.environ.get(CACHE_VARIABLE) or "~/.cache/sparse-search").absolute()


def cached_folder(key: str, make: Callable[[Path], CacheFacts]) -> tuple[Path, CacheFacts]:
    """The folder of that name and its facts, made where it is missing or damaged.

    Args:
        key: Names the folder: as different as the contents.
        make: Fills an empty folder; returns the facts.

    Raises:
        DataError: it cannot be written: no permission, a full disk.
    """
    folder = cache_root() / key
    facts = _facts(folder)
    if facts is not None:
        return folder, facts
    with writing("prepared pictures", folder.parent), FileLock(f"{folder}.lock"):
        facts = _facts(folder)  # another process may have made it in the meantime
        return folder, _made(folder, make) if facts is None else facts


@contextmanager
def writing(what: str, place: Path) -> Iterator[None]:
    """Make a folder of the cache, in which something is written inside the context.

    Raises:
        DataError: instead of an OSError, naming what was to be written.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as problem:
        raise DataError(
            f"{what} cannot be written to {place} ({problem.strerror or problem}); "
            f"make room, or name another folder in ${CACHE_VARIABLE}"
        ) from problem


def _made(folder: Path, make: Callable[[Path], CacheFacts]) -> CacheFacts:
    partial = folder.with_name(f"{folder.name}.partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    try:
        facts = make(partial)
        files = {path.name: _fingerprint(path) for path in sorted(partial.iterdir())}
        (partial / _MANIFEST).write_text(json.dumps({"facts": facts, "files": files}))
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return facts


def _facts(folder: Path) -> CacheFacts | None:
    """The facts of a folder; None unless it is there and whole."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        whole = all(_fingerprint(folder / name) == told for name, told in manifest["files"].items())
        facts: CacheFacts = manifest["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole else None


def _fingerprint(path: Path) -> list[int]:
    """Size and a checksum of both ends: a file that was cut or never reached the disk differs."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        check = crc32(stream.read(_END_BYTES))
        stream.seek(max(0, size - _END_BYTES))
        return [size, crc32(stream.read(_END_BYTES), check)]
