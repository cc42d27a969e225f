"""Compaction of records that lie one by one to few files: incremental, idempotent, unharmed by a kill at any point.

Everything here happens under the lock of the results folder. New files are written under names of their own, then the
catalog that names them takes the old one's place; only then are files removed. So a kill leaves either the records
where they were, or files that no catalog names, which the next compaction of their partition removes.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from sparse_search.results.catalog import (
    SUMMARIES,
    TABLES,
    BrokenError,
    Catalog,
    Part,
    Partition,
    bundle_path,
    part_rows,
    parts_of,
    read_catalog,
    set_aside,
    summary,
    table_path,
    without_keys,
    write_catalog,
)
from sparse_search.results.files import joined, write_atomically, write_batches, write_table
from sparse_search.results.intake import Incoming, fit_for_tables, incoming_in, lines_in, read_incoming
from sparse_search.results.omissions import omission
from sparse_search.results.records import DamagedError, bundle
from sparse_search.results.rows import RUN_SCHEMA
from sparse_search.results.trials import searched_settings, shown_and_order, trials_of

MAX_PARTS = 8
"""Parts of about the same size in a partition before they are merged, so that their number grows with the logarithm."""

MAX_MERGED = 100_000
"""Records of a part that is merged no further."""

MAX_AT_ONCE = 20_000
"""New records that are in memory together."""


def compact(folder: Path) -> tuple[int, Catalog]:
    """Bring new records into the tables; return how many there were, and what counts now.

    Raises:
        BrokenError: a file that is needed for it is damaged; `mend`, then try again.
        ResultsError: a record or the catalog was written by another version.
    """
    catalog, total = _whole_catalog(folder) or _adopted(folder), 0
    while files := list(islice(_new_files(folder), MAX_AT_ONCE)):
        total += _bring_in(folder, catalog, files)
        with ThreadPoolExecutor() as pool:  # many files, and all the time is spent waiting
            list(pool.map(lambda file: file.unlink(missing_ok=True), files))
    return total, catalog


def _whole_catalog(folder: Path) -> Catalog | None:
    """Read what counts; None where it is to be built from the records."""
    catalog = read_catalog(folder)
    if catalog and (why := omission(folder, catalog)):
        set_aside(folder, folder / "tables" / "catalog.json", f"{why}; built again from the records")
        return None
    return catalog


def mend(folder: Path, found: BrokenError) -> None:
    """Set a damaged file aside and build it again from the records, and so whatever else turns out to be damaged."""
    broken: dict[Path, BrokenError] = {}
    built: dict[str, Part] = {}
    while found.path not in broken and (found.part is None or found.part not in built.values()):
        broken[found.path] = found
        set_aside(folder, found.path, f"{found}; built again from the records")
        catalog = read_catalog(folder)
        if catalog is None:
            return
        try:
            _build_again(folder, catalog, broken.values(), built)
            return
        except BrokenError as another:
            found = another
    rebuild(folder)  # even what was just written is damaged


def _build_again(folder: Path, catalog: Catalog, broken: Iterable[BrokenError], built: dict[str, Part]) -> None:
    """Write damaged parts again, those in `built` excepted, and what is made of them.

    Raises:
        BrokenError: another file that is needed for it is damaged.
    """
    where = {each.part.stem: each.partition for each in broken if each.part is not None}
    changed = {name: each.parts for name, each in catalog.partitions.items() if name in where.values()}
    if any(each.part is None for each in broken):  # a summary: every partition is summarised anew
        catalog.summaries = {}
        changed = {name: each.parts for name, each in catalog.partitions.items()}
    for name, parts in changed.items():
        for part in parts:
            if part.stem in where and part.stem not in built:
                built[part.stem] = _built_again(folder, name, part)
        changed[name] = tuple(part for each in parts if (part := built.get(each.stem, each)).num_records)
    commit(folder, catalog, changed)


def rebuild(folder: Path) -> None:
    """Build every table again from the records, without a look at those that there are."""
    (folder / "tables" / "catalog.json").unlink(missing_ok=True)
    compact(folder)


def _new_files(folder: Path) -> Iterator[Path]:
    """Yield the records that lie one by one."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder / "records"):  # noqa: PTH208  faster than pathlib, and this is every query
            if len(name) == 2:
                yield from (folder / "records" / name).glob("[!.]*.json")


