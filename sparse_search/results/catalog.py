"""The files that are the tables: parts by partition, their paths, and the one list of those that count."""

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa

from search_spaces.core.config import short_hash
from search_spaces.core.errors import ConfigError
from sparse_search.results.files import read_batches, read_table, write_atomically
from sparse_search.results.records import DamagedError, decode, encode
from sparse_search.results.rows import CURVE_SCHEMA, RUN_SCHEMA, curve_rows, run_rows
from sparse_search.results.trials import ORDER_SCHEMA, RANKING, TRIAL_SCHEMA
from trainables.metrics.table import METRICS

Rows = Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
TABLES: Mapping[str, tuple[pa.Schema, Rows]] = {"runs": (RUN_SCHEMA, run_rows), "curves": (CURVE_SCHEMA, curve_rows)}
SUMMARIES = {"shown": TRIAL_SCHEMA, "order": ORDER_SCHEMA}
"""Tables that a leaderboard is made of (`trials.shown_and_order`)."""

LAYOUT = short_hash(
    {
        name: [[field.name, str(field.type), field.nullable] for field in schema if field.name not in METRICS]
        for name, schema in {**{name: schema for name, (schema, _) in TABLES.items()}, **SUMMARIES}.items()
    }
    | {"ranking": RANKING, "keys": "in the names of folders only"}
)
"""Hash of the columns of all tables, but the metrics, and of what makes a ranking. Tables of another layout are built
again from the records, which hold more than any of them; a metric that tables lack is null."""

KEYS = ("dataset", "shots", "method")
"""Columns that tables are partitioned by."""

MAX_NAME = 255
"""Most characters of the name of a folder."""

_MAX_ASIDE = 100
_STEM = re.compile(r"part-[0-9a-f]+")
_FILE = re.compile(r"\w+-part-[0-9a-f]+\.arrow")
_PARTITION = re.compile("/".join(rf"{key}=[^/]*" for key in KEYS))


class SetAsideWarning(UserWarning):
    """A damaged or foreign file was moved to `set_aside/`; the results are complete but for what it alone held."""


@dataclass(frozen=True)
class Part:
    """Some records of a partition: a bundle of their lines, and a Parquet file for each table with rows of them."""

    stem: str
    num_records: int
    footers: Mapping[str, int]
    """Checksum of the footer of each table's file."""


@dataclass(frozen=True)
class Partition:
    """A data set, a number of shots and a method."""

    parts: tuple[Part, ...]
    searched: tuple[str, ...]
    """Settings in which its searched trials differ."""


@dataclass
class Catalog:
    """Parts and summaries that count."""

    partitions: dict[str, Partition]
    """By `dataset=…/shots=…/method=…`, in order."""

    summaries: Mapping[str, tuple[str, int]]
    """File and checksum of each of `SUMMARIES`; each holds a batch of rows for each partition, in the same order."""


class BrokenError(Exception):
    """A file of the tables that is not as it was written."""

    def __init__(self, path: Path, why: str, partition: str = "", part: Part | None = None) -> None:
        super().__init__(why)
        self.path, self.partition, self.part = path, partition, part


def bundle_path(folder: Path, partition: str, part: Part) -> Path:
    """Return where the records of a part lie."""
    return folder / "records" / partition / f"{part.stem}.jsonl"


def part_rows(
    folder: Path, partition: str, part: Part, table: str, columns: Collection[str] | None = None
) -> pa.Table | None:
    """Read the rows of a part; None where it has none.

    Raises:
        BrokenError: they cannot be read.
    """
    if table not in part.footers:
        return None
    path = table_path(folder, table, partition, part.stem)
    try:
        rows = read_table(path, part.footers[table], columns)
    except DamagedError as problem:
        raise BrokenError(path, str(problem), partition, part) from problem
    return _with_keys(rows, partition, TABLES[table][0], columns)


def without_keys(rows: pa.Table) -> pa.Table:
    """Return rows without the columns that the names of their folders tell: whoever else reads them adds these."""
    return rows.drop_columns([name for name in KEYS if name in rows.column_names])


def _with_keys(rows: pa.Table, partition: str, schema: pa.Schema, columns: Collection[str] | None) -> pa.Table:
    keys = [part.partition("=")[2] for part in partition.split("/")]
    for name, text in zip(KEYS, keys, strict=True):
        if name not in rows.column_names and (columns is None or name in columns):
            value = pa.scalar(unquote(text)).cast(schema.field(name).type)
            rows = rows.append_column(schema.field(name), pa.repeat(value, len(rows)))
    return rows.select([*(name for name in schema.names if name in rows.column_names), *_beside(rows, schema)])


def _beside(rows: pa.Table, schema: pa.Schema) -> list[str]:
    known = set(schema.names)
    return [name for name in rows.column_names if name not in known]


def summary(folder: Path, catalog: Catalog, name: str, partitions: Collection[str]) -> list[pa.RecordBatch]:
    """Read one of `SUMMARIES`: a batch for each of some partitions, in the order of the catalog.

    Raises:
        BrokenError: it cannot be read.
    """
    if not catalog.partitions:
        return []
    file, checksum = catalog.summaries.get(name, ("missing", 0))
    path = folder / "tables" / file
    try:
        wanted = (number for number, each in enumerate(catalog.partitions) if each in partitions)
        return [_under(SUMMARIES[name], batch) for batch in read_batches(path, checksum, wanted)]
    except DamagedError as problem:
        raise BrokenError(path, str(problem)) from problem


