"""Objects below a URI, `s3://bucket/prefix` or `gs://bucket/prefix`: put, got, listed, deleted, through PyArrow.

There is no rename, no append and no lock, and of a write that fails the storage may say so only when it ends: so
objects are written in one go, and are there whole or not at all. Where the storage is and who asks is taken from the
usual variables, files and roles of AWS and Google Cloud, or from the URI (`?endpoint_override=host:port&scheme=http`).
"""

import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from search_spaces.core.errors import ConfigError
from sparse_search.results.files import write_atomically
from trainables.core.home import from_home

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs")

AT_ONCE = 16
"""Requests under way together."""

PAUSE_SECONDS = 2.0
"""Pause between two tries of what the network may have spoiled."""

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")

_DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT",
           "INVALID_CLIENT_TOKEN_ID", "EXPIRED_TOKEN", "status 401", "status 403", "PERMISSION_DENIED")  # fmt: skip
_NO_BUCKET = ("NO_SUCH_BUCKET", "Bucket does not exist")
_AWS_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


class StorageError(OSError):
    """The object storage does not do what it was asked; the text says why in one line."""


def is_uri(place: Path | str) -> bool:
    """Tell if results are to be kept somewhere else than in a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+]+:/", str(place)) is not None  # a path loses one of the slashes


@dataclass(frozen=True)
class Objects:
    """The objects below a URI, named by what follows it.

    Every method raises StorageError where the storage refuses, or does not answer for `patience_seconds`.
    """

    uri: str
    patience_seconds: float = 0.0

    def put(self, name: str, content: bytes) -> None:
        """Write an object, or another content of it; compressed where the name ends in `.zst`."""

        def write() -> None:
            with self._files.open_output_stream(self._path(name)) as stream:
                stream.write(content)

        self._do(write)

    def get(self, name: str) -> bytes | None:
        """Return the content of an object; None where there is none."""

        def read() -> bytes:
            with self._files.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read())

        with suppress(FileNotFoundError):
            return self._do(read)
        return None

    def fetch(self, name: str, path: Path) -> bool:
        """Write an object to a file; tell if it was there."""
        content = self.get(name)
        if content is not None:
            write_atomically(path, content)
        return content is not None

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all objects whose names begin with a folder, by name."""
        from pyarrow.fs import FileSelector

        asked = FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        infos = self._do(lambda: self._files.get_file_info(asked))
        start = len(self._path("")) + 1
        found = {info.path[start:]: info.size for info in infos if info.is_file}
        if not found:
            self._check_bucket()
        return found

    def modified(self, name: str) -> float:
        """Return when an object was last written, in seconds by the clock of the storage; 0 where there is none."""
        (info,) = self._do(lambda: self._files.get_file_info([self._path(name)]))
        return (info.mtime_ns or 0) / 1e9

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        with suppress(FileNotFoundError):
            self._do(lambda: self._files.delete_file(self._path(name)))

    def delete_folder(self, folder: str) -> None:
        """Delete all objects whose names begin with a folder."""
        with suppress(FileNotFoundError):
            self._do(lambda: self._files.delete_dir(self._path(folder)))

    def _check_bucket(self) -> None:
        """Refuse a bucket that does not exist: a listing does not tell it from an empty one."""
        bucket = self._path("").partition("/")[0]
        (info,) = self._do(lambda: self._files.get_file_info([bucket]))
        if urlsplit(self.uri).scheme == "s3" and info.type.name == "NotFound":
            raise StorageError(f"{self.uri}: there is no bucket {bucket} (or none that may be seen); make it first")

    def _path(self, name: str) -> str:
        parts = urlsplit(self.uri)
        return "/".join(filter(None, (parts.netloc, parts.path.strip("/"), name)))

    @property
    def _files(self) -> "FileSystem":
        return _filesystem(_with_defaults(self.uri))

    def _do(self, act: Callable[[], _Answer]) -> _Answer:
        """Act; try again for a while where it failed for no reason that will last."""
        until = time.monotonic() + self.patience_seconds
        while True:
            try:
                return act()
            except FileNotFoundError:
                raise
            except OSError as problem:
                said = str(problem)
                if "NO_SUCH_KEY" in said:
                    raise FileNotFoundError(said) from problem
                if any(text in said for text in (*_DENIED, *_NO_BUCKET)) or time.monotonic() > until:
                    raise StorageError(f"{self.uri}: {_in_a_line(said, self.uri)}") from problem
            time.sleep(PAUSE_SECONDS)


def objects_at(place: Path | str) -> Objects:
    """Return the objects at a URI; nothing is asked yet.

    Raises:
        ConfigError: no such storage is known, or the URI is not one of it.
    """
    text = re.sub(r"^(\w+):/+", r"\1://", str(place)).rstrip("/")
    try:
        parts = urlsplit(text)
    except ValueError as problem:
        raise ConfigError(f"--results {text}: {problem}") from problem
    if "@" in parts.netloc:
        raise ConfigError("--results: credentials do not belong there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ConfigError(f"--results {text}: expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    return Objects(text)


def at_once(act: Callable[[_Item], _Answer], items: Iterable[_Item]) -> list[_Answer]:
    """Return what an act gives for each item, several at a time, in their order; the first that fails ends it."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="storage") as pool:
        try:
            return [answer.result() for answer in [pool.submit(act, item) for item in items]]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def endpoint() -> str:
    """Return the address of S3, if not at Amazon: http://HOST:PORT."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _with_defaults(uri: str) -> str:
    """Return the URI with all that PyArrow does not find out by itself."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "gs":
        query.setdefault("retry_limit_seconds", "30")  # else a quarter of an hour
    else:
        query.setdefault("allow_delayed_open", "true")  # else small objects are written in parts, three requests each
        if endpoint() and "endpoint_override" not in query:
            there = urlsplit(endpoint())
            query |= {"endpoint_override": there.netloc, "scheme": there.scheme}
        if "endpoint_override" in query:  # else the region of a bucket is asked of Amazon
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            query.setdefault("region", region or "us-east-1")
    return parts._replace(query=urlencode(query)).geturl()


@lru_cache(maxsize=8)
def _filesystem(uri: str) -> "FileSystem":
    """Open the file system of a URI.

    Raises:
        ConfigError: the URI has options that are not known.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(uri)[0]
    except (pa.ArrowException, ValueError) as problem:
        raise ConfigError(f"--results: {problem}") from problem


def _in_a_line(said: str, uri: str) -> str:
    """Say what went wrong, and what to do."""
    where = dict(parse_qsl(urlsplit(_with_defaults(uri)).query)).get("endpoint_override", "")
    if any(text in said for text in _NO_BUCKET):
        return f"there is no bucket {urlsplit(uri).netloc}; make it first, or name another with --results"
    if any(text in said for text in _DENIED):
        if urlsplit(uri).scheme == "s3" and not _has_aws_credentials():
            return "access denied, and no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return "access denied: these credentials are not valid, or may not list, read, write and delete there"
    if "NETWORK_CONNECTION" in said or "curlCode" in said:
        why = re.sub(r".*curlCode: \d+, ([^;]*).*", r"\1", said, flags=re.DOTALL)
        return f"{where or 'the storage'} cannot be reached ({why}); is the network up, and AWS_ENDPOINT_URL right?"
    return re.sub(r"\s+", " ", said).partition(" (Request ID")[0]


def _has_aws_credentials() -> bool:
    if any(name in os.environ for name in _AWS_CREDENTIALS):
        return True
    path = from_home(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    return path.is_file()
