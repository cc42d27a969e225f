"""Pictures that a table names, with class, group and split, as a dataset in memory.

The table is `labels.csv` in a folder, or any table by its path; `table_rows` says what stands in it. Pictures of the
folder that it does not name are of the pool as well, unless it says splits: then they are passed over.

Without splits and without a pool the images are shared out class by class, whole groups to one part, 70 % train, 10 %
val, 20 % test, fixed by the content hash; with a pool all of them are of train.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import md5
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.groups import alone, numbered, share_out_groups
from trainables.data.names import LABELS_TABLE
from trainables.data.partition import SPLITS, UNLABELLED, Split
from trainables.data.readers.class_folders import TEST_SHARE, VAL_SHARE
from trainables.data.readers.files import File, digest_of, file_of, is_picture, pictures_below
from trainables.data.readers.passed_over import masks_beside, words_about
from trainables.data.readers.picture_files import SUFFIXES, shared_format, words_about_levels
from trainables.data.readers.picture_reader import PictureReader
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import ReaderRequest
from trainables.data.readers.table_rows import Table, TableRow, rows_of_table

_MASKS = "masks/"

_Parts = Mapping[Split, tuple[TableRow, ...]]


@final
@dataclass(frozen=True)
class TableReader(PictureReader):
    """Pictures of a folder, described by a table."""

    rows: _Parts
    """In the order of `members`."""

    numbers: Mapping[Split, NDArray[np.int64]] | None
    """Groups of the images, in the same order; a group has one number in all splits."""

    told: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about what the table does not say, and about files that were passed over."""
        passed_over = words_about(self.folder, {file.place for file in self.files}, beside=True)
        levels = words_about_levels([self.folder / place for place in self.members["train"]])
        return (*self.told, *passed_over, *levels)

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Labels (N,): positions in the class names; -1 in the pool."""
        known = {name: number for number, name in enumerate(self.class_names)} | {"": UNLABELLED}
        return np.array([known[row.label] for row in self.rows[split]], dtype=np.int64)

    def groups(self, split: Split) -> NDArray[np.int64] | None:
        """Numbers (N,) of the images' groups; None where the table has none."""
        return self.numbers[split] if self.numbers else None

    def digest(self) -> str:
        """MD5 over the sorted places, the bytes of all pictures, and what is said of each."""
        return _digest_of(self.folder, self.files, tuple(row for split in SPLITS for row in self.rows[split]))


class _Listed(NamedTuple):
    """Rows of a folder's pictures, those that the table does not name among them."""

    rows: tuple[TableRow, ...]
    """In the order of their places, those of the pool after all others."""

    others: tuple[str, ...]
    """Pictures that it does not name."""


def has_table(folder: Path) -> bool:
    """True if a folder holds a table under its usual name."""
    return (folder / LABELS_TABLE).is_file()


def open_table(request: ReaderRequest) -> Reader:
    """The reader of a table, or of the folder that holds one; looks at the headers of the training pictures.

    Raises:
        DataError: a table that cannot be used, pictures that are missing or cannot be read, classes of other names than
            asked for, a group in two splits.
    """
    path = request.existing()
    path = path / LABELS_TABLE if path.is_dir() else path
    table, folder = rows_of_table(path), path.parent
    if request.class_names not in (None, table.class_names):
        given, wanted = (", ".join(names) for names in (table.class_names, request.class_names or ()))
        raise DataError(f"table {path} has the classes {given}; expected {wanted}, in this order: rename them")
    _check_pictures(path, table.rows)
    listed = _listed(folder, table)
    rows, left = _without_held_out(path, listed.rows)
    files = tuple(file_of(folder, folder / row.place) for row in rows)
    told = (*_words(path, table, listed), *left)
    return _open(path, request.side, table.class_names, rows, files, table.has_splits, told)


@lru_cache(maxsize=8)
def _open(
    path: Path,
    side: int | None,
    class_names: tuple[str, ...],
    rows: tuple[TableRow, ...],
    files: tuple[File, ...],
    has_splits: bool,
    told: tuple[str, ...],
) -> TableReader:
    folder = path.parent
    numbers_N = numbered([row.group for row in rows])
    as_given = has_splits or not all(row.label for row in rows)
    indices = _as_given(rows) if as_given else _shared_out(folder, class_names, rows, files, numbers_N)
    parts = {split: tuple(rows[index] for index in indices[split]) for split in SPLITS}
    _check_classes(path, class_names, parts)
    channels, own_side = shared_format([folder / row.place for row in parts["train"]])
    members = {split: tuple(row.place for row in parts[split]) for split in SPLITS}
    numbers = None if numbers_N is None else {split: numbers_N[indices[split]] for split in SPLITS}
    return TableReader(folder, class_names, channels, side or own_side, files, members, parts, numbers, told)


