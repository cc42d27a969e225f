"""Where results stay: one atomic JSON record per run, compacted into few Parquet files.

    records/ab/abcdef….json                              the truth; written once per finished run
    tables/runs/dataset=…/shots=…/method=…/*.parquet     rebuilt from the records at any time
    tables/curves/dataset=…/…

File count, not row count, makes queries slow, so a query first compacts what is new.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search_spaces.core.errors import ResultsError
from sparse_search.rows import CURVE_SCHEMA, RUN_SCHEMA, SCHEMA_VERSION, curve_rows, run_rows, table_of

Rows = Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
TABLES: Mapping[str, tuple[pa.Schema, Rows]] = {
    "curves": (CURVE_SCHEMA, curve_rows),
    "runs": (RUN_SCHEMA, run_rows),  # written last: what is in here counts as known
}
MOST_PARTS = 8
"""Files in a partition before they are merged into one."""


@dataclass(frozen=True)
class Store:
    """A results folder."""

    folder: Path

    def prepare(self) -> None:
        """Makes the folder and checks that it can be written and that what is in it can be read.

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
        """Keeps a record, whole or not at all; the same record again changes nothing.

        Raises:
            ResultsError: the disk refuses it.
        """
        path = self._path(record["record_id"])
        try:
            write_atomically(path, json.dumps({"schema_version": SCHEMA_VERSION, **record}, allow_nan=False).encode())
        except OSError as problem:
            raise ResultsError(f"cannot write {path}: {problem.strerror}") from problem

    def find(self, record_id: str) -> dict[str, Any] | None:
        """The record of that name, if there is one.

        Raises:
            ResultsError: it is damaged.
        """
        path = self._path(record_id)
        return read_record(path) if path.exists() else None

    def runs(self, **filters: Any) -> pa.Table:
        """The runs table, each (record, predictor) once; filters are `dataset`, `shots`, `method`."""
        return self._scan("runs", filters)

    def curves(self, **filters: Any) -> pa.Table:
        """The curves table; filters are `dataset`, `shots`, `method`."""
        return self._scan("curves", filters)

    def compact(self) -> int:
        """Brings records that are not in the tables yet into them; returns how many. Safe at any moment."""
        records = {path.stem: path for path in (self.folder / "records").glob("??/*.json")}
        known = set(self._known_records())
        fresh = [records[record_id] for record_id in sorted(records.keys() - known)]
        for name, (schema, rows) in TABLES.items():
            partitions: dict[Path, list[dict[str, Any]]] = defaultdict(list)
            for record in map(read_record, fresh):
                partitions[self._partition(name, record)].extend(rows(record))
            for partition, found in partitions.items():
                if found:
                    _write_part(partition, table_of(found, schema))
                    _merge(partition)
        return len(fresh)

    def _known_records(self) -> Iterator[str]:
        """Records in the tables; rows of another version do not count, so that their records are read and refused."""
        for part in (self.folder / "tables" / "runs").glob("*/*/*/[!._]*.parquet"):
            rows = _read_part(part, columns=["record_id", "schema_version"])
            yield from rows.filter(pc.field("schema_version") == SCHEMA_VERSION)["record_id"].to_pylist()

    def _scan(self, name: str, filters: Mapping[str, Any]) -> pa.Table:
        self.compact()
        levels = "/".join(
            f"{key}={quote(str(filters[key]), safe='')}" if filters.get(key) is not None else f"{key}=*"
            for key in ("dataset", "shots", "method")
        )
        parts = sorted((self.folder / "tables" / name).glob(f"{levels}/[!._]*.parquet"))
        return _distinct(map(_read_part, parts), TABLES[name][0])

    def _partition(self, name: str, record: Mapping[str, Any]) -> Path:
        keys = {"dataset": record["dataset"], "shots": record["shots"], "method": record["method"]}
        return self.folder.joinpath("tables", name, *(f"{k}={quote(str(v), safe='')}" for k, v in keys.items()))

    def _path(self, record_id: str) -> Path:
        return self.folder / "records" / record_id[:2] / f"{record_id}.json"


def read_record(path: Path) -> dict[str, Any]:
    """A record from disk.

    Raises:
        ResultsError: damaged, foreign, or written by another version.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if record["schema_version"] > SCHEMA_VERSION:
            raise ResultsError(
                f"{path} has schema version {record['schema_version']}, this program knows {SCHEMA_VERSION}; upgrade it"
            )
        if record["schema_version"] < SCHEMA_VERSION:
            raise ResultsError(f"{path} was written by an older version; run the sweep again in another results folder")
        if record["record_id"] != path.stem:
            raise ValueError("its name is not its record_id")
        for _, rows in TABLES.values():
            list(rows(record))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise ResultsError(f"{path} is no readable record ({problem}); move it away and try again") from problem
    return record


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a Parquet file atomically, with page checksums."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_part(partition: Path, table: pa.Table) -> Path:
    path = partition / f"part-{uuid4().hex[:12]}.parquet"
    write_table(path, table)
    return path


def _merge(partition: Path) -> None:
    """One file instead of many. A kill between the two steps leaves rows twice; scans count them once."""
    parts = sorted(partition.glob("part-*.parquet"))
    if len(parts) > MOST_PARTS:
        tables = [_read_part(part) for part in parts]
        _write_part(partition, _distinct(tables, tables[0].schema))
        for part in parts:
            part.unlink(missing_ok=True)


def _read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(columns=columns)
    except (OSError, pa.ArrowInvalid) as problem:
        raise ResultsError(
            f"{path} is damaged ({str(problem).splitlines()[0]}); delete the folder 'tables', it is rebuilt"
        ) from problem


def _distinct(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """All rows once, under the schema and whatever configuration columns occur."""
    empty = pa.Table.from_batches([], schema=schema)
    table = pa.concat_tables([empty, *_without_clashes(list(tables))], promote_options="permissive")
    return first_of_each(table, [name for name in ("record_id", "predictor", "epoch") if name in table.column_names])


def _without_clashes(tables: list[pa.Table]) -> list[pa.Table]:
    """Drops configuration columns whose type differs between methods; `config_json` has every value."""
    numbers = {pa.int64(), pa.float64()}
    types: dict[str, set[pa.DataType]] = defaultdict(set)
    for table in tables:
        for field in table.schema:
            types[field.name].add(field.type)
    clashing = {name for name, found in types.items() if len(found) > 1 and not found <= numbers}
    return [table.drop_columns(sorted(clashing & set(table.column_names))) for table in tables]


def first_of_each(table: pa.Table, keys: list[str]) -> pa.Table:
    """The first row of each combination of keys, in the order of the table."""
    if len(table.group_by(keys).aggregate([])) == len(table):
        return table
    numbered = table.select(keys).append_column("position", plain_array(np.arange(len(table))))
    return table.take(numbered.group_by(keys).aggregate([("position", "min")])["position_min"].sort())


def plain_array(values: NDArray[Any]) -> pa.Array:
    """Numbers as an Arrow array, without a copy."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
