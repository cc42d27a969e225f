"""Picture files below a folder: found, and told apart by content."""

from functools import lru_cache
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

from search_spaces.core.errors import DataError
from trainables.data.names import POOL_FOLDERS
from trainables.data.readers.picture_files import SUFFIXES
from trainables.data.readers.reader import md5_of_file

IGNORED = (".", "__MACOSX")
"""Beginnings of names that are passed over."""


class File(NamedTuple):
    """File and what tells that it changed; the tuple of all is the key of the caches."""

    place: str
    """Path below the folder, with forward slashes."""

    mtime_ns: int
    size: int


def is_picture(path: Path) -> bool:
    """True if it is a file whose name is that of a picture."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(IGNORED) and path.is_file()


def pictures_below(folder: Path, *patterns: str) -> tuple[File, ...]:
    """Pictures that match one of the patterns, in the order of their places."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if is_picture(path)}
    shown = (path for path in found if not any(p.startswith(IGNORED) for p in path.relative_to(folder).parts))
    return tuple(sorted(file_of(folder, path) for path in shown))


def pool_below(folder: Path) -> tuple[File, ...]:
    """Pictures in a folder `unlabelled/` below, in the order of their places."""
    return pictures_below(folder, *(f"{pool}/*" for pool in POOL_FOLDERS))


def file_of(folder: Path, path: Path) -> File:
    """The file at a path, as it lies below a folder."""
    stat = path.stat()
    return File(path.relative_to(folder).as_posix(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def digest_of(folder: Path, files: tuple[File, ...]) -> str:
    """MD5 over places and bytes, 32 hex digits; computed once per process while the files stay as they are.

    Raises:
        DataError: a name is no UTF-8, and cannot be written anywhere.
    """
    total = md5(usedforsecurity=False)
    for file in files:
        try:
            total.update(f"{file.place}\0{md5_of_file(folder / file.place)}\n".encode())
        except UnicodeEncodeError as problem:
            shown = file.place.encode("utf-8", "backslashreplace").decode()
            raise DataError(f"the name of {shown} in {folder} is not UTF-8; expected such: rename it") from problem
    return total.hexdigest()