def _as_given(rows: Iterable[TableRow]) -> dict[Split, NDArray[np.int64]]:
    splits = np.array([row.split for row in rows])
    return {split: np.flatnonzero(splits == split) for split in SPLITS}


def _shared_out(
    folder: Path,
    class_names: tuple[str, ...],
    rows: tuple[TableRow, ...],
    files: tuple[File, ...],
    numbers_N: NDArray[np.int64] | None,
) -> dict[Split, NDArray[np.int64]]:
    labels_N = np.array([class_names.index(row.label) for row in rows])
    groups_N = alone(len(rows)) if numbers_N is None else numbers_N
    seed = _digest_of(folder, files, rows)
    return share_out_groups(labels_N, groups_N, seed, val_share=VAL_SHARE, test_share=TEST_SHARE)


@lru_cache(maxsize=8)
def _digest_of(folder: Path, files: tuple[File, ...], rows: tuple[TableRow, ...]) -> str:
    """MD5 of pictures and of what is said of each; the same in whichever order the rows are."""
    total = md5(digest_of(folder, files).encode(), usedforsecurity=False)
    for row in sorted(rows):
        total.update(("\0".join((row.place, row.label, row.group, row.split)) + "\n").encode())
    return total.hexdigest()


def _check_pictures(path: Path, rows: Iterable[TableRow]) -> None:
    missing = [row.place for row in rows if not _is_file(path.parent / row.place)]
    if missing:
        raise DataError(
            f"table {path} names {len(missing)} files that are not there, the first of them {missing[0]}; "
            f"expected paths below {path.parent}: correct the paths, or remove the rows"
        )
    for row in rows:
        if not is_picture(path.parent / row.place):
            raise DataError(
                f"table {path} names {row.place}; expected a picture ({', '.join(SUFFIXES)}): remove the row"
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _listed(folder: Path, table: Table) -> _Listed:
    named = {row.place for row in table.rows}
    masks = {row.mask for row in table.rows}
    found = [file.place for file in pictures_below(folder, "**/*")]
    masks |= set(masks_beside([place for place in found if place not in named], found))
    others = tuple(
        place for place in found if place not in named and place not in masks and not place.startswith(_MASKS)
    )
    pool = () if table.has_splits else tuple(TableRow(place) for place in others)
    return _Listed(tuple(sorted((*table.rows, *pool), key=lambda row: (not row.label, row.place))), others)


def _words(path: Path, table: Table, listed: _Listed) -> tuple[str, ...]:
    told = []
    if listed.others and table.has_splits:
        told.append(f"{len(listed.others)} pictures that {path.name} does not name passed over, as it says splits")
    elif listed.others:
        told.append(f"{len(listed.others)} pictures that {path.name} does not name are of the pool")
    if table.ignored:
        told.append(f"columns of {path.name} that mean nothing here: {', '.join(table.ignored)}")
    return tuple(told)


def _without_held_out(path: Path, rows: tuple[TableRow, ...]) -> tuple[tuple[TableRow, ...], tuple[str, ...]]:
    """Rows without images of the pool whose group is held out, and words about these.

    Raises:
        DataError: a group has labelled images in two splits.
    """
    split_of: dict[str, Split] = {}
    for row in rows:
        if row.group and row.label and split_of.setdefault(row.group, row.split) != row.split:
            raise DataError(
                f"table {path} has group '{row.group}' in {split_of[row.group]} and in {row.split}; "
                "expected all images of a group in one split: move them"
            )
    kept = tuple(row for row in rows if row.label or split_of.get(row.group, "train") == "train")
    num_left = len(rows) - len(kept)
    told = f"{num_left} pictures left out of the pool as their group is in val or test"
    return kept, (told,) if num_left else ()


def _check_classes(path: Path, class_names: tuple[str, ...], parts: _Parts) -> None:
    for name in class_names:
        if not any(row.label == name for row in parts["train"]):
            raise DataError(f"table {path} has no image of class '{name}' in train; expected some: add or move one")
