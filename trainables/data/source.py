"""From the name of a dataset to its arrays.

A name is one of the catalogue (`pneumoniamnist`, at another side `pneumoniamnist@64`), a `.npz` file in
MedMNIST's layout, or a folder of pictures (`scans/`, resized `scans/@64`). Relative paths are looked for from
here, then below the data root. With a grid (`idrid@256:8x8`) images are cut into patches: see `names`. A folder with
`images/` and `masks/` is read as the kind of task needs it: `lesions` for classes, `mask_pictures` for masks.

Shapes: N images, C channels, H W pixels, K classes.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError, DataError, suggestion
from trainables.core.grid import Grid
from trainables.core.kind import Kind
from trainables.data.catalog import CATALOG, DatasetInfo
from trainables.data.download import download
from trainables.data.names import Request, read_name
from trainables.data.partition import Indices, Split
from trainables.data.patches import check_grid
from trainables.data.readers.class_folders import open_folder
from trainables.data.readers.digits import DigitsReader
from trainables.data.readers.idrid import find_idrid
from trainables.data.readers.idrid import is_there as idrid_is_there
from trainables.data.readers.lesion_files import find_cohort, has_masks, side_of
from trainables.data.readers.lesion_reader import CLASS_NAMES, CohortReader, ProgressCallback
from trainables.data.readers.mask_reader import MaskedReader, open_masked_folder, open_optic_discs, open_shapes
from trainables.data.readers.npz import open_npz
from trainables.data.readers.reader import Reader
from trainables.data.readers.resize_cache import open_cohort

ROOT_VARIABLE = "SPARSE_SEARCH_DATA"
_MADE_HERE = ("digits", "shapes")

_REMEDY = {
    "train": "add it",
    "val": "choose --validation realistic or labelled-cv",
    "test": "nothing can be evaluated on it: add one (test_images and test_labels, or a folder test/)",
}


@final
@dataclass(frozen=True)
class Source:
    """A dataset that was found. Arrays are read when asked for, one split at a time."""

    name: str
    """As in rows: the catalogue's name, or that of the file or folder; with `@SIDE` and `:GRID` if they were asked."""

    title: str
    class_names: tuple[str, ...]
    """Of a segmentation: what is marked."""

    channels: int
    side: int
    """Pixels, of whole pictures."""

    reader: Reader
    checksum: str | None
    """MD5 of the published data; None for a user's own."""

    grid: Grid | None = None
    """How a task cuts the images into patches; arrays here are of whole ones."""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def patches_per_image(self) -> int:
        """P; 1 where images stay whole."""
        return self.grid.num_patches if self.grid else 1

    @property
    def shots_in_all(self) -> bool:
        """Whether shots count labelled images in all, not of each class."""
        return isinstance(self.reader, CohortReader | MaskedReader)

    @property
    def val_share(self) -> float:
        """Of the train split, what each label set draws to validate; 0 where the data has a val split of its own."""
        return self.reader.val_share if isinstance(self.reader, CohortReader | MaskedReader) else 0.0

    @property
    def has_masks(self) -> bool:
        """Whether something is marked pixel by pixel."""
        return isinstance(self.reader, CohortReader | MaskedReader)

    @property
    def kind(self) -> Kind:
        """What is learned from it."""
        return "segmentation" if isinstance(self.reader, MaskedReader) else "classification"

    @cached_property
    def content_hash(self) -> str:
        """First 16 hex digits of the MD5 of the content."""
        return self.reader.digest()[:16]

    @cached_property
    def official(self) -> bool:
        """Whether the data is the published one, byte for byte; never true of a user's own."""
        return self.reader.digest() == self.checksum

    @property
    def splits(self) -> tuple[Split, ...]:
        """What is there, in the order train, val, test."""
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
        """Labels (N,) in 0..K-1; reads no image.

        Raises:
            DataError: no such split, a damaged file, labels outside 0..K-1, or not one per image.
        """
        num_images = self.check_images(split)
        labels_N = self.reader.labels(split).astype(np.int64)
        if len(labels_N) != num_images:
            raise DataError(f"dataset '{self.name}': {split} has {len(labels_N)} labels but {num_images} images: save")
        low, high = labels_N.min(), labels_N.max()
        if low < 0 or high >= self.num_classes:
            raise DataError(
                f"dataset '{self.name}': labels of {split} run from {low} to {high}; "
                f"expected 0..{self.num_classes - 1}: renumber them"
            )
        return labels_N

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, C, H, W), C-contiguous.

        Raises:
            DataError: no such split, a damaged file, or images of another form.
        """
        self.check_images(split)
        return self.reader.images(split)

    def masks(self, split: Split, chosen: Indices) -> NDArray[np.bool_] | None:
        """What is marked (N, H, W) in the chosen images in their order; None where nobody marked anything."""
        return self.reader.masks(split, chosen) if isinstance(self.reader, CohortReader | MaskedReader) else None

    def class_counts(self, split: Split) -> tuple[int, ...]:
        """Images of every class, in the order of `class_names`."""
        return tuple(np.bincount(self.labels(split), minlength=self.num_classes).tolist())

    def _require(self, split: Split) -> None:
        if split not in self.splits:
            raise DataError(f"dataset '{self.name}' has no {split} split; {_REMEDY[split]}")


def data_root(root: Path | None) -> Path:
    """The folder where files are looked for: the given one, else $SPARSE_SEARCH_DATA, else ~/.medmnist."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or "~/.medmnist").expanduser()


