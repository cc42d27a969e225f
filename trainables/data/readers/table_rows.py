"""Tables that name pictures and say what is known of each: read, and refused where they are unclear.

A table is a CSV file in UTF-8, parted by commas, semicolons or tabs, or a Parquet file. Columns, in any order:

* `path`: a picture below the table's folder. Named once.
* `label`: its class; empty where nobody has labelled it. A table without this column is of masks to be learned.
* `group` or `patient`, optional: images of one stay together; empty for an image that belongs to no other.
* `split`, optional: `train`, `val` or `test`; empty for train.
* `mask`: a picture's mask, so that this is no picture of its own; beside labels it says nothing more. Where masks are
  to be learned, it is empty where nobody has marked a picture.

Spaces around a value do not count. Labels that are all whole numbers are classes in the order of these numbers, others
in that of their names. The order of rows and columns counts nowhere.
"""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from math import isnan
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple, get_args
from unicodedata import normalize

from search_spaces.core.errors import DataError, suggestion
from trainables.data.partition import Split
from trainables.data.readers.mask_rules import FOREGROUND

LABEL, MASK = "label", "mask"
COLUMNS = ("path", LABEL, "group", "patient", "split", MASK)
PARQUET = ".parquet"

_NO_LABELS = ("nan", "n/a", "null", "-1", "unlabelled", "unlabeled")
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}(?:\.0*)?")
_DRIVE = re.compile(r"[A-Za-z]:")
_DELIMITERS = ",;\t"
_LIKENESS = 0.7  # from which a column is taken for one of ours that is misspelt

_Cells = Mapping[str, str]
_Raw = tuple[list[str], list[tuple[int, list[str]]]]


