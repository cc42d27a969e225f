"""One line that says what was read of a dataset, and what was left out and why."""

from collections.abc import Sequence

import numpy as np

from search_spaces.core.errors import DataError
from trainables.data.duplicates import contents_of, roles_of
from trainables.data.partition import UNLABELLED, Split
from trainables.data.readers.reader import PreparationCallback, Reader


def line_of(name: str, reader: Reader, class_names: Sequence[str], apart: Sequence[str]) -> str:
    """One line: what was read, then what was left out or is odd.

    Args:
        name: The dataset's.
        reader: Gives its pictures.
        class_names: Names of its classes; of a segmentation, of what is marked.
        apart: What `left_out` says.
    """
    pool = _pool_of(reader)
    counts = ", ".join(f"{_count_of(reader, split, pool)} {split}" for split in reader.splits)
    counts += f" and {pool:,} unlabelled" if pool else ""
    _, channels, height, width = reader.image_shape("train")
    what = f"{len(class_names)} classes" if reader.kind == "classification" else f"masks of {', '.join(class_names)}"
    read = f"dataset '{name}': {counts} pictures read ({what}, {channels}x{height}x{width})"
    return "; ".join((read, *apart))


def left_out(name: str, reader: Reader, tell: PreparationCallback | None = None) -> tuple[str, ...]:
    """What of a dataset plays no role, or not every one, and why; empty where there is nothing to say.

    Raises:
        DataError: a picture of train or val that cannot be read.
    """
    roles = roles_of(name, reader, tell=tell)
    told = [*reader.notes, *_repeats(int((~roles.present_N).sum()), roles.num_conflicting)]
    if "val" in reader.splits:
        both = roles_of(name, reader, with_val=True, tell=tell)
        shared = int((~both.present_N).sum() - (~roles.present_N).sum())
        told += _shared_with_val(shared, int((~both.validating_V).sum()))
    if "test" in reader.splits and not reader.has_masks:
        told += _also_in_test(reader, tell)
    return tuple(told)


def _pool_of(reader: Reader) -> int:
    """Number of pictures that nobody has labelled."""
    return int((reader.labels("train") == UNLABELLED).sum())


def _count_of(reader: Reader, split: Split, pool: int) -> str:
    """Number of labelled pictures; nothing but train needs to be readable yet."""
    try:
        return str(reader.image_shape(split)[0] - (pool if split == "train" else 0))
    except DataError:
        return "unreadable"


def _repeats(num_out: int, num_conflicting: int) -> list[str]:
    told = []
    if num_out:
        told.append(f"{num_out} of train left out as the same pixels are there before")
    if num_conflicting:
        told.append(f"{num_conflicting} of train never labelled nor validating as equal pictures have different labels")
    return told


def _shared_with_val(shared: int, not_validating: int) -> list[str]:
    told = []
    if shared:
        told.append(f"{shared} of train left out of official validation as they are in val too")
    if not_validating:
        told.append(f"{not_validating} of val not validating as they repeat others or their labels differ")
    return told


def _also_in_test(reader: Reader, tell: PreparationCallback | None) -> list[str]:
    """Pictures that are in train and in test; only their pixels are compared."""
    try:
        tested = frozenset(contents_of(reader, "test", tell))
    except DataError as problem:
        return [f"test was not compared with train ({problem})"]
    count = int(np.count_nonzero([content in tested for content in contents_of(reader, "train", tell)]))
    return [f"{count} of train are in test too, and remain in both"] if count else []
