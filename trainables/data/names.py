"""Names of datasets and of what opens them.

A dataset is asked for by `NAME[@SIDE][:ROWSxCOLUMNS[+OVERLAP]]`, such as `idrid@256:8x8`.

A path that exists is taken as it stands, whatever it is called.
"""

import re
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from search_spaces.core.errors import DataError
from trainables.core.grid import Grid

PREPARED_SIDES = (32, 2048)
"""Least and greatest side, in pixels, of pictures that are prepared at any side that is asked for."""

POOL_FOLDERS = ("unlabelled", "unlabeled")
"""Names of a folder of pictures that nobody has labelled."""

LABELS_TABLE = "labels.csv"
"""Name of a table that is found in its folder."""

_GRID = re.compile(r"([1-9]\d*)x([1-9]\d*)(?:\+(\d+))?")
_GRID_LIKE = re.compile(r"[\dxX×+, -]*")


class Request(NamedTuple):
    """Parts of a dataset's name."""

    name: str
    """Name in the catalogue, or a path."""

    side: int | None
    """Pixels; None where none is asked for."""

    grid: Grid | None


def read_name(dataset: str) -> Request:
    """Split a dataset's name into its parts.

    Raises:
        DataError: what stands after a colon is meant as a grid but is none.
    """
    name, grid = _without_grid(dataset)
    stem, at, side = name.rpartition("@")
    if not at or not side.isdecimal() or int(side) == 0 or _exists(name):
        return Request(name, None, grid)
    return Request(stem, int(side), grid)


def reader_function(name: str) -> Callable[..., Any]:
    """Import a function that is named as MODULE:FUNCTION of `trainables.data.readers`."""
    found: Callable[..., Any] = resolve_name(f"trainables.data.readers.{name}")
    return found


def _without_grid(dataset: str) -> tuple[str, Grid | None]:
    name, colon, text = dataset.rpartition(":")
    if not colon or not _GRID_LIKE.fullmatch(text) or _exists(dataset):
        return dataset, None
    found = _GRID.fullmatch(text)
    if not found:
        raise DataError(
            f"dataset '{dataset}': '{text}' is no grid; expected ROWSxCOLUMNS or ROWSxCOLUMNS+OVERLAP, "
            f"such as {name}:8x8"
        )
    rows, columns, overlap = (int(number or 0) for number in found.groups())
    return name, Grid(rows, columns, overlap)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name that is too long
        return False
