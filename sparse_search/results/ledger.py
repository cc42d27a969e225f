"""Ledger of the test sets: every look at test labels leaves a line, written before the scores are shown.

    ledger/20260101T120000Z-00007-1f3a….json     who, when, why, which configuration, and what was seen
    ledger/witness/00007-9c0e…                   that there is a seventh, and its hash

Lines are only ever added. Each has a name of its own, a hash of its content and the hash of the line before, so that
one that was altered or removed is noticed. Damage here stops nothing else: such a line counts as a look, and is named.
"""

import getpass
import json
import os
import platform
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from filelock import FileLock, Timeout

from search_spaces.core.errors import ResultsError
from sparse_search.results.files import write_atomically
from trainables.metrics.table import METRICS

PATIENCE_SECONDS = 60.0
"""Time that another look may take to be written."""

_SEAL = b',\n "sha256": "'
_NAMED = re.compile(r"[^-]+-(\d{5,})-[0-9a-f]{12}\.json")
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("when", "who", "why", "dataset", "content_hash", "validation", "method", "config_id"), str),
    **dict.fromkeys(("shots", "num_images"), int), "label_sets": list,
    **dict.fromkeys(("test", "validated", "versions"), dict),
}  # fmt: skip
"""Types of the values of a look."""

_MAX_INTEGER = 2**53
"""Largest integer up to which floats hold all."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Look at the test labels of a dataset."""

    when: str
    """Moment in UTC, ISO 8601."""

    who: str
    """Name as user@host."""

    why: str
    dataset: str
    content_hash: str
    """Hash of the data, as in the tables."""

    shots: int
    validation: str
    label_sets: Sequence[int]
    method: str
    config_id: str
    num_images: int
    """Number of images in the test set."""

    test: Mapping[str, Mapping[str, Any]]
    """Scores on test images, means over runs, by predictor: metrics, and the ends `low` and `high` of the 95 %
    interval of the balanced accuracy, from the number of test images alone."""

    validated: Mapping[str, Mapping[str, Any]]
    """Scores of these very networks on validation images, likewise."""

    versions: Mapping[str, str]


def look_now(**values: Any) -> Look:
    """Make a look by this user at this moment."""
    who = f"{_user()}@{platform.node()}"
    return Look(when=datetime.now(UTC).isoformat(timespec="seconds"), who=who, **values)


def _user() -> str:
    """Name of this user; of one who has none, as in a container, the number."""
    try:
        return getpass.getuser()
    except (OSError, LookupError):
        return f"user {os.getuid()}"


