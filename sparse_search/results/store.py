"""A results folder: one atomic JSON record per run, brought together in few files.

    records/ab/abcdef….json                                   new records, each written once when its run is finished
    records/dataset=…/shots=…/method=…/part-….jsonl           the same, line by line, once they are in the tables
    tables/runs/dataset=…/shots=…/method=…/part-….parquet     their rows; rebuilt from the records at any time
    tables/curves/dataset=…/…
    tables/shown-….arrow, order-….arrow                       of the trials what a leaderboard needs, means over runs
    tables/catalog.json                                       which of these files count
    set_aside/                                                damaged and foreign files, each named in a warning

The records are the truth. File count, not row count, makes queries slow, so a query first compacts what is new; what
it costs does not depend on how much is compacted already. One program at a time reads or compacts the tables.
"""

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from search_spaces.core.errors import ResultsError
from sparse_search.results import compaction
from sparse_search.results.catalog import (
    KEYS,
    SUMMARIES,
    TABLES,
    BrokenError,
    Catalog,
    Partition,
    bundle_path,
    part_rows,
    partition_of,
    set_aside,
    summary,
)
from sparse_search.results.files import joined, write_atomically
from sparse_search.results.intake import check_fit, lines_in
from sparse_search.results.records import DamagedError, decode, encode, find_line
from sparse_search.results.trials import ORDER_SCHEMA, TRIAL_SCHEMA

PATIENCE_SECONDS = 600.0
"""Time that the tables may be in another program's hands."""

MAX_MENDED = 8
"""Times that a question mends what it finds damaged, with whatever that leads to, before all tables are built again."""

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that knows no locks."""

MAX_REBUILT = 3
"""Times that all tables are built again: damaged even so, the disk does not keep what is written."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class TrialsInBrief:
    """Trials as far as a leaderboard needs them (see `sparse_search.results.trials`)."""

    shown: pa.Table
    """Trials that a shortlist by any metric may show."""

    order: pa.Table
    """Who ranks where, of all trials with a score."""

    places: NDArray[np.int64]
    """Row in `order` of each row of `shown` that has a score."""

    searched: Mapping[str, Sequence[str]]
    """By method, the settings in which its searched trials differ."""


