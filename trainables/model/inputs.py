"""Pictures to be predicted, wherever they lie: files, folders, tables of paths, arrays in a .npz file.

What cannot be read is no end: it is a picture with a reason instead of pixels.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.readers.files import is_picture, pictures_below
from trainables.data.readers.npz import DAMAGE
from trainables.data.readers.picture_files import FORMATS, opened
from trainables.data.readers.shown import shown_size
from trainables.data.readers.table_rows import PARQUET, as_on_disk, paths_of_table
from trainables.model.preparation import Preparation, are_channels_first, fitted

_TABLES = (".csv", PARQUET)

ARRAY = "images"
"""Array of a .npz file that holds pictures."""


class Decoded(NamedTuple):
    """A picture that was read."""

    pixels_CSS: NDArray[np.uint8]
    """As the model takes it."""

    size: tuple[int, int]
    """Width and height as it is shown, in pixels."""


@final
@dataclass(frozen=True)
class Unseen:
    """A picture to be predicted."""

    place: str
    """Path as it was given or found; of an array with `#` and the number in it."""

    read: Callable[[Preparation], Decoded]
    """Returns it, or raises `DataError`."""


def unseen(paths: Sequence[Path | str]) -> list[Unseen]:
    """Return the pictures at paths, in order: of a folder those below it, by name.

    Raises:
        DataError: there are none at all.
    """
    found = [each for path in paths for each in _at(Path(path))]
    if not found:
        raise DataError(f"no picture in {', '.join(map(str, paths))}; expected pictures, folders, .npz files or tables")
    return found


def picture_at(path: Path) -> Unseen:
    """Return the picture in a file."""
    return Unseen(as_text(path), partial(_read, path))


def as_text(given: object) -> str:
    """Return a text that any file can hold, such as of a path: what is no UTF-8 is written as `\\udcff`."""
    return str(given).encode("utf-8", "backslashreplace").decode()


def _at(path: Path) -> Iterator[Unseen]:
    if path.is_dir():
        yield from (picture_at(path / file.place) for file in pictures_below(path, "**/*.*"))
    elif path.suffix.lower() == ".npz" and path.is_file():
        yield from _in_arrays(path)
    elif path.suffix.lower() in _TABLES and path.is_file():
        yield from _listed(path)
    else:
        yield picture_at(path)


def _read(path: Path, preparation: Preparation) -> Decoded:
    try:
        if not path.exists():
            raise DataError("there is no such file")
        if not is_picture(path):
            raise DataError(f"is no picture by its name; expected {FORMATS}")
    except OSError as problem:  # a name that is too long, a folder that may not be looked into
        raise DataError(f"cannot be read: {problem.strerror}") from problem
    with opened(path) as picture:
        size = shown_size(picture)
        return Decoded(preparation(picture), size)


def _listed(path: Path) -> Iterator[Unseen]:
    """Yield the pictures that a table names, relative to its folder."""
    try:
        places = paths_of_table(path)
    except DataError as problem:
        yield _refused(str(path), str(problem))
    else:
        slashed = (place.replace("\\", "/") for place in places)
        yield from (picture_at(path.parent / as_on_disk(path.parent, place)) for place in slashed)


def _in_arrays(path: Path) -> Iterator[Unseen]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ARRAY}.npy") as member:
            images: NDArray[Any] = npy.read_array(member, allow_pickle=False)
    except KeyError:
        yield _refused(str(path), f"has no array '{ARRAY}'")
    except DAMAGE as problem:
        yield _refused(str(path), f"cannot be read: {' '.join(str(problem).split())[:120]}")
    else:
        if not images.ndim:
            yield _refused(str(path), f"'{ARRAY}' is a single value")
            return
        for number in range(len(images)):
            yield Unseen(f"{as_text(path)}#{number}", partial(_fitted, images[number : number + 1]))


def _fitted(image_1HW: NDArray[Any], preparation: Preparation) -> Decoded:
    pictures = fitted(image_1HW, preparation)
    sizes = image_1HW.shape[2:] if are_channels_first(image_1HW) else image_1HW.shape[1:3]
    return Decoded(pictures[0], (sizes[1], sizes[0]))


def _refused(place: str, why: str) -> Unseen:
    def refuse(preparation: Preparation) -> Decoded:
        raise DataError(why)

    return Unseen(as_text(place), refuse)