def _under(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with the columns of a schema: a metric that it was written without is null.

    Raises:
        DamagedError: it lacks another column.
    """
    if batch.schema.equals(schema):
        return batch
    lacking = {field.name for field in schema} - set(batch.schema.names)
    if not lacking <= METRICS.keys():
        raise DamagedError(f"it has no {', '.join(sorted(lacking - METRICS.keys()))}")
    columns = [pa.nulls(len(batch), each.type) if each.name in lacking else batch[each.name] for each in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def partition_of(keys: Mapping[str, Any]) -> str:
    """Return the partition of a record: `dataset=…/shots=…/method=…`."""
    return "/".join(f"{key}={quote(str(keys[key]), safe='')}" for key in KEYS)


def check_names(keys: Mapping[str, Any]) -> None:
    """Refuse a data set or a method whose name is too long to name a folder of results.

    Raises:
        ConfigError: naming it.
    """
    for key, name in keys.items():
        if len(f"{key}={quote(str(name), safe='')}") > MAX_NAME:
            raise ConfigError(
                f"{key} '{name}': its name is too long for a folder of results; give it a shorter one, of at most "
                f"{MAX_NAME - len(key) - 1} letters without accents"
            )


def check_partition(partition: str) -> None:
    """Refuse the name of a partition that no folder can have; ValueError."""
    if any(len(part) > MAX_NAME for part in partition.split("/")):
        raise ValueError(f"a name of more than {MAX_NAME} characters")


def set_aside(folder: Path, path: Path, why: str) -> None:
    """Move a file out of the way, if it is still there, and say so."""
    place = _place_aside(folder, path.name)
    with suppress(FileNotFoundError):
        path.rename(place)
        warnings.warn(f"{path}: {why}; set aside as {place}", SetAsideWarning, stacklevel=2)


def keep_aside(folder: Path, name: str, content: bytes, why: str) -> None:
    """Keep content that is of no use where it was, and say why."""
    place = _place_aside(folder, name)
    write_atomically(place, content)
    warnings.warn(f"{why}; set aside as {place}", SetAsideWarning, stacklevel=2)


def _place_aside(folder: Path, name: str) -> Path:
    place = folder / "set_aside" / f"{re.sub('[^A-Za-z0-9._-]', '_', name)[-_MAX_ASIDE:]}.{uuid4().hex[:6]}"
    place.parent.mkdir(exist_ok=True)
    return place


def read_catalog(folder: Path) -> Catalog | None:
    """Read what counts; None where it is to be built from the records: nothing says it, or says it of other columns."""
    path = folder / "tables" / "catalog.json"
    try:
        content = decode(path.read_bytes(), path)
        return _catalog_of(content) if content.get("layout") == LAYOUT else None
    except FileNotFoundError:
        return None
    except DamagedError as problem:
        set_aside(folder, path, f"{problem}; built again from the records")
    except OSError as problem:
        set_aside(folder, path, f"it cannot be read ({problem.strerror}); built again from the records")
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        set_aside(folder, path, f"it is no catalogue ({problem!r}); built again from the records")
    return None


def _catalog_of(content: Mapping[str, Any]) -> Catalog:
    """Read a catalogue strictly, as its names become paths."""
    partitions = {}
    for name, (parts, searched) in content["partitions"].items():
        _require(_PARTITION.fullmatch(name) is not None and all(type(each) is str for each in searched), name)
        partitions[name] = Partition(tuple(_part_of(*part) for part in parts), tuple(searched))
    summaries = {}
    for name, (file, checksum) in content["summaries"].items():
        _require(name in SUMMARIES and _FILE.fullmatch(file) is not None and type(checksum) is int, name)
        summaries[name] = (file, checksum)
    return Catalog(partitions, summaries)


def _part_of(stem: str, num_records: int, footers: Mapping[str, int]) -> Part:
    _require(_STEM.fullmatch(stem) is not None and type(num_records) is int, stem)
    _require(all(name in TABLES and type(checksum) is int for name, checksum in footers.items()), stem)
    return Part(stem, num_records, dict(footers))


def _require(is_right: bool, name: object) -> None:
    if not is_right:
        raise ValueError(name)


def parts_of(catalog: Catalog, partition: str) -> tuple[Part, ...]:
    """Return the parts of a partition, if there is one."""
    return catalog.partitions[partition].parts if partition in catalog.partitions else ()


def write_catalog(folder: Path, catalog: Catalog) -> None:
    """Make a catalog the one that counts."""
    partitions = {
        name: [[[part.stem, part.num_records, dict(part.footers)] for part in each.parts], each.searched]
        for name, each in catalog.partitions.items()
    }
    content = {"record_id": "catalog", "layout": LAYOUT, "partitions": partitions, "summaries": catalog.summaries}
    write_atomically(folder / "tables" / "catalog.json", encode(content))


def table_path(folder: Path, table: str, partition: str, stem: str) -> Path:
    """Return where rows of a partition lie."""
    return folder / "tables" / table / partition / f"{stem}.parquet"