class TableRow(NamedTuple):
    """A picture, as a table describes it."""

    place: str
    """Path below the table's folder, with forward slashes."""

    label: str = ""
    """Name of its class, or of what its mask marks; empty where nobody has labelled it."""

    group: str = ""
    split: Split = "train"
    mask: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of a table in the order of their places."""

    rows: tuple[TableRow, ...]
    class_names: tuple[str, ...]
    """Of all labels, in the order of the classes; of masks, what is marked."""

    has_splits: bool
    ignored: tuple[str, ...]
    """Columns that mean nothing here."""

    of_masks: bool = False
    """True if masks are to be learned from it, and no classes."""


def columns_of_table(path: Path) -> frozenset[str]:
    """Columns of a table in small letters; none where it cannot be read."""
    try:
        header, _ = _parquet(path) if path.suffix.lower() == PARQUET else _csv(path)
    except DataError:
        return frozenset()
    return frozenset(name.strip().casefold() for name in header)


def rows_of_table(path: Path) -> Table:
    """The table in a file; read once per process while the file stays as it is.

    Raises:
        DataError: it cannot be read, lacks a column, or a row is unclear or contradicts another.
    """
    try:
        stat = path.stat()
    except OSError as problem:
        raise DataError(f"table {path} cannot be read ({problem.strerror}); name a table that exists") from problem
    table = _read(path, stat.st_mtime_ns, stat.st_size)
    return replace(table, rows=tuple(row._replace(place=as_on_disk(path.parent, row.place)) for row in table.rows))


def as_on_disk(folder: Path, place: str) -> str:
    """The place in the form of Unicode in which the file is there: some systems write an accent as a letter of its own.

    Where it is there in no other form it stays as it is.
    """
    apart = normalize("NFD", place)
    is_other = not place.isascii() and not _exists(folder / place) and _exists(folder / apart)
    return apart if is_other else place


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


@lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int, size: int) -> Table:
    header, lines = _parquet(path) if path.suffix.lower() == PARQUET else _csv(path)
    names = [name.strip().casefold() for name in header]
    _check_columns(path, names)
    of_masks = LABEL not in names
    rows: dict[str, tuple[int, TableRow]] = {}
    for number, cells in lines:
        row = _row(path, number, {name: _clean(cell) for name, cell in zip(names, cells, strict=True)})
        if row.place in rows:
            other, before = rows[row.place]
            labels = f" with the labels '{before.label}' and '{row.label}'" if before.label != row.label else ""
            raise DataError(f"table {path} names {row.place} in rows {other} and {number}{labels}: keep one row")
        rows[row.place] = number, row
    _check_alike(path, "groups", {row.group for _, row in rows.values()})
    found = _with_whole_numbers([row for _, (_, row) in sorted(rows.items())])
    ignored = tuple(sorted(name for name in names if name not in COLUMNS))
    class_names = _what_is_marked(path, found) if of_masks else _class_names(path, found)
    return Table(tuple(found), class_names, "split" in names, ignored, of_masks)


def paths_of_table(path: Path) -> list[str]:
    """Read the column `path` of a table, whatever else is in it, row by row.

    Raises:
        DataError: it cannot be read, or has no such column.
    """
    header, lines = _parquet(path) if path.suffix.lower() == PARQUET else _csv(path)
    names = [name.strip().casefold() for name in header]
    if "path" not in names:
        raise DataError(f"table {path} has no column 'path' among {', '.join(names)}: add or rename one")
    place = names.index("path")
    return [_clean(cells[place]) for _, cells in lines]


def _csv(path: Path) -> _Raw:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(_DELIMITERS, key=first.count), strict=True)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeError, csv.Error) as problem:
        reason = "it is not UTF-8" if isinstance(problem, UnicodeError) else problem
        raise DataError(f"table {path} cannot be read ({reason}); expected CSV in UTF-8: save it as such") from problem
    if not lines:
        raise DataError(f"table {path} is empty; expected the columns path and label: fill it")
    (_, header), *rows = lines
    for number, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"table {path}, row {number}: {len(cells)} values in {len(header)} columns; "
                "expected one for each: put quotes around values with a delimiter in them"
            )
    return header, rows


def _parquet(path: Path) -> _Raw:
    from pyarrow import ArrowException, parquet  # only such a table needs it

    try:
        table = parquet.read_table(path)
        columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
        header = list(table.column_names)
    except (OSError, ArrowException, ValueError, OverflowError, MemoryError) as problem:
        reason = next(iter(str(problem).splitlines()), type(problem).__name__)
        raise DataError(f"table {path} cannot be read ({reason}); expected Parquet: save it again") from problem
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    return header, list(enumerate(rows, start=1))


def _text(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and isnan(value))
    return "" if missing else str(value)


def _clean(cell: str) -> str:
    return normalize("NFC", cell.strip())


def _check_columns(path: Path, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"table {path} has two columns '{twice}'; expected each once: rename or remove one")
    for name in names:
        near = get_close_matches(name, COLUMNS, n=1, cutoff=_LIKENESS)
        if name not in COLUMNS and near:
            raise DataError(
                f"table {path} has a column '{name}', which means nothing here; did you mean '{near[0]}'? "
                "Rename or remove it"
            )
    for needed in ("path", LABEL):
        if needed not in names and not (needed == LABEL and MASK in names):
            raise DataError(
                f"table {path} has no column '{needed}' among {', '.join(names)}: add or rename one, "
                "or rename the table where it is not meant to say labels"
            )
    if {"group", "patient"} <= set(names):
        raise DataError(f"table {path} has the columns 'group' and 'patient'; expected one of them: remove the other")


def _row(path: Path, number: int, cells: _Cells) -> TableRow:
    label, split = cells.get(LABEL, FOREGROUND if cells.get(MASK) else ""), cells.get("split", "").casefold() or "train"
    where = f"table {path}, row {number}"
    if label.casefold() in _NO_LABELS:
        raise DataError(f"{where}: '{label}' is no class; leave the label empty where nobody has labelled an image")
    if split not in get_args(Split):
        raise DataError(f"{where}: split '{split}' is unknown{suggestion(split, get_args(Split))}")
    if not label and split != "train":
        needed = LABEL if LABEL in cells else MASK
        raise DataError(f"{where}: an image of {split} needs a {needed}; add it, or leave its split empty")
    mask = _place(where, cells[MASK]) if cells.get(MASK) else ""
    group = cells.get("group") or cells.get("patient", "")
    known: dict[str, Split] = {name: name for name in get_args(Split)}
    return TableRow(_place(where, cells["path"]), label, group, known[split], mask)


def _place(where: str, given: str) -> str:
    """The path below the table's folder, in its shortest form.

    Raises:
        DataError: none is given, or it leads elsewhere.
    """
    place = normpath(given.replace("\\", "/")) if given else "."
    if place == ".":
        raise DataError(f"{where} has no path; expected one of a picture: add it or remove the row")
    if place.startswith(("/", "../")) or place == ".." or _DRIVE.match(place):
        raise DataError(f"{where}: {given} leads out of the table's folder; expected a path below it: move the picture")
    return place


def _with_whole_numbers(rows: Sequence[TableRow]) -> Iterable[TableRow]:
    """Rows whose labels are written as whole numbers where all are such: 1 for 1.0, as tables with gaps are saved."""
    if not all(_WHOLE.fullmatch(row.label) for row in rows if row.label):
        return list(rows)
    return [row._replace(label=str(int(float(row.label)))) if row.label else row for row in rows]


def _check_alike(path: Path, what: str, names: Iterable[str]) -> None:
    """Refuse names that differ in nothing but capitals: they are one, and images would be told apart by them."""
    alike: dict[str, str] = {}
    for name in sorted(names):
        other = alike.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(f"table {path} has the {what} '{other}' and '{name}': write them alike")


def _what_is_marked(path: Path, rows: Iterable[TableRow]) -> tuple[str, ...]:
    if not any(row.label for row in rows):
        raise DataError(f"table {path} names no mask; expected some pictures with one: fill its column '{MASK}'")
    return (FOREGROUND,)


def _class_names(path: Path, rows: Iterable[TableRow]) -> tuple[str, ...]:
    names = {row.label for row in rows if row.label}
    _check_alike(path, "labels", names)
    if len(names) < 2:
        given = f"'{min(names)}'" if names else "none"
        raise DataError(f"table {path} has {len(names)} classes ({given}); expected two or more: add labelled images")
    key: Callable[[str], Any] = int if all(map(_WHOLE.fullmatch, names)) else str
    return tuple(sorted(names, key=key))
