"""IDRiD as in the SSL-GAN paper: fundus pictures with marked lesions, and those without retinopathy.

The diseased are the pictures of "A. Segmentation"; a pixel is marked where any of four lesions is (microaneurysms,
haemorrhages, hard and soft exudates; the optic disc is none). The healthy are those of grade 0 in "B. Disease Grading",
but for any that is equal to a picture of another grade. Below the data root, as unpacked

    idrid/A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg
    idrid/A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_01_MA.tif
    idrid/B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg
    idrid/B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv

or under plain names

    idrid/segmentation/train/images/IDRiD_01.jpg, idrid/segmentation/train/masks/MA/IDRiD_01.png
    idrid/grading/images/train_IDRiD_001.jpg, idrid/grading/labels.csv (file, retinopathy_grade)

Source: Porwal et al., Medical Image Analysis 59:101561, 2020; the cohort is that of Lecouat et al., arXiv:1812.07832.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from search_spaces.core.errors import DataError
from trainables.data.readers.files import file_of, pictures_below
from trainables.data.readers.lesion_reader import LesionFolder
from trainables.data.readers.mask_rules import Picture, with_masks
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import RowRequest
from trainables.data.readers.resize_cache import open_lesions

TEST_SHARE = 49 / 248
VAL_SHARE = 50 / 199
"""Share of what is no test picture, drawn anew for each label set."""

_ORIGIN = "https://doi.org/10.21227/H25W98"


class _Layout(NamedTuple):
    segmentation: str
    grading: str
    images: str
    masks: str
    tables: str

    def is_in(self, folder: Path) -> bool:
        return (folder / self.segmentation).is_dir() and (folder / self.grading).is_dir()


_PLAIN = _Layout(
    segmentation="segmentation",
    grading="grading",
    images="segmentation/*/images/*",
    masks="segmentation/*/masks/{}/*",
    tables="grading/labels.csv",
)
_PUBLISHED = _Layout(
    segmentation="A. Segmentation",
    grading="B. Disease Grading",
    images="A. Segmentation/1. Original Images/*/*",
    masks="A. Segmentation/2. All Segmentation Groundtruths/*/*/*_{}.*",
    tables="B. Disease Grading/2. Groundtruths/*.csv",
)
_LESIONS = ("MA", "HE", "EX", "SE")


def is_complete(folder: Path) -> bool:
    """True if both parts lie in a folder."""
    return any(layout.is_in(folder) for layout in (_PLAIN, _PUBLISHED))


def open_idrid(request: RowRequest) -> Reader:
    """The reader of the pictures, prepared at the side that is asked for.

    Raises:
        DataError: folders or files are missing or cannot be read.
    """
    return open_lesions(find_idrid(request.path), request.side, request.tell)


def find_idrid(folder: Path) -> LesionFolder:
    """List pictures and masks and read the grades, but open no picture.

    Raises:
        DataError: folders or files are missing.
    """
    folder = folder.absolute()
    layout = next((layout for layout in (_PLAIN, _PUBLISHED) if layout.is_in(folder)), None)
    if layout is None:
        raise DataError(
            f"idrid: {folder} does not hold 'segmentation' and 'grading' (nor '{_PUBLISHED.segmentation}' and "
            f"'{_PUBLISHED.grading}'); unpack both from {_ORIGIN} there, or name the folder above with --data-root"
        )
    marked = pictures_below(folder, layout.images)
    masks = pictures_below(folder, *(layout.masks.format(lesion) for lesion in _LESIONS))
    tables = sorted(folder.glob(layout.tables))
    grades = {place: grade for table in tables for place, grade in _grades(folder, table)}
    if not marked or not grades:
        raise DataError(f"idrid: {folder} has {len(marked)} pictures below {layout.images}, {len(grades)} with a grade")
    pictures = with_masks(folder, [file.place for file in marked], [file.place for file in masks], _LESIONS)
    healthy = tuple(Picture(place) for place, grade in grades.items() if grade == 0)
    files = [*marked, *masks, *(file_of(folder, folder / place) for place in grades)]
    files += [file_of(folder, table) for table in tables]
    others = tuple(place for place, grade in grades.items() if grade != 0)
    return LesionFolder(folder, pictures + healthy, tuple(files), TEST_SHARE, VAL_SHARE, others)


def _grades(folder: Path, table: Path) -> Iterator[tuple[str, int]]:
    """Places and grades of the pictures in a table, in its order."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            name, grade = row.get("file") or row.get("Image name"), row.get("retinopathy_grade")
            if not name:
                continue
            path = _graded_picture(table, Path(name.strip()).name)
            grade = grade or row.get("Retinopathy grade") or ""
            if not grade.strip().isdecimal() or not path.is_file():
                raise DataError(
                    f"{table}: {name} has grade '{grade}' and should be {path}; expected 0..4 and a picture"
                )
            yield path.relative_to(folder).as_posix(), int(grade)


def _graded_picture(table: Path, name: str) -> Path:
    if table.name == "labels.csv":
        return table.parent / "images" / name
    part = "a. Training Set" if table.name.startswith("a.") else "b. Testing Set"
    return table.parents[1] / "1. Original Images" / part / f"{name}.jpg"
