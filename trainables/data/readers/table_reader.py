"""Pictures that a table names, with class, group and split, as a dataset in memory.

The table is `labels.csv` in a folder, or any table by its path; `table_rows` says what stands in it. Pictures of the
folder that it does not name are of the pool as well, unless it says splits: then they are passed over.

Without splits and without a pool the images are shared out class by class, whole groups to one part, 70 % train, 10 %
val, 20 % test, fixed by the content hash; with a pool all of them are of train.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.names import LABELS_TABLE
from trainables.data.partition import SPLITS, UNLABELLED, Split
from trainables.data.readers.class_folders import TEST_SHARE, VAL_SHARE
from trainables.data.readers.passed_over import words_about
from trainables.data.readers.picture_files import shared_format, words_about_levels
from trainables.data.readers.picture_reader import PictureReader
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import ReaderRequest
from trainables.data.readers.table_listing import ListedTable, list_table
from trainables.data.readers.table_rows import LABEL, MASK, TableRow, columns_of_table

_Parts = Mapping[Split, tuple[TableRow, ...]]


@final
@dataclass(frozen=True)
class TableReader(PictureReader):
    """Pictures of a folder, described by a table."""

    rows: _Parts
    """In the order of `members`."""

    numbers: Mapping[Split, NDArray[np.int64]] | None
    """Groups of the images, in the same order; a group has one number in all splits."""

    listed: ListedTable

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about what the table does not say, and about files that were passed over."""
        passed_over = words_about(self.folder, {file.place for file in self.files}, beside=True)
        levels = words_about_levels([self.folder / place for place in self.members["train"]])
        return (*self.listed.told, *passed_over, *levels)

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Labels (N,): positions in the class names; -1 in the pool."""
        known = {name: number for number, name in enumerate(self.class_names)} | {"": UNLABELLED}
        return np.array([known[row.label] for row in self.rows[split]], dtype=np.int64)

    def groups(self, split: Split) -> NDArray[np.int64] | None:
        """Numbers (N,) of the images' groups; None where the table has none."""
        return self.numbers[split] if self.numbers else None

    def digest(self) -> str:
        """MD5 over the sorted places, the bytes of all pictures, and what is said of each."""
        return self.listed.digest


def has_table(folder: Path) -> bool:
    """True if a folder holds a table of classes under its usual name."""
    return (folder / LABELS_TABLE).is_file() and is_table(folder / LABELS_TABLE)


def is_table(path: Path) -> bool:
    """True if a table is of classes, or such that nobody can say."""
    columns = columns_of_table(path)
    return LABEL in columns or MASK not in columns


def open_table(request: ReaderRequest) -> Reader:
    """The reader of a table, or of the folder that holds one; looks at the headers of the training pictures.

    Raises:
        DataError: a table that cannot be used, pictures that are missing or cannot be read, classes of other names than
            asked for, a group in two splits.
    """
    listed = list_table(request)
    if request.class_names not in (None, listed.class_names):
        given, wanted = (", ".join(names) for names in (listed.class_names, request.class_names or ()))
        raise DataError(f"table {listed.path} has the classes {given}; expected {wanted}, in this order: rename them")
    return _open(listed, request.side)


@lru_cache(maxsize=8)
def _open(listed: ListedTable, side: int | None) -> TableReader:
    folder, class_names = listed.folder, listed.class_names
    indices = listed.parts(val_share=VAL_SHARE, test_share=TEST_SHARE)
    parts = {split: tuple(listed.rows[index] for index in indices[split]) for split in SPLITS}
    _check_classes(listed.path, class_names, parts)
    channels, own_side = shared_format([folder / row.place for row in parts["train"]])
    members = {split: tuple(row.place for row in parts[split]) for split in SPLITS}
    return TableReader(
        folder, class_names, channels, side or own_side, listed.files, members, parts, listed.groups(indices), listed
    )


def _check_classes(path: Path, class_names: tuple[str, ...], parts: _Parts) -> None:
    for name in class_names:
        if not any(row.label == name for row in parts["train"]):
            raise DataError(f"table {path} has no image of class '{name}' in train; expected some: add or move one")
