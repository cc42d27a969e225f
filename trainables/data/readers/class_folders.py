"""A folder of pictures, one folder a class, as a dataset in memory.

Layouts: `train/<class>/*` with optional `val/<class>/*` and `test/<class>/*`; or `<class>/*`, which is
shared out class by class, 70 % train, 10 % val, 20 % test, fixed by the content hash. Names that begin with a
dot, other kinds of files, folders further below, and masks beside their pictures (`x_mask.png`) are passed over.

A folder `unlabelled/` (or `unlabeled/`) beside the classes, or beside `train/`, is the pool: pictures of train without
a label, never a class. Who has a pool has few labels: `<class>/*` beside it is not shared out, but all of train.

What the training pictures look like decides colour and side, so that nothing of the test set shapes training:
grey when all of them are grey; their own side when all are squares of one side, else 224 pixels. `@SIDE` asks
for another one. Pictures are resized bilinearly, antialiased, without keeping their aspect ratio.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.names import LABELS_TABLE, POOL_FOLDERS
from trainables.data.partition import SPLITS, UNLABELLED, Split, three_way_split
from trainables.data.readers.files import IGNORED, File, digest_of, is_picture, pictures_below
from trainables.data.readers.passed_over import masks_beside, words_about
from trainables.data.readers.picture_files import SUFFIXES, shared_format, words_about_levels
from trainables.data.readers.picture_reader import PictureReader
from trainables.data.readers.reader import Reader, with_pool
from trainables.data.readers.request import ReaderRequest

VAL_SHARE = 0.1
TEST_SHARE = 0.2


@final
@dataclass(frozen=True)
class FolderReader(PictureReader):
    """Folder of class folders."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about files that were passed over, and pictures that hardly show anything."""
        passed_over = words_about(self.folder, {file.place for file in self.files}, beside=True)
        return (*passed_over, *words_about_levels([self.folder / place for place in self.members["train"]]))

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Labels (N,): positions in the sorted class names; -1 in the pool."""
        return np.array([_label_of(place, self.class_names) for place in self.members[split]], dtype=np.int64)

    def digest(self) -> str:
        """MD5 over the sorted places and the bytes of all pictures, and another where some are of the pool."""
        digest = digest_of(self.folder, self.files)
        return with_pool(digest) if any(_is_of_pool(file.place) for file in self.files) else digest


def may_hold_classes(folder: Path) -> bool:
    """True if no table says what is in a folder."""
    return not (folder / LABELS_TABLE).is_file()


def open_class_folders(request: ReaderRequest) -> Reader:
    """The reader of a folder; lists its pictures and looks at the headers of the training ones.

    Raises:
        DataError: another layout, fewer than two classes, classes of other names than asked for, a picture
            that cannot be read.
    """
    folder = request.existing()
    has_splits = (folder / "train").is_dir()
    if has_splits:
        _check_split_names(folder)
    class_names = _class_names(folder / "train" if has_splits else folder)
    if request.class_names not in (None, class_names):
        given, wanted = (", ".join(names) for names in (class_names, request.class_names or ()))
        raise DataError(f"{folder} holds the classes {given}; expected {wanted}, in alphabetical order: rename them")
    found = pictures_below(folder, *("*/*/*", *(f"{pool}/*" for pool in POOL_FOLDERS)) if has_splits else ("*/*",))
    files = tuple(file for file in found if not has_splits or _is_in_splits(file.place))
    places = [file.place for file in files]
    masks = set(masks_beside(places, places))
    return _open(folder, request.side, class_names, tuple(file for file in files if file.place not in masks))


@lru_cache(maxsize=8)
def _open(folder: Path, side: int | None, class_names: tuple[str, ...], files: tuple[File, ...]) -> FolderReader:
    members = _members(folder, class_names, files)
    channels, own_side = shared_format([folder / place for place in members["train"]])
    return FolderReader(folder, class_names, channels, side or own_side, files, members)


def _members(folder: Path, class_names: tuple[str, ...], files: tuple[File, ...]) -> dict[Split, tuple[str, ...]]:
    places = [file.place for file in files]
    pool = tuple(place for place in places if _is_of_pool(place))
    if not any(place.startswith("train/") for place in places):
        return {"train": tuple(places), "val": (), "test": ()} if pool else _shared_out(folder, class_names, files)
    for place in places:
        if _class_of(place) not in class_names and place not in pool:
            known = ", ".join(class_names)
            raise DataError(f"{folder / place} is of no class in train/ ({known}); rename or remove its folder")
    parts = {split: tuple(place for place in places if place.startswith(f"{split}/")) for split in SPLITS}
    return parts | {"train": tuple(place for place in places if place in {*parts["train"], *pool})}


def _shared_out(folder: Path, class_names: tuple[str, ...], files: tuple[File, ...]) -> dict[Split, tuple[str, ...]]:
    labels_N = np.array([class_names.index(_class_of(file.place)) for file in files])
    parts = three_way_split(labels_N, digest_of(folder, files), val_share=VAL_SHARE, test_share=TEST_SHARE)
    return {split: tuple(files[index].place for index in indices) for split, indices in parts.items()}


def _class_of(place: str) -> str:
    return place.split("/")[-2]


def _is_of_pool(place: str) -> bool:
    """True for a picture of a pool beside classes or beside train; those of val and test need a class."""
    return _class_of(place) in POOL_FOLDERS and not place.startswith(("val/", "test/"))


def _is_in_splits(place: str) -> bool:
    """True for a picture of a class in a split, or of a pool, and not for one further below a pool."""
    return place.startswith(tuple(f"{split}/" for split in SPLITS)) or place.count("/") == 1


def _label_of(place: str, class_names: tuple[str, ...]) -> int:
    return UNLABELLED if _is_of_pool(place) else class_names.index(_class_of(place))


def _class_names(folder: Path) -> tuple[str, ...]:
    classes = tuple(name for name in _folders(folder) if name not in POOL_FOLDERS)
    expected = "one folder of pictures per class, at least two"
    if len(classes) < 2:
        raise DataError(f"folder {folder} holds {len(classes)} class folders; expected {expected}")
    for name in classes:
        if not any(is_picture(file) for file in (folder / name).iterdir()):
            deeper = ", and folders in it are not looked into" if _folders(folder / name) else ""
            raise DataError(
                f"folder {folder / name} holds no picture ({', '.join(SUFFIXES)}){deeper}; expected {expected}"
            )
    return classes


def _check_split_names(folder: Path) -> None:
    for name in _folders(folder):
        if name not in (*SPLITS, *POOL_FOLDERS):
            raise DataError(f"folder {folder / name} stands beside train/; expected val or test: rename or remove it")


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(IGNORED)))