@dataclass(frozen=True)
class Store:
    """A results folder."""

    folder: Path

    @property
    def address(self) -> str:
        """Text that finds these results again, on another machine too."""
        return str(self.folder)

    def prepare(self) -> None:
        """Make the folder and check that it can be written and that what is in it can be read.

        Raises:
            ResultsError: it cannot.
        """
        try:
            (self.folder / "records").mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as problem:
            raise ResultsError(
                f"cannot write results to {self.folder}: {problem.strerror}; choose another folder with --results"
            ) from problem
        self.compact()

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep a record, whole or not at all; the same record again changes nothing.

        Raises:
            ResultsError: the disk refuses it.
            ValueError: no table can hold it.
        """
        path, line = self.path_of(record["record_id"]), encode(record)
        check_fit(line)
        try:
            write_atomically(path, line)
        except OSError as problem:
            raise ResultsError(f"cannot write {path}: {problem.strerror}") from problem

    def path_of(self, record_id: str) -> Path:
        """Return where a record is written, before it is in the tables."""
        return self.folder / "records" / record_id[:2] / f"{record_id}.json"

    def find(self, record_id: str) -> dict[str, Any] | None:
        """Return the record of that name, if there is one; a damaged one is set aside.

        Raises:
            ResultsError: it was written by another version.
        """
        path = self.path_of(record_id)
        try:
            return decode(path.read_bytes(), path)
        except FileNotFoundError:
            pass
        except DamagedError as problem:
            set_aside(self.folder, path, str(problem))
        except OSError as problem:
            set_aside(self.folder, path, f"it cannot be read ({problem.strerror})")

        def look(catalog: Catalog) -> dict[str, Any] | None:
            for bundle in self._bundles(catalog):
                with suppress(OSError, DamagedError):
                    line = find_line(bundle, record_id)
                    if line is not None:
                        return decode(line, bundle)
            return None

        return self._ask(look)

    def records(self) -> list[dict[str, Any]]:
        """Return every whole record once, in no order.

        Raises:
            ResultsError: one was written by another version.
        """

        def look(catalog: Catalog) -> list[dict[str, Any]]:
            found = []
            for bundle in self._bundles(catalog):
                for line in lines_in(self.folder, bundle):
                    with suppress(DamagedError):
                        found.append(decode(line, bundle))
            return found

        return self._ask(look)

    def runs(self, *, columns: Collection[str] | None = None, **filters: Any) -> pa.Table:
        """Return the runs table, each (record, predictor) once.

        Args:
            columns: only these, as far as there are any; all by default.
            filters: `dataset`, `shots`, `method`; None is every one.
        """
        return self._rows("runs", columns, filters)

    def curves(self, *, columns: Collection[str] | None = None, **filters: Any) -> pa.Table:
        """Return the curves table; columns and filters are those of `runs`."""
        return self._rows("curves", columns, filters)

    def summary(self, **filters: Any) -> TrialsInBrief:
        """Return what a leaderboard needs of the trials; filters are those of `runs`."""

        def look(catalog: Catalog) -> TrialsInBrief:
            here = _matching(catalog, filters)
            shown, order = (summary(self.folder, catalog, name, here) for name in SUMMARIES)
            starts = np.cumsum([0, *(len(batch) for batch in order)])[:-1]
            places = [start + np.arange(len(batch)) for start, batch in zip(starts, shown, strict=True)]
            searched: dict[str, set[str]] = {}
            for name, each in here.items():
                searched.setdefault(unquote(name.rpartition("method=")[2]), set()).update(each.searched)
            return TrialsInBrief(
                pa.Table.from_batches(shown, TRIAL_SCHEMA).combine_chunks(),
                pa.Table.from_batches(order, ORDER_SCHEMA),
                np.concatenate([np.zeros(0, np.int64), *places]),
                {method: sorted(settings) for method, settings in searched.items()},
            )

        return self._ask(look)

    def compact(self) -> int:
        """Bring records that are not in the tables yet into them; return how many. Safe at any moment.

        Raises:
            ResultsError: a record was written by another version, or the disk refuses.
        """
        if not self.folder.exists():
            return 0
        return self._alone(lambda: compaction.compact(self.folder)[0])

    def num_records(self) -> int:
        """Count the records, those that were not in the tables yet among them."""
        return self._ask(lambda catalog: sum(p.num_records for each in catalog.partitions.values() for p in each.parts))

    def rebuild(self) -> None:
        """Build the tables again from the records; a query does so by itself where a part is damaged."""
        self._alone(lambda: compaction.rebuild(self.folder))

    def clear(self) -> None:
        """Remove all records and tables."""
        with self._lock():
            for name in ("records", "tables"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _rows(self, table: str, columns: Collection[str] | None, filters: Mapping[str, Any]) -> pa.Table:
        schema = TABLES[table][0]
        if columns is not None:
            schema = pa.schema([field for field in schema if field.name in columns])

        def look(catalog: Catalog) -> pa.Table:
            def read(name: str, each: Partition) -> list[pa.Table]:
                found = (part_rows(self.folder, name, part, table, columns) for part in each.parts)
                return [rows for rows in found if rows is not None]

            with ThreadPoolExecutor(pa.cpu_count()) as pool:
                tables = pool.map(lambda item: read(*item), _matching(catalog, filters).items())
                return joined([rows for each in tables for rows in each], schema)

        return self._ask(look)

    def _ask(self, look: Callable[[Catalog], _Answer]) -> _Answer:
        """Return what a look at the tables says, with everything that is new."""
        if not self.folder.exists():
            return look(Catalog({}, {}))
        return self._alone(lambda: look(compaction.compact(self.folder)[1]))

    def _alone(self, act: Callable[[], _Answer]) -> _Answer:
        """Act while no other program is at the tables; try again after what is damaged is mended.

        Raises:
            ResultsError: written by another version, or beyond repair.
        """
        for times in range(MAX_MENDED + MAX_REBUILT):
            with self._lock(), suppress(BrokenError):  # damaged while it is mended
                try:
                    return act()
                except BrokenError as found:
                    if times < MAX_MENDED:
                        compaction.mend(self.folder, found)
                    else:
                        compaction.rebuild(self.folder)
        raise ResultsError(f"{self.folder}: tables are damaged as soon as they are written; check the disk")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / ".lock", timeout=PATIENCE_SECONDS):
                yield
        except Timeout as problem:
            raise ResultsError(
                f"another program has held {self.folder} for {PATIENCE_SECONDS:.0f} s; end it, or try again later"
            ) from problem
        except OSError as problem:
            why = f"cannot read or compact {self.folder}: {problem}"
            raise ResultsError(no_locks(self.folder) if problem.errno in NO_LOCKS else why) from problem

    def _bundles(self, catalog: Catalog) -> Iterator[Path]:
        for name, each in catalog.partitions.items():
            for part in each.parts:
                yield bundle_path(self.folder, name, part)


def no_locks(folder: Path) -> str:
    """Say of a folder that nothing there can be locked, and what to do."""
    return (
        f"the file system of {folder} knows no locks, which keep two programs apart; keep results on another disk with "
        "--results, or mount this one with locks"
    )


def _matching(catalog: Catalog, filters: Mapping[str, Any]) -> dict[str, Partition]:
    """Return the partitions that filters leave."""
    unknown = filters.keys() - set(KEYS)
    if unknown:
        raise TypeError(f"no filter {', '.join(unknown)}; there are {', '.join(KEYS)}")
    wanted = [
        None if filters.get(key) is None else part
        for key, part in zip(KEYS, partition_of({key: filters.get(key) for key in KEYS}).split("/"), strict=True)
    ]
    return {
        name: each
        for name, each in catalog.partitions.items()
        if all(part in (None, own) for part, own in zip(wanted, name.split("/"), strict=True))
    }