def _adopted(folder: Path) -> Catalog:
    """Make a catalog from all bundles: tables were deleted, are not to be trusted, or have other columns."""
    catalog, changed = Catalog({}, {}), {}
    for place in sorted((folder / "records").glob("*=*/*=*/*=*")):
        records: dict[str, Incoming] = {}
        for path in sorted(place.glob("part-*.jsonl")):
            records |= {record.record_id: record for record in incoming_in(folder, path)}
        partition = place.relative_to(folder / "records").as_posix()
        if records and (part := _written(folder, partition, records.values())[0]).num_records:
            changed[partition] = [part]
    if changed:
        commit(folder, catalog, changed)
    return catalog


def _bring_in(folder: Path, catalog: Catalog, files: Iterable[Path]) -> int:
    """Add records to the catalog and its files; return how many it did not hold yet."""
    arrived: dict[str, dict[str, Incoming]] = defaultdict(dict)
    for file in files:
        try:
            partition, record = read_incoming(file.read_bytes(), file)
            if record.record_id != file.stem:
                raise DamagedError("its name is not its record_id")
        except FileNotFoundError:
            continue
        except OSError as problem:
            set_aside(folder, file, f"it cannot be read ({problem.strerror})")
        except DamagedError as problem:
            set_aside(folder, file, str(problem))
        else:
            arrived[partition][record.record_id] = record
    new: dict[str, list[Incoming]] = {}
    for partition, records in arrived.items():
        known: set[str] = set()
        for part in parts_of(catalog, partition):
            rows = part_rows(folder, partition, part, "runs", ["record_id"])
            known.update(rows["record_id"].to_pylist() if rows else ())
        if unknown := [record for record in records.values() if record.record_id not in known]:
            new[partition] = unknown
    with ThreadPoolExecutor(pa.cpu_count()) as pool:  # half of it is Parquet's work, beside Python
        written = list(pool.map(lambda partition: _written(folder, partition, new[partition]), new))
    if new:
        merged = {
            partition: _merged(folder, partition, (*parts_of(catalog, partition), part))
            for partition, (part, _) in zip(new, written, strict=True)
            if part.num_records
        }
        commit(folder, catalog, merged, {part.stem: tables["runs"] for part, tables in written if "runs" in tables})
    return sum(part.num_records for part, _ in written)


def commit(
    folder: Path, catalog: Catalog, changed: Mapping[str, Sequence[Part]], runs: Mapping[str, pa.Table] | None = None
) -> None:
    """Make parts count, with the summaries of their trials; then remove whatever else lies in those partitions.

    `runs` has run rows of parts, by stem, that need not be read.

    Raises:
        BrokenError: like `compact`.
    """
    old = {
        name: dict(zip(catalog.partitions, summary(folder, catalog, name, catalog.partitions), strict=True))
        if catalog.summaries
        else {}
        for name in SUMMARIES
    }

    def summarised(partition: str) -> tuple[Partition, list[pa.RecordBatch]]:
        parts, known = changed[partition], runs or {}
        own = [known[p.stem] if p.stem in known else part_rows(folder, partition, p, "runs") for p in parts]
        rows = joined(filter(None, own), RUN_SCHEMA)
        tables = shown_and_order(trials_of(rows))
        (searched,) = searched_settings(rows).values() or ([],)
        empty = [pa.RecordBatch.from_pylist([], schema) for schema in SUMMARIES.values()]
        batches = [(table.to_batches() or [none])[0] for table, none in zip(tables, empty, strict=True)]
        return Partition(tuple(parts), tuple(searched)), batches

    filled = [partition for partition, parts in changed.items() if parts]
    partitions = {name: each for name, each in catalog.partitions.items() if name not in changed}
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        for partition, (each, batches) in zip(filled, pool.map(summarised, filled), strict=True):
            partitions[partition] = each
            for name, batch in zip(SUMMARIES, batches, strict=True):
                old[name][partition] = batch
    catalog.partitions = dict(sorted(partitions.items()))
    stem = _new_stem()
    catalog.summaries = {
        name: (
            f"{name}-{stem}.arrow",
            write_batches(
                folder / "tables" / f"{name}-{stem}.arrow", schema, [old[name][p] for p in catalog.partitions]
            ),
        )
        for name, schema in SUMMARIES.items()
    }
    write_catalog(folder, catalog)
    _remove_what_does_not_count(folder, catalog, changed)


