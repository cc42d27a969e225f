"""Datasets found by their names, and their arrays checked.

A name is one of the catalogue (`pneumoniamnist`, at another side `pneumoniamnist@64`), or the path of a file or folder
that one of the `storages` takes: a `.npz` file in MedMNIST's layout, a folder of pictures (`scans/`, resized
`scans/@64`). Relative paths are looked for from here, then below the data root. With a grid (`idrid@256:8x8`) images
are cut into patches: see `names`. A folder with `images/` and `masks/` is read as the kind of task needs it: with
classes, or with masks to learn; a table by its columns.

Shapes: N images, C channels, H W pixels, K classes.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError, DataError, suggestion
from trainables.core.grid import Grid
from trainables.core.home import from_home
from trainables.core.kind import Kind, MirrorAxis
from trainables.core.withheld import refuse_to_learners
from trainables.data.catalog import CATALOG, DatasetInfo
from trainables.data.duplicates import roles_of
from trainables.data.names import Request, read_name, reader_function
from trainables.data.partition import UNLABELLED, Indices, Split
from trainables.data.patches import check_grid
from trainables.data.readers.reader import PreparationCallback, Reader
from trainables.data.readers.request import ReaderRequest, RowRequest
from trainables.data.roles import Roles
from trainables.data.storages import OWN_FORMS, SUFFIXES, layouts_of, storage_of
from trainables.data.summary import left_out, line_of

log = logging.getLogger(__name__)

ROOT_VARIABLE = "SPARSE_SEARCH_DATA"
_NEEDED: Mapping[Kind, str] = {"classification": "classes", "segmentation": "masks"}

_REMEDY = {
    "train": "add it",
    "val": "choose --validation realistic or labelled-cv",
    "test": "nothing can be evaluated on it: add one (test_images and test_labels, or a folder test/)",
}


_KEY_DIGITS = 16


@final
@dataclass(frozen=True)
class Source:
    """Dataset that was found. Arrays are read when asked for, one split at a time."""

    name: str
    """Name in rows: the catalogue's, or that of the file or folder; with `@SIDE` and `:GRID` if they were asked."""

    title: str
    class_names: tuple[str, ...]
    """In the order of the labels; of a segmentation, what is marked."""

    channels: int
    side: int
    """Side of whole pictures, in pixels."""

    reader: Reader
    checksum: str | None
    """MD5 of the published data; None for a user's own."""

    asymmetric: tuple[MirrorAxis, ...] = ()
    """Axes along which images must not be mirrored."""

    published_key: str = ""
    """First 16 hex digits of the MD5 of the published data at its first side; empty where it is not published."""

    grid: Grid | None = None
    """Grid by which a task cuts the pictures into patches; arrays here are of whole ones."""

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    @property
    def patches_per_image(self) -> int:
        """Number of patches P of a picture; 1 where pictures stay whole."""
        return self.grid.num_patches if self.grid else 1

    @property
    def shots_in_all(self) -> bool:
        """True if shots count labelled images in all, not of each class."""
        return self.reader.shots_in_all

    @property
    def val_share(self) -> float:
        """Share of the train split that each label set draws to validate; 0 where there is a val split for good."""
        return self.reader.val_share

    @property
    def has_masks(self) -> bool:
        """True if something is marked pixel by pixel."""
        return self.reader.has_masks

    @property
    def kind(self) -> Kind:
        """Kind of task that can be learned from it."""
        return self.reader.kind

    @cached_property
    def content_hash(self) -> str:
        """First 16 hex digits of the MD5 of the content."""
        return self.reader.digest()[:_KEY_DIGITS]

    @cached_property
    def draw_key(self) -> str:
        """What draws of label sets depend on; of published data the same at every side, so that these are paired."""
        return self.published_key if self.published_key and self.official else self.content_hash

    @cached_property
    def official(self) -> bool:
        """True if the data is the published one, byte for byte; never of a user's own."""
        return self.reader.digest() == self.checksum

    @property
    def splits(self) -> tuple[Split, ...]:
        """Splits with images, in the order train, val, test."""
        return self.reader.splits

    def check_images(self, split: Split) -> int:
        """Number of images of a split, whose form is checked without decoding any.

        Raises:
            DataError: no such split, or images of another side or number of channels than the dataset's.
        """
        self._require(split)
        count, *form = self.reader.image_shape(split)
        expected = [self.channels, self.side, self.side]
        if form != expected:
            given, wanted = ("x".join(map(str, sizes)) for sizes in (form, expected))
            raise DataError(
                f"dataset '{self.name}': images of {split} are {given} (channels x height x width); "
                f"expected {wanted}: use the right file or name another side with @SIDE"
            )
        return count

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Labels (N,) in 0..K-1, and -1 of images of the pool, which only train has; reads no image.

        Raises:
            ConfigError: a learner asks for those of the test split.
            DataError: no such split, a damaged file, labels outside 0..K-1, or not one per image.
        """
        _guard(split)
        num_images = self.check_images(split)
        labels_N = self.reader.labels(split).astype(np.int64)
        if len(labels_N) != num_images:
            raise DataError(f"dataset '{self.name}': {split} has {len(labels_N)} labels but {num_images} images: save")
        low, high = labels_N.min(), labels_N.max()
        if low < (UNLABELLED if split == "train" else 0) or high >= self.num_classes:
            raise DataError(
                f"dataset '{self.name}': labels of {split} run from {low} to {high}; "
                f"expected 0..{self.num_classes - 1}: renumber them"
            )
        return labels_N

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, H, W), C-contiguous.

        Raises:
            ConfigError: a learner asks for those of the test split.
            DataError: no such split, a damaged file, or images of another form.
        """
        _guard(split)
        self.check_images(split)
        return self.reader.images(split)

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_] | None:
        """Marked pixels (N, H, W) of the chosen images in their order; None where nobody marked anything.

        Raises:
            ConfigError: a learner asks for those of the test split.
        """
        _guard(split)
        return self.reader.masks(split, chosen)

    def groups(self, split: Split) -> NDArray[np.int64] | None:
        """Number (N,) of each image's group, such as its patient; None where none are known."""
        return self.reader.groups(split)

    def roles(self, *, with_val: bool = False) -> Roles:
        """Roles that are left to the pictures of train, and of val if it validates: equal ones play one role.

        Raises:
            DataError: a picture that cannot be read.
        """
        return roles_of(self.name, self.reader, with_val=with_val)

    def class_counts(self, split: Split) -> tuple[int, ...]:
        """Labelled images of every class, in the order of `class_names`."""
        labels_N = self.labels(split)
        return tuple(np.bincount(labels_N[labels_N != UNLABELLED], minlength=self.num_classes).tolist())

    def _require(self, split: Split) -> None:
        if split not in self.splits:
            raise DataError(f"dataset '{self.name}' has no {split} split; {_REMEDY[split]}")


