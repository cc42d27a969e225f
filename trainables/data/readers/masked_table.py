"""Pictures and masks that a table names, with groups and splits, for segmentation.

The table is `labels.csv` in a folder, or any table by its path, with the columns `path` and `mask` and without `label`;
`table_rows` says what stands in it. A picture without a mask is of the pool, as are those that it does not name, unless
it says splits. Without splits and without a pool a fifth of the groups is the test part. What validates is drawn from
train by each label set, whole groups.
"""

from pathlib import Path

from search_spaces.core.errors import DataError
from trainables.data.names import LABELS_TABLE
from trainables.data.partition import SPLITS
from trainables.data.readers.mask_files import MaskFolder
from trainables.data.readers.mask_reader import DEFAULT_SIDE, prepared_masks
from trainables.data.readers.mask_rules import TEST_SHARE, Picture
from trainables.data.readers.passed_over import words_about
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import ReaderRequest
from trainables.data.readers.table_listing import ListedTable, list_table
from trainables.data.readers.table_rows import MASK, columns_of_table


def has_masked_table(folder: Path) -> bool:
    """True if a folder holds a table of masks under its usual name."""
    return (folder / LABELS_TABLE).is_file() and is_masked_table(folder / LABELS_TABLE)


def is_masked_table(path: Path) -> bool:
    """True if a table names masks."""
    return MASK in columns_of_table(path)


def open_masked_table(request: ReaderRequest) -> Reader:
    """The reader of a table, or of the folder that holds one; prepares the pictures of train.

    Raises:
        DataError: a table that cannot be used, labels beside masks, pictures or masks that are missing, do not match or
            cannot be read.
    """
    listed = list_table(request)
    _check(listed)
    indices = listed.parts(val_share=0.0, test_share=TEST_SHARE)
    notes = (*listed.told, *words_about(listed.folder, {file.place for file in listed.files}, beside=True))
    parts = {
        split: MaskFolder(
            listed.folder, tuple(_picture(listed, index) for index in indices[split]), listed.files, notes
        )
        for split in SPLITS
        if len(indices[split])
    }
    side, class_names = request.side or DEFAULT_SIDE, listed.class_names
    return prepared_masks(parts, listed.digest, side, class_names, request.tell, listed.groups(indices))


def _picture(listed: ListedTable, index: int) -> Picture:
    row = listed.rows[index]
    return Picture(row.place, (row.mask,) if row.mask else ())


def _check(listed: ListedTable) -> None:
    if not listed.of_masks:
        raise DataError(
            f"table {listed.path} has labels beside masks, so that a picture without a mask may be empty or of "
            "the pool; expected no column 'label' to learn masks: leave it out in a table of its own"
        )
    if any(row.split == "val" for row in listed.rows):
        raise DataError(
            f"table {listed.path} has pictures of val, but what validates is drawn from train by each label set; "
            "expected train or test: change their split"
        )
    if not any(row.label and row.split == "train" for row in listed.rows):
        raise DataError(f"table {listed.path} has no mask in train; expected some: add or move one")