def available_sides(name: str, root: Path | None = None) -> tuple[int, ...]:
    """Sides of a catalogued dataset that can be read without a download, in pixels."""
    info, folder = CATALOG[name], data_root(root)
    if name in ("idrid", "idrid-disc"):
        return info.sides if idrid_is_there(folder) else ()
    return tuple(side for side in info.sides if name in _MADE_HERE or (folder / _file_name(info, side)).is_file())


def open_source(
    dataset: str, root: Path | None = None, tell: ProgressCallback | None = None, kind: Kind = "classification"
) -> Source:
    """Finds a dataset, fetching a missing MedMNIST file.

    Reads no image, but for pictures with masks: they are prepared the first time, in minutes, and kept.

    Args:
        dataset: Its name.
        root: Folder of the data files.
        tell: Told of every picture that was prepared.
        kind: What is to be learned from it.

    Raises:
        ConfigError: it has not what this kind of task needs.
        DataError: unknown name, a file that is missing and cannot be fetched, a damaged file, another layout, a grid
            that does not fit.
    """
    request = read_name(dataset)
    source = _whole(request, dataset, root, tell, kind)
    if request.grid is None:
        return source
    if kind == "segmentation":
        raise ConfigError(f"dataset '{dataset}': segmentation takes whole pictures; leave out :{request.grid}")
    check_grid(request.grid, source.side, dataset)
    return replace(source, name=f"{source.name}:{request.grid}", grid=request.grid)


def prepare(
    dataset: str, root: Path | None = None, tell: ProgressCallback | None = None, kind: Kind = "classification"
) -> None:
    """Does what takes minutes the first time a dataset is used, so that `open_source` takes seconds from then on.

    Args:
        dataset: Its name.
        root: Folder of the data files.
        tell: Told of every picture that was prepared; never when there is nothing to do.
        kind: What is to be learned from it.

    Raises:
        ConfigError, DataError: as `open_source`.
    """
    open_source(dataset, root, tell, kind)


def _whole(request: Request, dataset: str, root: Path | None, tell: ProgressCallback | None, kind: Kind) -> Source:
    name, side, _ = request
    if name in CATALOG:
        _check_kind(CATALOG[name], kind)
        return _catalogued(CATALOG[name], CATALOG[name].check_side(side), root, tell)
    path = _own_path(name, data_root(root))
    if path is None:
        raise DataError(f"dataset '{dataset}' is unknown{suggestion(name, CATALOG)} Your own: a .npz file or a folder")
    if kind == "segmentation":
        return _own_masks(path, side, tell)
    if not path.is_dir():
        return _own_npz(path, side)
    return _own_cohort(path, side, tell) if has_masks(path) else _own_folder(path, side)