def data_root(root: Path | None) -> Path:
    """The folder where files are looked for: the given one, else $SPARSE_SEARCH_DATA, else ~/.medmnist."""
    return from_home(str(root or os.environ.get(ROOT_VARIABLE) or "~/.medmnist"))


def available_sides(name: str, root: Path | None = None) -> tuple[int, ...]:
    """Sides of a catalogued dataset that can be read without a download, in pixels."""
    row, folder = CATALOG[name], data_root(root)
    return tuple(side for side in row.sides if row.is_here(folder, side))


def open_source(
    dataset: str, root: Path | None = None, tell: PreparationCallback | None = None, kind: Kind = "classification"
) -> Source:
    """Find a dataset, fetching a missing MedMNIST file.

    Reads no image, but for pictures with masks: they are prepared the first time, in minutes, and kept.

    Args:
        dataset: Its name.
        root: Folder of the data files.
        tell: Told of every picture that was prepared.
        kind: Kind of task to be learned from it.

    Raises:
        ConfigError: it has not what this kind of task needs.
        DataError: unknown name, a file that is missing and cannot be fetched, a damaged file, another layout, a grid
            that does not fit.
    """
    request = read_name(dataset)
    source = _whole(request, dataset, data_root(root), tell, kind)
    if request.grid is None:
        return source
    if kind == "segmentation":
        raise ConfigError(f"dataset '{dataset}': segmentation takes whole pictures; leave out :{request.grid}")
    check_grid(request.grid, source.side, dataset)
    return replace(source, name=f"{source.name}:{request.grid}", grid=request.grid)


