"""Test images that a table lists, which came when the data set was long in use.

Shapes: N images, C channels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError, DataError
from trainables.core.method import Labelled
from trainables.core.withheld import refuse_to_learners
from trainables.data.partition import UNLABELLED, Split
from trainables.data.readers.picture_files import read_picture
from trainables.data.readers.table_reader import TableReader
from trainables.data.readers.table_rows import TableRow, rows_of_table
from trainables.data.source import Source, open_source


def later_test_set(table: Path, dataset: str, root: Path | None = None) -> Labelled:
    """The labelled images of a table, in the order of their paths, with the classes, side and channels of a data set.

    Args:
        table: `path` and `label`, as in `trainables.data.readers.table_rows`; rows without a label are passed over.
        dataset: The data set that was learned from.
        root: Folder of its files.

    Raises:
        ConfigError: a learner asks, or the data set is of patches or masks.
        DataError: a table or a picture that cannot be read, a class that the data set does not have, or an image that
            it has labelled.
    """
    refuse_to_learners("the test set", "only `evaluate` may, once its networks are trained")
    source = open_source(dataset, root)
    if source.grid or source.kind != "classification":
        raise ConfigError(f"{dataset} is of patches or masks: a table of test images is for whole images with classes")
    rows = [row for row in rows_of_table(table).rows if row.label]
    labels_N = _labels(table, rows, source)
    images_NCHW = np.stack([read_picture(table.parent / row.place, source.channels, source.side) for row in rows])
    _check_unseen(table, rows, images_NCHW, source)
    return Labelled(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))


def _labels(table: Path, rows: Sequence[TableRow], source: Source) -> NDArray[np.int64]:
    known = {name: number for number, name in enumerate(source.class_names)}
    unknown = sorted({row.label for row in rows} - known.keys())
    if unknown:
        raise DataError(
            f"table {table} has the class '{unknown[0]}', which {source.name} does not have; expected "
            f"{', '.join(source.class_names)}: correct the label, or remove the row"
        )
    return np.array([known[row.label] for row in rows], dtype=np.int64)


def _check_unseen(table: Path, rows: Sequence[TableRow], images_NCHW: NDArray[np.uint8], source: Source) -> None:
    """Refuse images that have a label in the data set, and those of its groups: they may have taught or chosen."""
    learned_from: tuple[Split, ...] = ("train", "val") if "val" in source.splits else ("train",)
    labelled = {
        image_CHW.tobytes()
        for split in learned_from
        for image_CHW in source.images(split)[source.labels(split) != UNLABELLED]
    }
    _check_groups(table, rows, source, learned_from)
    found = [row.place for row, image_CHW in zip(rows, images_NCHW, strict=True) if image_CHW.tobytes() in labelled]
    if found:
        raise DataError(
            f"table {table} names {len(found)} images that are labelled in {source.name}, the first of them "
            f"{found[0]}; expected images that nobody learned from: remove them"
        )


def _check_groups(table: Path, rows: Sequence[TableRow], source: Source, learned_from: Sequence[Split]) -> None:
    if not isinstance(source.reader, TableReader):  # others do not name their groups
        return
    known = {row.group.casefold() for split in learned_from for row in source.reader.rows[split] if row.group}
    found = [row for row in rows if row.group.casefold() in known]
    if found:
        raise DataError(
            f"table {table} names {len(found)} images of groups that {source.name} learned from, the first of them "
            f"{found[0].place} of group '{found[0].group}'; expected images of others: remove them"
        )
