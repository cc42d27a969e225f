"""One row per way in which a user's own images may be stored: the one place to add one.

The first row that takes a path opens it, so what is recognised by more stands before what is recognised by less.
"""

from dataclasses import dataclass
from pathlib import Path

from trainables.core.kind import Kind
from trainables.data.names import LABELS_TABLE, reader_function


@dataclass(frozen=True)
class Storage:
    """A form of a path, and what opens it."""

    opener: str
    """MODULE:FUNCTION of `trainables.data.readers` that makes a reader of a `ReaderRequest`."""

    layout: str
    """Words of messages that say what was expected."""

    suffix: str = ""
    """Ending of the file's name, with the dot; empty for a folder."""

    kind: Kind = "classification"
    """Kind of task that can be learned from it."""

    recogniser: str = ""
    """MODULE:FUNCTION of `trainables.data.readers` that tells of a path if it is such a one; empty: any will do."""

    def takes(self, path: Path) -> bool:
        """True if the path, which exists, is stored in this form."""
        is_such = path.is_file() and path.suffix.lower() == self.suffix if self.suffix else path.is_dir()
        return is_such and (not self.recogniser or bool(reader_function(self.recogniser)(path)))

    def title_of(self, path: Path) -> str:
        """Name of what lies there: the file's or the folder's, and of a table with its usual name the folder's."""
        whole = path.resolve()
        if not self.suffix:
            return whole.name
        return whole.parent.name if whole.name == LABELS_TABLE else path.stem


STORAGES = (
    Storage("npz:open_npz_file", "a .npz file in MedMNIST's layout", suffix=".npz"),
    Storage(
        "masked_table:open_masked_table",
        "labels.csv with the columns path and mask",
        kind="segmentation",
        recogniser="masked_table:has_masked_table",
    ),
    Storage(
        "masked_table:open_masked_table",
        "a .csv file with the columns path and mask",
        suffix=".csv",
        kind="segmentation",
        recogniser="masked_table:is_masked_table",
    ),
    Storage(
        "masked_table:open_masked_table",
        "a .parquet file with these",
        suffix=".parquet",
        kind="segmentation",
        recogniser="masked_table:is_masked_table",
    ),
    Storage(
        "mask_reader:open_mask_folder",
        "images/NAME.png with masks/NAME.png in it",
        kind="segmentation",
        recogniser="mask_rules:has_masks",
    ),
    Storage("lesion_files:open_lesion_folder", "images/ with masks/ of lesions", recogniser="mask_rules:has_masks"),
    Storage(
        "table_reader:open_table", "labels.csv with the columns path and label", recogniser="table_reader:has_table"
    ),
    Storage(
        "table_reader:open_table",
        "a .csv file with the columns path and label",
        suffix=".csv",
        recogniser="table_reader:is_table",
    ),
    Storage(
        "table_reader:open_table", "a .parquet file with these", suffix=".parquet", recogniser="table_reader:is_table"
    ),
    Storage(
        "class_folders:open_class_folders",
        "one folder of pictures per class",
        recogniser="class_folders:may_hold_classes",
    ),
)

SUFFIXES = tuple(dict.fromkeys(storage.suffix for storage in STORAGES if storage.suffix))
"""Endings of the files that are read, with the dot and in small letters."""

OWN_FORMS = " or ".join([*(f"a {suffix} file" for suffix in SUFFIXES), "a folder"])
"""Words for what a user's own path may be."""


def storage_of(path: Path, kind: Kind) -> Storage | None:
    """The form in which a path is stored, for a kind of task; None where it is none of the known ones."""
    return next((storage for storage in STORAGES if storage.kind == kind and storage.takes(path)), None)


def layouts_of(kind: Kind) -> str:
    """Words for all the forms that a kind of task can be learned from."""
    return ", or ".join(storage.layout for storage in STORAGES if storage.kind == kind)
