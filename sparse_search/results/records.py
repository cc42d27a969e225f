"""Record as one line of JSON that checks itself, and bundles of such lines in order.

    {"record_id":"…","schema_version":4, … ,"sha256":"…"}

The checksum covers every byte before it, so a line that was cut or in which one bit turned is known as damaged.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from search_spaces.core.errors import ResultsError
from sparse_search.results.rows import SCHEMA_VERSION

_MARK = b',"sha256":"'
_FIRST_WITH_CHECKSUM = 4


class DamagedError(Exception):
    """Damage of a file or of a part of one; the text says how it was noticed."""


def encode(record: Mapping[str, Any]) -> bytes:
    """Encode a record as a line, without its end; ValueError for numbers that are not finite."""
    own = {"record_id": record["record_id"], "schema_version": SCHEMA_VERSION}
    body = json.dumps({**own, **record, **own}, allow_nan=False, separators=(",", ":")).encode()[:-1]
    return body + _end(body)


def decode(line: bytes, where: object) -> dict[str, Any]:
    """Decode the record of a line.

    Raises:
        DamagedError: it is damaged, or was never a record.
        ResultsError: whole, but written by another version.
    """
    body, mark, end = line.rpartition(_MARK)
    intact = bool(mark) and mark + end == _end(body)
    try:
        record = json.loads(line, parse_constant=_refused)
        version = int(record["schema_version"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as problem:
        raise DamagedError(f"it is no record ({problem})") from problem
    if not intact and ("sha256" in record or version >= _FIRST_WITH_CHECKSUM):
        raise DamagedError("its checksum differs")
    check_version(version, where)
    del record["sha256"]
    return dict(record)


def check_version(version: int, where: object) -> None:
    """Refuse a schema version that this program cannot read.

    Raises:
        ResultsError: naming both versions.
    """
    if version > SCHEMA_VERSION:
        raise ResultsError(f"{where} has schema version {version}, this program knows {SCHEMA_VERSION}; upgrade it")
    if version < SCHEMA_VERSION:
        raise ResultsError(
            f"{where} was written by an older version (schema {version}, this is {SCHEMA_VERSION}); "
            "run the sweep again in another results folder"
        )


def bundle(lines: Iterable[bytes]) -> bytes:
    """Join lines to the content of one file, in the order of their ids."""
    return b"".join(line + b"\n" for line in sorted(lines))


def lines_of(path: Path) -> list[bytes]:
    """Read the lines of a bundle, damaged ones too."""
    return path.read_bytes().splitlines()


def find_line(path: Path, record_id: str) -> bytes | None:
    """Find the line of a record in a bundle by bisection; OSError without the file."""
    wanted = f'{{"record_id":{json.dumps(record_id)},'.encode()
    if not path.stat().st_size:
        return None  # nothing maps an empty file
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        low, high = 0, len(content)
        while low < high:
            start = max(low, content.rfind(b"\n", low, (low + high) // 2) + 1)
            end = content.find(b"\n", start)
            end = len(content) if end < 0 else end
            name = content[start : start + len(wanted)]
            if name == wanted:
                return content[start:end]
            low, high = (end + 1, high) if name < wanted else (low, start)
    return None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _end(body: bytes) -> bytes:
    return _MARK + sha256(body).hexdigest()[:16].encode() + b'"}'