def _check_kind(info: DatasetInfo, kind: Kind) -> None:
    if info.kind != kind:
        others = ", ".join(name for name, other in CATALOG.items() if other.kind == kind)
        needed = "masks of pictures" if kind == "segmentation" else "classes of images"
        raise ConfigError(
            f"dataset '{info.name}' has no {needed}, which {kind} needs; use one of {others}, or your own"
        )


def _catalogued(info: DatasetInfo, side: int, root: Path | None, tell: ProgressCallback | None) -> Source:
    suffix = "" if side == info.sides[0] else f"@{side}"
    reader: Reader = DigitsReader()
    if info.name == "idrid":
        reader = open_cohort(find_idrid(data_root(root)), side, tell)
    elif info.name == "idrid-disc":
        reader = open_optic_discs(data_root(root), side, tell)
    elif info.name == "shapes":
        reader = open_shapes(side)
    elif info.name != "digits":
        reader = open_npz(_medmnist_file(info, side, root), any_finding=info.any_finding)
    checksum = info.checksums.get(side)
    source = Source(info.name + suffix, info.title, info.class_names, info.channels, side, reader, checksum)
    source.check_images("train")
    return source


def _medmnist_file(info: DatasetInfo, side: int, root: Path | None) -> Path:
    folder = data_root(root)
    path = folder / _file_name(info, side)
    return path if path.is_file() else download(info, side, path)


def _file_name(info: DatasetInfo, side: int) -> str:
    return f"{info.name}.npz" if side == info.sides[0] else f"{info.name}_{side}.npz"


def _own_path(name: str, root: Path) -> Path | None:
    """The user's file or folder, or None when the name is no path.

    Raises:
        DataError: a path at which nothing lies.
    """
    given = Path(name).expanduser()
    found = next((path for path in (given, root / given) if path.exists()), None)
    looks_like_path = any(separator in name for separator in ("/", os.sep)) or given.suffix == ".npz"
    if not looks_like_path:
        return given if name and given.is_dir() else None
    if found is None or not (found.is_dir() or found.suffix == ".npz"):
        raise DataError(
            f"no data at '{name}' (nor below {root}); expected an existing .npz file or a folder of pictures"
        )
    return found


def _own_folder(path: Path, side: int | None) -> Source:
    path = path.resolve()
    reader = open_folder(path, side)
    name = path.name if side is None else f"{path.name}@{side}"
    return Source(name, path.name, reader.class_names, reader.channels, reader.side, reader, None)


def _own_cohort(path: Path, side: int | None, tell: ProgressCallback | None) -> Source:
    cohort = find_cohort(path.resolve())
    reader = open_cohort(cohort, side_of(cohort, side), tell)
    _, channels, made_side, _ = reader.image_shape("train")
    name = path.resolve().name if side is None else f"{path.resolve().name}@{side}"
    return Source(name, path.resolve().name, CLASS_NAMES, channels, made_side, reader, None)


def _own_masks(path: Path, side: int | None, tell: ProgressCallback | None) -> Source:
    reader = open_masked_folder(path.resolve(), side, tell)
    name = path.resolve().name if side is None else f"{path.resolve().name}@{side}"
    return Source(name, path.resolve().name, ("foreground",), reader.channels, reader.side, reader, None)


def _own_npz(path: Path, side: int | None) -> Source:
    if side is not None:
        raise DataError(f"{path} is an npz file and keeps the side of its images; leave out @{side}")
    reader = open_npz(path.resolve())
    num_images, channels, own_side, _ = reader.image_shape("train")
    class_names = _numbered_classes(reader.labels("train"), num_images, path)
    return Source(path.stem, path.stem, class_names, channels, own_side, reader, None)


def _numbered_classes(labels_N: NDArray[np.integer], num_images: int, path: Path) -> tuple[str, ...]:
    num_classes = int(labels_N.astype(np.int64).max(initial=-1)) + 1
    if not 2 <= num_classes <= num_images:
        raise DataError(
            f"train_labels of {path} go up to {num_classes - 1} in {num_images} images; "
            "expected classes 0..K-1, two or more, each with images: renumber them"
        )
    return tuple(str(label) for label in range(num_classes))
