"""Contact sheet of a dataset: some pictures of each class and of the pool, to look at before anything is learned.

Shapes: N pictures, C channels, H W pixels, S of a side on the sheet.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from search_spaces.core.errors import DataError
from trainables.data.description import kinds_of
from trainables.data.partition import UNLABELLED, Indices
from trainables.data.source import Source, open_source

NUM_SHOWN = 8
"""Most pictures of a class."""

SIDE = 96
"""Pixels of a picture's side on the sheet."""

_MARGIN, _TEXT = 4, 14  # pixels between pictures, and of a line of text
_WHITE = (255, 255, 255)


class _Row(NamedTuple):
    title: str
    pictures_NCHW: NDArray[np.uint8]


def write_contact_sheet(dataset: str, file: Path, root: Path | None = None) -> int:
    """Write a PNG with pictures of the train split, evenly taken from each class in its order; return their number.

    Args:
        dataset: Its name, or a path.
        file: The PNG.
        root: Folder of the data files; default $SPARSE_SEARCH_DATA, else ~/.medmnist.

    Raises:
        DataError: a dataset that cannot be used, or a file that cannot be written.
    """
    source = open_source(dataset, root, kind=kinds_of(dataset, root)[0])
    rows = list(_rows(source))
    sheet = _drawn(rows)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file, "PNG")
    except OSError as problem:
        raise DataError(
            f"sheet {file} cannot be written ({problem.strerror or problem}); name another file"
        ) from problem
    return sum(len(row.pictures_NCHW) for row in rows)


def _rows(source: Source) -> Iterator[_Row]:
    images_NCHW = source.images("train")
    if source.kind == "segmentation":
        chosen = _some(np.arange(len(images_NCHW)))
        yield _Row("pictures", images_NCHW[chosen])
        masks_NHW = source.masks("train", chosen)
        if masks_NHW is not None:
            yield _Row(", ".join(source.class_names), masks_NHW[:, None].astype(np.uint8) * 255)
        return
    labels_N = source.labels("train")
    names = {**dict(enumerate(source.class_names)), UNLABELLED: "unlabelled"}
    for label, name in names.items():
        members = np.flatnonzero(labels_N == label)
        if len(members):
            yield _Row(f"{name} ({len(members):,})", images_NCHW[_some(members)])


def _some(members: Indices) -> Indices:
    places = np.linspace(0, len(members) - 1, min(NUM_SHOWN, len(members)))
    return members[places.round().astype(np.int64)]


def _drawn(rows: list[_Row]) -> Image.Image:
    step = SIDE + _MARGIN
    sheet = Image.new("RGB", (_MARGIN + NUM_SHOWN * step, _MARGIN + len(rows) * (step + _TEXT)), _WHITE)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _MARGIN + number * (step + _TEXT)
        pen.text((_MARGIN, top), row.title, fill=(0, 0, 0))
        for column, picture_CHW in enumerate(row.pictures_NCHW):
            sheet.paste(_enlarged(picture_CHW), (_MARGIN + column * step, top + _TEXT))
    return sheet


def _enlarged(picture_CHW: NDArray[np.uint8]) -> Image.Image:
    pixels = picture_CHW[0] if len(picture_CHW) == 1 else picture_CHW.transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    smooth = Image.Resampling.NEAREST if picture.width < SIDE else Image.Resampling.BILINEAR
    return picture.resize((SIDE, SIDE), smooth)
