"""Pictures that a table names or leaves to the pool: looked for, checked, and shared out into splits.

Shapes: N pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import md5
from pathlib import Path, PurePosixPath
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.groups import Groups, alone, numbered, share_out_groups
from trainables.data.names import LABELS_TABLE
from trainables.data.partition import SPLITS, Indices, Split
from trainables.data.readers.files import File, digest_of, file_of, is_picture, pictures_below
from trainables.data.readers.passed_over import masks_beside
from trainables.data.readers.picture_files import SUFFIXES
from trainables.data.readers.request import ReaderRequest
from trainables.data.readers.table_rows import Table, TableRow, rows_of_table

_MASKS = "masks/"


@final
@dataclass(frozen=True)
class ListedTable:
    """Table whose pictures are there, none of them opened."""

    path: Path
    class_names: tuple[str, ...]
    rows: tuple[TableRow, ...]
    """N, in the order of their places, those of the pool after all others."""

    files: tuple[File, ...]
    """Everything that counts: pictures, and masks that are to be learned."""

    has_splits: bool
    of_masks: bool
    told: tuple[str, ...]
    """Words about what the table does not say."""

    @property
    def folder(self) -> Path:
        """What all places lie below."""
        return self.path.parent

    @property
    def digest(self) -> str:
        """MD5 of files and of what is said of each; the same in whichever order the rows were."""
        return _digest_of(self)

    def parts(self, *, val_share: float, test_share: float) -> dict[Split, Indices]:
        """Ascending positions of the rows of each split: as the table says, or shared out where there is no pool."""
        if self.has_splits or not all(row.label for row in self.rows):
            splits_N = np.array([row.split for row in self.rows])
            return {split: np.flatnonzero(splits_N == split) for split in SPLITS}
        labels_N = np.array([self.class_names.index(row.label) for row in self.rows])
        numbers_N = _numbers(self.rows)
        groups_N = alone(len(self.rows)) if numbers_N is None else numbers_N
        return share_out_groups(labels_N, groups_N, self.digest, val_share=val_share, test_share=test_share)

    def groups(self, parts: Mapping[Split, Indices]) -> dict[Split, Groups] | None:
        """Numbers of the groups in each split, one number in all of them; None where the table has no groups."""
        numbers_N = _numbers(self.rows)
        return None if numbers_N is None else {split: numbers_N[chosen] for split, chosen in parts.items()}


class _Listed(NamedTuple):
    """Rows of a folder's pictures, those that the table does not name among them."""

    rows: tuple[TableRow, ...]
    """In the order of their places, those of the pool after all others."""

    others: tuple[str, ...]
    """Pictures that it does not name."""


def list_table(request: ReaderRequest) -> ListedTable:
    """List the pictures of a table, or of the folder that holds one.

    Raises:
        DataError: a table that cannot be used, pictures or masks that are missing, a group in two splits.
    """
    path = request.existing()
    path = path / LABELS_TABLE if path.is_dir() else path
    table, folder = rows_of_table(path), path.parent
    _check_pictures(path, [row.place for row in table.rows], "files", "a picture")
    if table.of_masks:
        _check_masks(path, table)
    listed = _listed(folder, table)
    rows, left = _without_held_out(path, listed.rows)
    masks = sorted({row.mask for row in rows if row.mask}) if table.of_masks else []
    files = tuple(file_of(folder, folder / place) for place in (*(row.place for row in rows), *masks))
    told = (*_words(path, table, listed), *left)
    return ListedTable(path, table.class_names, rows, files, table.has_splits, table.of_masks, told)


def _numbers(rows: Iterable[TableRow]) -> NDArray[np.int64] | None:
    return numbered([row.group for row in rows])


@lru_cache(maxsize=8)
def _digest_of(listed: ListedTable) -> str:
    total = md5(digest_of(listed.folder, listed.files).encode(), usedforsecurity=False)
    for row in sorted(listed.rows):
        said = (row.place, row.label, row.group, row.split, *[row.mask] * listed.of_masks)
        total.update(("\0".join(said) + "\n").encode())
    return total.hexdigest()


def _check_masks(path: Path, table: Table) -> None:
    _check_pictures(path, [row.mask for row in table.rows if row.mask], "masks", "a mask")
    both = {row.place for row in table.rows} & {row.mask for row in table.rows}
    if both:
        raise DataError(f"table {path} names {min(both)} as a picture and as a mask: correct one of them")


def _check_pictures(path: Path, places: Sequence[str], what: str, one: str) -> None:
    missing = [place for place in places if not _is_file(path.parent / place)]
    if missing:
        raise DataError(
            f"table {path} names {len(missing)} {what} that are not there, the first of them {missing[0]}; "
            f"expected paths below {path.parent}: correct the paths, or remove the rows"
        )
    for place in places:
        if not is_picture(path.parent / place):
            raise DataError(f"table {path} names {place}; expected {one} ({', '.join(SUFFIXES)}): remove the row")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _listed(folder: Path, table: Table) -> _Listed:
    named = {row.place for row in table.rows}
    masks = {row.mask for row in table.rows}
    of_masks = {_parent(row.mask) for row in table.rows if row.mask} - {_parent(place) for place in named}
    found = [file.place for file in pictures_below(folder, "**/*")]
    masks |= set(masks_beside([place for place in found if place not in named], found))
    others = tuple(
        place
        for place in found
        if place not in named | masks and _parent(place) not in of_masks and not place.startswith(_MASKS)
    )
    pool = () if table.has_splits else tuple(TableRow(place) for place in others)
    return _Listed(tuple(sorted((*table.rows, *pool), key=lambda row: (not row.label, row.place))), others)


def _parent(place: str) -> str:
    return str(PurePosixPath(place).parent)


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
