"""Files that are written whole or not at all, and Parquet in which any change of a page or the footer is noticed."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparse_search.results.records import DamagedError
from trainables.core.disk import sync


def write_atomically(path: Path, content: bytes | pa.Buffer, *, on_disk: bool = True) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    At its end content and name are on disk, so that they outlive a power cut, unless that is not asked for.
    """
    _make_folder(path.parent, on_disk=on_disk)
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            if on_disk:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if on_disk:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_table(path: Path, table: pa.Table, *, on_disk: bool = False) -> int:
    """Write a Parquet file atomically; return the checksum of its footer.

    Pages have checksums of their own. Unless that is asked for it need not be on disk when this returns: of tables that
    are made of the records, a loss is noticed and mended.
    """
    _make_folder(path.parent, on_disk=on_disk)
    partial = _partial(path)
    try:
        pq.write_table(table, partial, compression="snappy", write_page_checksum=True, write_statistics=False)
        checksum = _footer_checksum(partial)
        if on_disk:
            sync(partial)
        partial.replace(path)
        if on_disk:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return checksum


def read_table(path: Path, checksum: int, columns: Collection[str] | None = None) -> pa.Table:
    """Read a Parquet file, or those of the columns that it has.

    Raises:
        DamagedError: a page or the footer is not as it was written, or the file is gone.
    """
    try:
        if _footer_checksum(path) != checksum:
            raise DamagedError("the checksum of its footer differs")
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            names = file.schema_arrow.names
            return file.read([name for name in names if columns is None or name in columns], use_threads=False)
    except (OSError, ValueError, LookupError, pa.ArrowException) as problem:
        raise DamagedError((str(problem).splitlines() or ["unreadable"])[0]) from problem


def write_batches(path: Path, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> int:
    """Write batches as an Arrow file, atomically; return its checksum. It need not be on disk: a loss is mended."""
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    content = buffer.getvalue()
    write_atomically(path, content, on_disk=False)
    return crc32(content)


def read_batches(path: Path, checksum: int, numbers: Iterable[int]) -> list[pa.RecordBatch]:
    """Read some batches of an Arrow file.

    Raises:
        DamagedError: it is not as it was written, or gone.
    """
    try:
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
        if crc32(content) != checksum:
            raise DamagedError("its checksum differs")
        reader = pa.ipc.open_file(content)
        return [reader.get_batch(number) for number in numbers]
    except (OSError, ValueError, LookupError, pa.ArrowException) as problem:
        raise DamagedError((str(problem).splitlines() or ["unreadable"])[0]) from problem


def _make_folder(folder: Path, *, on_disk: bool) -> None:
    """Make a folder and those above it; a name that is new is on disk before anything relies on it."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in new if on_disk else ():
        sync(each.parent)


def joined(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Concatenate tables under the schema and whatever configuration columns occur."""
    empty = pa.Table.from_batches([], schema=schema)
    return pa.concat_tables([empty, *_without_clashes(list(tables))], promote_options="permissive")


def _without_clashes(tables: list[pa.Table]) -> list[pa.Table]:
    """Drop configuration columns whose type differs between methods; `config_json` has every value."""
    numbers = {pa.int64(), pa.float64()}
    types: dict[str, set[pa.DataType]] = defaultdict(set)
    for table in tables:
        for field in table.schema:
            types[field.name].add(field.type)
    clashing = {name for name, found in types.items() if len(found) > 1 and not found <= numbers}
    return [table.drop_columns(sorted(clashing & set(table.column_names))) for table in tables]


def first_of_each(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Select the first row of each combination of keys, in the order of the table."""
    if len(table.group_by(list(keys)).aggregate([])) == len(table):
        return table
    numbered = table.select(list(keys)).append_column("position", plain_array(np.arange(len(table))))
    return table.take(numbered.group_by(list(keys)).aggregate([("position", "min")])["position_min"].sort())


def plain_array(values: NDArray[Any]) -> pa.Array:
    """Wrap numbers as an Arrow array, without a copy."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _partial(path: Path) -> Path:
    """Return a name for a file while it is written; the dot hides it from whoever lists Parquet files."""
    return path.with_name(f".{path.name}.{uuid4().hex}")


def _footer_checksum(path: Path) -> int:
    """Checksum of footer, its length and the closing mark: Parquet itself protects only its pages."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return crc32(file.read())
