"""Description of a dataset before anything is learned from it: classes, labels, splits, and what plays no role.

Shapes: K classes, S splits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from search_spaces.core.errors import DataError
from trainables.core.kind import Kind
from trainables.core.shots import ALL_SHOTS
from trainables.data.catalog import CATALOG
from trainables.data.draw import draw_few_shot
from trainables.data.names import read_name
from trainables.data.partition import UNLABELLED, Split
from trainables.data.source import Source, data_root, open_source, own_path
from trainables.data.storages import storage_of
from trainables.data.summary import left_out


@dataclass(frozen=True, kw_only=True)
class Description:
    """Facts about a dataset that was read."""

    name: str
    kind: Kind
    channels: int
    side: int
    """Side of the images, in pixels."""

    content_hash: str
    class_names: tuple[str, ...]
    """K; of a segmentation, what is marked."""

    sizes: dict[Split, int]
    """Labelled images of each split, all of test; of a segmentation, pictures with masks."""

    class_counts: dict[Split, tuple[int, ...]]
    """Labelled images (K,) of train and val, as nobody counts the classes of a test set; empty in a segmentation."""

    num_unlabelled: int
    """Images that nobody has labelled."""

    group_counts: dict[Split, int]
    """Groups with labelled images in each split; empty where none are known."""

    num_folds: int | None
    """Parts in which all labelled images validate in turn by `labelled-cv`; None where they cannot."""

    notes: tuple[str, ...]
    """Words about what was passed over, is there twice, or has two labels."""


def kinds_of(dataset: str, root: Path | None = None) -> tuple[Kind, ...]:
    """Kinds of tasks that can be learned from a dataset as it is stored: of pictures with masks both."""
    request = read_name(dataset)
    if request.name in CATALOG:
        return (CATALOG[request.name].kind,)
    path = own_path(request.name, data_root(root))
    found: list[Kind] = [kind for kind in get_args(Kind) if path and storage_of(path, kind)]
    return tuple(found) or ("classification",)


def describe(dataset: str, root: Path | None = None, kind: Kind | None = None) -> Description:
    """Read a dataset and compare all of its pictures.

    Args:
        dataset: Its name, or a path.
        root: Folder of the data files; default $SPARSE_SEARCH_DATA, else ~/.medmnist.
        kind: Kind of task; the first that it can be used for.

    Raises:
        DataError: it cannot be used.
    """
    source = open_source(dataset, root, kind=kind or kinds_of(dataset, root)[0])
    of_classes = source.kind == "classification"
    counted = [split for split in source.splits if of_classes and split != "test"]
    num_folds, problem = _folds(dataset, root, source)
    return Description(
        name=source.name,
        kind=source.kind,
        channels=source.channels,
        side=source.side,
        content_hash=source.content_hash,
        class_names=source.class_names,
        sizes={split: _size(source, split) for split in source.splits},
        class_counts={split: source.class_counts(split) for split in counted},
        num_unlabelled=int((source.labels("train") == UNLABELLED).sum()),
        group_counts={split: len(groups) for split in source.splits if (groups := _labelled_groups(source, split))},
        num_folds=num_folds,
        notes=(*left_out(source.name, source.reader), *problem),
    )


def _size(source: Source, split: Split) -> int:
    if split == "test" and source.kind == "classification":
        return source.reader.image_shape(split)[0]
    return int((source.labels(split) != UNLABELLED).sum())


def _labelled_groups(source: Source, split: Split) -> set[int]:
    groups_N = source.groups(split)
    return set() if groups_N is None else set(groups_N[source.labels(split) != UNLABELLED].tolist())


def _folds(dataset: str, root: Path | None, source: Source) -> tuple[int | None, tuple[str, ...]]:
    """Number of folds with all labels in use; None, and words, where these are too few."""
    try:
        return draw_few_shot(dataset, ALL_SHOTS, 0, "labelled-cv", root, kind=source.kind).split.num_folds, ()
    except DataError as problem:
        return None, (f"all labels cannot be used with labelled-cv: {problem}",)