def prepare(
    dataset: str, root: Path | None = None, tell: PreparationCallback | None = None, kind: Kind = "classification"
) -> None:
    """Do what takes minutes the first time a dataset is used, so that `open_source` takes seconds from then on.

    One line is logged, which says what was read, and as a warning what was left out and why.

    Args:
        dataset: Its name.
        root: Folder of the data files.
        tell: Told of every picture that was prepared; never when there is nothing to do.
        kind: Kind of task to be learned from it.

    Raises:
        ConfigError, DataError: as `open_source`.
    """
    source = open_source(dataset, root, tell, kind)
    source.reader.prepare(tell)
    apart = left_out(source.name, source.reader, tell)
    line = line_of(source.name, source.reader, source.class_names, apart)
    log.log(logging.WARNING if apart else logging.INFO, "%s", line)


def _guard(split: Split) -> None:
    """Refuse the test split to a learner."""
    if split == "test":
        refuse_to_learners("the test set", "only `evaluate` may, once its networks are trained")


def _whole(request: Request, dataset: str, root: Path, tell: PreparationCallback | None, kind: Kind) -> Source:
    name, side, _ = request
    if name in CATALOG:
        _check_kind(CATALOG[name], kind)
        return _catalogued(CATALOG[name], CATALOG[name].check_side(side), root, tell)
    path = own_path(name, root)
    if path is None:
        raise DataError(f"dataset '{dataset}' is unknown{suggestion(name, CATALOG)} Your own: {OWN_FORMS}")
    return _own(path, side, tell, kind)


def _check_kind(row: DatasetInfo, kind: Kind) -> None:
    if row.kind != kind:
        others = ", ".join(name for name, other in CATALOG.items() if other.kind == kind)
        whose = "pictures" if kind == "segmentation" else "images"
        raise ConfigError(
            f"dataset '{row.name}' has no {_NEEDED[kind]} of {whose}, which {kind} needs; use one of {others}, "
            "or your own"
        )


def _catalogued(row: DatasetInfo, side: int, root: Path, tell: PreparationCallback | None) -> Source:
    request = RowRequest(path=row.path_below(root, side), side=side, tell=tell, row=row)
    reader: Reader = reader_function(row.opener)(request)
    name = row.name if side == row.sides[0] else f"{row.name}@{side}"
    source = Source(
        name=name,
        title=row.title,
        class_names=row.class_names,
        channels=row.channels,
        side=side,
        reader=reader,
        checksum=row.checksums.get(side),
        asymmetric=row.asymmetric,
        published_key=row.checksums.get(row.sides[0], "")[:_KEY_DIGITS],
    )
    source.check_images("train")
    return source


def _own(path: Path, side: int | None, tell: PreparationCallback | None, kind: Kind) -> Source:
    storage = storage_of(path, kind)
    if storage is None:
        raise ConfigError(f"{path.resolve()} has no {_NEEDED[kind]}, which {kind} needs: expected {layouts_of(kind)}")
    reader: Reader = reader_function(storage.opener)(ReaderRequest(path=path, side=side, tell=tell))
    title = storage.title_of(path)
    name = title if side is None else f"{title}@{side}"
    _, channels, own_side, _ = reader.image_shape("train")
    return Source(name, title, reader.class_names, channels, own_side, reader, None)


def own_path(name: str, root: Path) -> Path | None:
    """The user's file or folder, or None when the name is no path.

    Raises:
        DataError: a path at which nothing lies.
    """
    try:
        given = Path(name).expanduser()
        given.exists()
    except (OSError, RuntimeError, ValueError) as problem:  # a name that is too long, `~nobody`, `~` and a zero byte
        why = getattr(problem, "strerror", None) or problem
        raise DataError(f"no data at '{name}': {why}; name a file or a folder that exists") from problem
    found = next((path for path in (given, root / given) if path.exists()), None)
    looks_like_path = any(separator in name for separator in ("/", os.sep)) or given.suffix.lower() in SUFFIXES
    if not looks_like_path:
        return given if name and given.is_dir() else None
    if found is None or not (found.is_dir() or found.suffix.lower() in SUFFIXES):
        raise DataError(
            f"no data at '{name}' (nor below {root}); expected an existing {' or '.join(SUFFIXES)} file "
            "or a folder of pictures"
        )
    return found
