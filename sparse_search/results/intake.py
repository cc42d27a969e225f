"""Records on their way into the tables: read one by one, and kept aside one by one where no table can hold them."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparse_search.results.catalog import TABLES, SetAsideWarning, check_partition, keep_aside, partition_of, set_aside
from sparse_search.results.records import DamagedError, decode, lines_of
from sparse_search.results.rows import table_of

_UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, pa.ArrowException)
"""Errors by which content shows that it is not what it should be."""


@dataclass(frozen=True)
class Incoming:
    """A record with the rows that are made of it."""

    record_id: str
    line: bytes
    rows: Mapping[str, list[dict[str, Any]]]


def read_incoming(line: bytes, where: object) -> tuple[str, Incoming]:
    """Return the partition of a record, and the record.

    Raises:
        DamagedError: it is damaged, or no rows can be made of it.
        ResultsError: it was written by another version.
    """
    record = decode(line, where)
    try:
        rows = {name: list(rows_of(record)) for name, (_, rows_of) in TABLES.items()}
        partition = partition_of(record)
        check_partition(partition)
        return partition, Incoming(str(record["record_id"]), line, rows)
    except _UNFIT as problem:
        raise DamagedError(f"it is no record ({problem!r})") from problem


def check_fit(line: bytes) -> None:
    """Refuse a record that no table could hold; ValueError, naming it and why."""
    try:
        _, record = read_incoming(line, "it")
        _tables_of([record])
    except (DamagedError, *_UNFIT) as problem:
        raise ValueError(f"a record that no table can hold: {problem}") from problem


def incoming_in(folder: Path, path: Path) -> Iterator[Incoming]:
    """Yield the records of a bundle; damaged lines are kept aside, each in a file of its own."""
    for number, line in enumerate(lines_in(folder, path), 1):
        try:
            yield read_incoming(line, path)[1]
        except DamagedError as problem:
            keep_aside(folder, f"{path.stem}-line-{number}.json", line, f"{path} line {number}: {problem}")


def lines_in(folder: Path, path: Path) -> list[bytes]:
    """Read the lines of a bundle; one that is gone or cannot be read has none, which is told."""
    try:
        return lines_of(path)
    except FileNotFoundError:
        warnings.warn(f"{path} is gone, and with it its records", SetAsideWarning, stacklevel=2)
    except OSError as problem:
        set_aside(folder, path, f"it cannot be read ({problem.strerror})")
    return []


def fit_for_tables(folder: Path, records: Sequence[Incoming]) -> tuple[Sequence[Incoming], dict[str, pa.Table]]:
    """Return the records that tables can hold, and their rows by table; each of the others is kept aside."""
    try:
        return records, _tables_of(records)
    except _UNFIT:
        fit = [record for record in records if _is_fit(folder, record)]
        return fit, _tables_of(fit)


def _is_fit(folder: Path, record: Incoming) -> bool:
    try:
        _tables_of([record])
    except _UNFIT as problem:
        why = f"record {record.record_id}: no table can hold it ({problem})"
        keep_aside(folder, f"{record.record_id}.json", record.line, why)
        return False
    return True


def _tables_of(records: Sequence[Incoming]) -> dict[str, pa.Table]:
    found = {}
    for name, (schema, _) in TABLES.items():
        if rows := [row for record in records for row in record.rows[name]]:
            found[name] = table_of(rows, schema)
    return found
