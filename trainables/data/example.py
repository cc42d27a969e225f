"""Example folder of few labels: some of scikit-learn's bundled digits with a class, many without one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.partition import shuffled_class
from trainables.data.source import open_source

LABELLED: Mapping[str, int] = {"3": 12, "5": 7, "8": 20}
"""Labelled pictures of each class, as unequal as those of real data."""

NUM_UNLABELLED = 90
"""Pictures of each class that nobody has labelled."""


def example_in_words() -> str:
    """Return what the folder holds."""
    num_labelled, num_unlabelled = sum(LABELLED.values()), NUM_UNLABELLED * len(LABELLED)
    return f"{num_labelled} labelled digits of {len(LABELLED)} classes, and {num_unlabelled} without a label,"


def write_example(folder: Path) -> Path:
    """Write pictures as PNG into a new folder: `3/`, `5/`, `8/` and `unlabelled/`; return it.

    Raises:
        DataError: the folder holds something, or cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is there already; name a new folder, or one that is empty")
        _write(folder)
    except OSError as problem:
        raise DataError(f"{folder} cannot be written ({problem.strerror or problem}); name another folder") from problem
    return folder


def _write(folder: Path) -> None:
    digits = open_source("digits")
    images_NCHW, labels_N = digits.images("train"), digits.labels("train")
    pool = []
    for name, count in LABELLED.items():
        order = shuffled_class(labels_N, digits.class_names.index(name), "example")
        for index in order[:count]:
            _save(images_NCHW[index, 0], folder / name / f"{index:04}.png")
        pool += order[count : count + NUM_UNLABELLED].tolist()
    for index in sorted(pool):
        _save(images_NCHW[index, 0], folder / "unlabelled" / f"{index:04}.png")


def _save(pixels_HW: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_HW).save(file)