def _remove_what_does_not_count(folder: Path, catalog: Catalog, changed: Iterable[str]) -> None:
    for partition in changed:
        stems = (
            {part.stem for part in catalog.partitions[partition].parts} if partition in catalog.partitions else set()
        )
        for place in (folder / "records", *(folder / "tables" / name for name in TABLES)):
            for path in _own_files(place / partition):
                if path.stem not in stems:
                    _remove(path)
    files = {file for file, _ in catalog.summaries.values()}
    for path in (folder / "tables").glob("*part-*.arrow*"):
        if path.name not in files:
            _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # what counts for nothing stops nobody
        path.unlink()


def _own_files(place: Path) -> Iterator[Path]:
    """Yield parts, and what a kill left of one being written; a foreign file is none."""
    for pattern in ("part-*", ".part-*"):
        yield from place.glob(pattern)


def _written(folder: Path, partition: str, records: Iterable[Incoming]) -> tuple[Part, dict[str, pa.Table]]:
    """Write records as a part, those that no table can hold excepted; return the part, and its rows by table."""
    ordered, tables = fit_for_tables(folder, sorted(records, key=lambda record: record.record_id))
    part = Part(_new_stem(), len(ordered), footers := {})
    for name, table in tables.items():
        footers[name] = write_table(table_path(folder, name, partition, part.stem), without_keys(table))
    if ordered:
        write_atomically(bundle_path(folder, partition, part), bundle(record.line for record in ordered))
    return part, tables


def _merged(folder: Path, partition: str, parts: Iterable[Part]) -> list[Part]:
    """Return the parts, with those of one magnitude as one where they are many."""
    tiers: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        tiers[(part.num_records.bit_length() - 1) // 3].append(part)  # a step for each power of eight
    merged: list[Part] = []
    for tier in tiers.values():
        small = sum(part.num_records for part in tier) <= MAX_MERGED
        merged += [_merge(folder, partition, tier)] if len(tier) >= MAX_PARTS and small else tier
    return merged


def _merge(folder: Path, partition: str, parts: Sequence[Part]) -> Part:
    whole = Part(_new_stem(), sum(part.num_records for part in parts), footers := {})
    for name, (schema, _) in TABLES.items():
        if tables := [rows for part in parts if (rows := part_rows(folder, partition, part, name)) is not None]:
            rows = without_keys(joined(tables, schema))
            footers[name] = write_table(table_path(folder, name, partition, whole.stem), rows)
    lines = [line for part in parts for line in lines_in(folder, bundle_path(folder, partition, part))]
    write_atomically(bundle_path(folder, partition, whole), bundle(lines))
    return whole


def _built_again(folder: Path, partition: str, part: Part) -> Part:
    """Write the same records in new files."""
    records = {record.record_id: record for record in incoming_in(folder, bundle_path(folder, partition, part))}
    return _written(folder, partition, records.values())[0]


def _new_stem() -> str:
    return f"part-{uuid4().hex[:16]}"
