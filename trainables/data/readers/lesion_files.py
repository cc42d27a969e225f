"""A folder of one's own pictures with lesion masks.

Layout: `images/*`, and the masks of a picture either as `masks/<lesion>/<stem>.*`, one for each kind of lesion, or as
`masks/<stem>.*`. A pixel is marked where a mask is not 0 (in a JPEG: above 127). A missing mask means: no such lesion.
Every class is shared out 60 % train, 20 % val, 20 % test; the test part is fixed by the content hash, the others are
drawn anew for each label set.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from search_spaces.core.errors import DataError
from trainables.data.names import PREPARED_SIDES
from trainables.data.readers.files import pictures_below
from trainables.data.readers.lesion_reader import Cohort, Picture
from trainables.data.readers.picture_files import SUFFIXES, channels_and_sizes

TEST_SHARE = 0.2
VAL_SHARE = 0.25
"""Of what is no test picture."""


DEFAULT_SIDE = 1024
"""Pixels, unless all pictures are squares of one side. Source: Lecouat et al., arXiv:1812.07832."""


def has_masks(folder: Path) -> bool:
    """Whether a folder is laid out like this."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def find_cohort(folder: Path) -> Cohort:
    """Lists pictures and masks, and opens none.

    Raises:
        DataError: no picture, two pictures of one name, a mask without a picture.
    """
    files = pictures_below(folder, "images/*", "masks/*", "masks/*/*")
    images = [file.place for file in files if file.place.startswith("images/")]
    if not images:
        raise DataError(f"folder {folder / 'images'} holds no picture ({', '.join(SUFFIXES)}); add some")
    masks = [file.place for file in files if file.place.startswith("masks/")]
    return Cohort(folder, with_masks(folder, images, masks), files, TEST_SHARE, VAL_SHARE)


def side_of(cohort: Cohort, asked: int | None) -> int:
    """The side to prepare, in pixels.

    Raises:
        DataError: it is out of range, or the header of a picture cannot be read.
    """
    low, high = PREPARED_SIDES
    if asked is not None and not low <= asked <= high:
        raise DataError(
            f"{cohort.folder}: pictures with masks are made {low} to {high} pixels wide, not {asked}: use @SIDE"
        )
    if asked is not None:
        return asked
    _, sizes = channels_and_sizes([cohort.folder / picture.place for picture in cohort.pictures])
    width, height = next(iter(sizes))
    return width if len(sizes) == 1 and width == height and low <= width <= high else DEFAULT_SIDE


def stem_of(place: str) -> str:
    """The name of a file without folder and suffix."""
    return PurePosixPath(place).stem


def with_masks(
    folder: Path, images: list[str], masks: list[str], key: Callable[[str], str] = stem_of
) -> tuple[Picture, ...]:
    """Pictures with the masks of the same key.

    Raises:
        DataError: two pictures of one key, a mask without a picture.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for place in images:
        same, _ = found.setdefault(key(place), (place, []))
        if same != place:
            raise DataError(f"{folder / same} and {folder / place} have the same name before the dot: rename one")
    for mask in masks:
        if key(mask) not in found:
            raise DataError(
                f"mask {folder / mask} is of no picture; expected one named {key(mask)}: add it, or remove the mask"
            )
        found[key(mask)][1].append(mask)
    return tuple(Picture(place, tuple(own)) for place, own in found.values())
