"""Ledger of the test sets: every look at test labels leaves a line, written before the scores are shown.

ledger/20260101T120000Z-1f3a….json     who, when, why, which configuration, and what was seen
"""

import getpass
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from search_spaces.core.config import short_hash
from search_spaces.core.errors import ResultsError
from sparse_search.results.files import write_atomically
from trainables.metrics.table import METRICS


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
    who = f"{getpass.getuser()}@{platform.node()}"
    return Look(when=datetime.now(UTC).isoformat(timespec="seconds"), who=who, **values)


def write_look(results: Path, look: Look) -> Path:
    """Add a look to the ledger of a results folder.

    Raises:
        ResultsError: the folder cannot be written: then nothing may be shown either.
    """
    content = asdict(look)
    stamp = look.when.partition("+")[0].replace("-", "").replace(":", "")
    path = results / "ledger" / f"{stamp}Z-{short_hash(content)}.json"
    try:
        write_atomically(path, json.dumps(content, indent=1).encode())
    except OSError as problem:
        raise ResultsError(f"cannot write the test ledger {path}: {problem.strerror}; nothing was shown") from problem
    return path


def looks(results: Path) -> Iterator[Look]:
    """Yield every look, the first one first.

    Raises:
        ResultsError: a line of the ledger is damaged.
    """
    names = {field.name for field in fields(Look)}
    for path in sorted((results / "ledger").glob("[!.]*.json")):
        try:
            values = json.loads(path.read_bytes())
            yield Look(**{name: values[name] for name in names})
        except (OSError, ValueError, LookupError, TypeError) as problem:
            raise ResultsError(f"{path} is no readable line of the test ledger ({problem}); mend it") from problem


LEDGER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("when", "who", "why", "dataset", "content_hash")]
    + [("shots", pa.int64())]
    + [(name, pa.string()) for name in ("validation", "method", "predictor", "config_id")]
    + [("num_images", pa.int64())]
    + [(name, pa.float64()) for name in ("low", "high", *METRICS)]
)


def look_rows(results: Path) -> pa.Table:
    """Return every look as a table: a row for each predictor, with its scores on test images.

    Raises:
        ResultsError: a line of the ledger is damaged.
    """
    rows = [
        {**asdict(look), **scores, "predictor": predictor}
        for look in looks(results)
        for predictor, scores in look.test.items()
    ]
    return pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)


def num_looks(results: Path) -> dict[str, int]:
    """Count the looks at the test labels of each dataset, by content hash."""
    seen = [look.content_hash for look in looks(results)]
    return {content_hash: seen.count(content_hash) for content_hash in seen}


def count_looks(results: Path, dataset: str | None = None) -> int:
    """Count the looks, at one dataset if named; a line that is damaged or names none counts too."""
    count = 0
    for path in (results / "ledger").glob("**/*.json"):
        try:
            about = json.loads(path.read_bytes())
        except (OSError, ValueError):
            about = {}
        own = about.get("dataset") if isinstance(about, dict) else None
        count += dataset is None or own is None or own == dataset
    return count
