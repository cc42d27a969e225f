"""Check that a catalogue leaves out nothing that there is.

A catalogue may have a valid checksum and yet be wrong: brought back from a backup, copied from elsewhere, or edited.
The records are the truth, so one that leaves out a record, or rows of one, is not used.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sparse_search.results.catalog import TABLES, Catalog, bundle_path, parts_of, table_path
from sparse_search.results.intake import lines_in
from sparse_search.results.records import DamagedError, decode


def omission(folder: Path, catalog: Catalog) -> str:
    """Say what a catalogue leaves out; empty for nothing.

    A bundle that it does not name, all of whose records lie elsewhere as well, is what a kill left, and is removed.
    """
    for place in sorted((folder / "records").glob("*=*/*=*/*=*")):
        partition = place.relative_to(folder / "records").as_posix()
        parts = parts_of(catalog, partition)
        named = {bundle_path(folder, partition, part) for part in parts}
        strays = [path for path in place.glob("part-*.jsonl") if path not in named]
        if lost := _only_in(folder, strays, named):
            return f"it leaves out {lost} record{'s' * (lost > 1)} of {partition}"
        for path in strays:
            path.unlink(missing_ok=True)
        for part in parts:
            for name in TABLES.keys() - part.footers:
                if table_path(folder, name, partition, part.stem).exists():
                    return f"it leaves out rows of {name} of {partition}"
    return ""


def _only_in(folder: Path, strays: Collection[Path], named: Iterable[Path]) -> int:
    """Count the records that are in some bundles, and neither in the others nor one by one."""
    if not strays:
        return 0
    elsewhere = {*_ids(folder, filter(Path.exists, named)), *(p.stem for p in (folder / "records").glob("??/*.json"))}
    return len(set(_ids(folder, strays)) - elsewhere)


def _ids(folder: Path, bundles: Iterable[Path]) -> Iterator[str]:
    """Yield the names of the records in bundles."""
    for path in bundles:
        for line in lines_in(folder, path):
            with suppress(DamagedError, LookupError):
                yield str(decode(line, path)["record_id"])