def write_look(results: Path, look: Look) -> Path:
    """Add a look to the ledger of a results folder.

    Raises:
        ResultsError: the folder cannot be written: then nothing may be shown either.
    """
    folder = results / "ledger"
    stamp = look.when.partition("+")[0].replace("-", "").replace(":", "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=PATIENCE_SECONDS):
            number, before = _last(folder)
            identity = uuid4().hex
            content = _sealed(asdict(look) | {"number": number + 1, "previous": before, "identity": identity})
            path = folder / f"{stamp}Z-{number + 1:05d}-{identity[:12]}.json"
            write_atomically(path, content)
            write_atomically(folder / "witness" / f"{number + 1:05d}-{_hash(content)[:16]}", b"")
    except (OSError, Timeout) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise ResultsError(f"cannot write the test ledger in {folder}: {why}; nothing was shown") from problem
    return path


def _sealed(values: Mapping[str, Any]) -> bytes:
    """Text of a line with a hash of all that stands before it."""
    body = json.dumps(values, indent=1).encode()[:-2]
    return body + _SEAL + _hash(body).encode() + b'"\n}'


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()


def _last(folder: Path) -> tuple[int, str]:
    """Return the number and the hash of the last line; those of earlier versions have no number."""
    paths = _lines(folder)
    return (_number(paths[-1]), _hash(paths[-1].read_bytes())) if paths else (0, "")


def _lines(folder: Path) -> list[Path]:
    """Return the files of all lines in the order in which they were written."""
    return sorted(folder.glob("[!.]*.json"), key=lambda path: (_number(path), path.name))


def _number(path: Path) -> int:
    found = _NAMED.fullmatch(path.name)
    return int(found[1]) if found else 0


def looks(results: Path) -> Iterator[Look]:
    """Yield every look, the first one first.

    Raises:
        ResultsError: a line of the ledger is damaged.
    """
    for path in _lines(results / "ledger"):
        try:
            yield _read(path)
        except _UNREADABLE as problem:
            raise ResultsError(f"{path} is no readable line of the test ledger ({problem}); mend it") from problem


def readable_looks(results: Path) -> list[Look]:
    """Return the looks that can be read, the first one first; `ledger_doubts` names the others."""
    found = []
    for path in _lines(results / "ledger"):
        with suppress(*_UNREADABLE):
            found.append(_read(path))
    return found


def ledger_doubts(results: Path) -> list[str]:
    """Say, a sentence each, which lines of the ledger were altered, removed or cannot be read."""
    folder = results / "ledger"
    hashes: dict[str, str] = {}
    said: list[str] = []
    for path in _lines(folder):
        try:
            hashes[path.name] = _hash(path.read_bytes())
            _read(path)
        except _UNREADABLE as problem:
            said.append(f"{path}: it cannot be read or was altered ({problem}); it counts as a look")
    numbers: dict[int, list[str]] = defaultdict(list)  # two machines may have written lines of one number
    for name, digest in hashes.items():
        numbers[_number(folder / name)].append(digest)
    witnessed = sorted(path.name.partition("-")[::2] for path in (folder / "witness").glob("[0-9]*-*"))
    for number, digest in witnessed:
        if number.isdigit() and int(number) not in numbers:
            said.append(f"line {int(number)} of the test ledger {folder} was removed; it counts as a look")
        elif number.isdigit() and not any(each.startswith(digest) for each in numbers[int(number)]):
            told = any(f"-{number}-" in sentence for sentence in said)
            said += [] if told else [f"line {int(number)} of the test ledger {folder} is not the one that was written"]
    return [*said, *_broken_links(folder, set(hashes.values()))]


def _broken_links(folder: Path, hashes: Collection[str]) -> Iterator[str]:
    for path in _lines(folder):
        with suppress(*_UNREADABLE):
            previous = json.loads(path.read_bytes()).get("previous", "")
            if previous and previous not in hashes:
                yield f"{path}: the line before it was altered or removed"


def _read(path: Path) -> Look:
    """Read a line; one of `_UNREADABLE` where it is not as it was written."""
    content = path.read_bytes()
    values = json.loads(content)
    if not isinstance(values, dict):
        raise TypeError("it is no look")
    body, mark, end = content.rpartition(_SEAL)
    if (mark or _number(path)) and end != _hash(body).encode() + b'"\n}':
        raise ValueError("its hash differs")
    for name, kinds in _KINDS.items():
        if not isinstance(values[name], kinds) or isinstance(values[name], bool) or not _fits(values[name]):
            raise TypeError(f"{name} is {values[name]!r}")
    for scores in (*values["test"].values(), *values["validated"].values()):
        _check_scores(scores)
    if not values["test"].keys() <= values["validated"].keys():
        raise ValueError("of some predictors it lacks the validation")
    return Look(**{name: values[name] for name in _KINDS})


def _check_scores(scores: Any) -> None:
    known = {name: scores.get(name) for name in ("low", "high", *METRICS)}
    odd = [name for name, value in known.items() if type(value) not in (int, float, type(None)) or not _fits(value)]
    if odd:
        raise TypeError(f"{odd[0]} is {known[odd[0]]!r}")


def _fits(value: object) -> bool:
    """Return False for an integer that not every column of numbers holds."""
    return not isinstance(value, int) or abs(value) <= _MAX_INTEGER


LEDGER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("when", "who", "why", "dataset", "content_hash")]
    + [("shots", pa.int64())]
    + [(name, pa.string()) for name in ("validation", "method", "predictor", "config_id")]
    + [("num_images", pa.int64())]
    + [(name, pa.float64()) for name in ("low", "high", *METRICS)]
)


def look_rows(results: Path) -> pa.Table:
    """Return every look that can be read as a table: a row for each predictor, with its scores on test images."""
    rows = [
        {**asdict(look), **scores, "predictor": predictor}
        for look in readable_looks(results)
        for predictor, scores in look.test.items()
    ]
    return pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)


def num_looks(results: Path) -> dict[str, int]:
    """Count the looks at the test labels of each dataset that can be read, by content hash."""
    seen = [look.content_hash for look in readable_looks(results)]
    return {content_hash: seen.count(content_hash) for content_hash in seen}


def count_looks(results: Path, dataset: str | None = None) -> int:
    """Count the looks, at one dataset if named; a line that is damaged, removed or names none counts too."""
    count, numbers = 0, set()
    for path in (results / "ledger").glob("**/*.json"):
        numbers.add(_number(path))
        try:
            about = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            about = {}
        own = about.get("dataset") if isinstance(about, dict) else None
        count += dataset is None or not isinstance(own, str) or own == dataset
    witnessed = {path.name.partition("-")[0] for path in (results / "ledger" / "witness").glob("[0-9]*-*")}
    return count + sum(number.isdigit() and int(number) not in numbers for number in witnessed)
