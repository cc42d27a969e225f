"""Few-shot tasks and test sets as tensors.

`few_shot_task` never opens the test split; `test_set` is the only function that does, so selection cannot see
it by accident. In the same way only `hidden_labels` gives out the labels of unlabelled images.

In a segmentation the masks are the labels, with the same secrets.

With a grid the images of a task are patches: splits are made before, of whole pictures, and all counts of shots and
labels are those of pictures.

Shapes: N images, M unlabelled images, I pictures, C channels, H W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.core.conditions import Conditions, Validation
from trainables.core.kind import Kind
from trainables.core.method import Labelled, Provenance, Task
from trainables.core.withheld import refuse_to_learners
from trainables.data.draw import FewShotDraw, draw_few_shot, draw_final
from trainables.data.partition import UNLABELLED, Indices, Split
from trainables.data.patches import cut, inherited_labels, marked_patches
from trainables.data.source import Source, open_source


def few_shot_task(
    dataset: str,
    shots: int,
    label_set: int,
    validation: Validation = "realistic",
    root: Path | None = None,
    fold: int = 0,
    kind: Kind = "classification",
    folds: int = Conditions.folds,
) -> Task:
    """Draw a task; the same arguments always give the same one.

    Args:
        dataset: Catalogue name or a path, optionally `@SIDE` and `:ROWSxCOLUMNS[+OVERLAP]`.
        shots: Labelled images per class; of pictures with lesion masks, in all.
        label_set: Number of the draw.
        validation: Where the validation images come from.
        root: Folder of the data files; default $SPARSE_SEARCH_DATA, else ~/.medmnist.
        fold: The part of the labelled images that validates, in `labelled-cv`; 0 in the other modes.
        kind: Kind of task to be learned.
        folds: Most parts of the labelled images, in `labelled-cv`.

    Raises:
        ConfigError: a dataset that has not what this kind of task needs.
        DataError: a dataset that cannot be used as asked.
    """
    draw = draw_few_shot(dataset, shots, label_set, validation, root, fold, kind, folds)
    return _task(draw, kind, _provenance(draw, shots, label_set, validation, fold))


def final_task(
    dataset: str,
    shots: int,
    label_set: int,
    validation: Validation = "realistic",
    root: Path | None = None,
    kind: Kind = "classification",
    folds: int = Conditions.folds,
) -> Task:
    """Draw the task that a model for use is trained on: no fold of the labelled images is held out.

    With `labelled-cv` they are the validation images too, whose scores tell nothing then. Arguments and exceptions are
    those of `few_shot_task`.
    """
    draw = draw_final(dataset, shots, label_set, validation, root, kind, folds)
    return _task(draw, kind, _provenance(draw, shots, label_set, validation, fold=0))


def _task(draw: FewShotDraw, kind: Kind, provenance: Provenance) -> Task:
    source, split = draw
    images_NCHW = source.images("train")
    few = _labelled(source, "train", split.labelled_indices, images_NCHW, with_masks=kind == "segmentation")
    unlabelled_NCHW = _images(source, images_NCHW, split.unlabelled_indices)
    if split.validation_from == "val":
        images_NCHW = source.images("val")
    scored = _labelled(source, split.validation_from, split.validation_indices, images_NCHW, with_masks=True)
    return Task(
        dataset=source.name,
        kind=kind,
        num_classes=source.num_classes if kind == "classification" else source.num_classes + 1,
        channels=source.channels,
        labelled=few,
        unlabelled_NCHW=unlabelled_NCHW,
        validation=scored,
        asymmetric=source.asymmetric,
        provenance=provenance,
    )


def hidden_labels(
    dataset: str,
    shots: int,
    label_set: int,
    validation: Validation = "realistic",
    root: Path | None = None,
    fold: int = 0,
    kind: Kind = "classification",
    folds: int = Conditions.folds,
) -> Tensor | None:
    """The labels (M,), int64, of the unlabelled images of the task with the same arguments, in its order.

    -1 where nobody has labelled an image. None in a segmentation, of which no such diagnosis is made.

    For diagnosis only, as of how many pseudo-labels are right: a task does not hold them, so no method can learn
    from them.

    Raises:
        ConfigError: a learner asks.
        DataError: a dataset that cannot be used as asked.
    """
    refuse_to_learners("labels of unlabelled images", "they are for diagnosis only")
    if kind == "segmentation":
        return None
    source, split = draw_few_shot(dataset, shots, label_set, validation, root, fold, folds=folds)
    masks_IHW = source.masks("train", split.unlabelled_indices) if source.grid else None
    return torch.from_numpy(_labels(source, "train", split.unlabelled_indices, masks_IHW))


def test_set(dataset: str, root: Path | None = None, kind: Kind = "classification") -> Labelled:  # noqa: PT028
    """The whole test split, in the order of the file.

    Raises:
        ConfigError: a learner asks.
        DataError: a dataset that cannot be read, or one without a test split.
    """
    source = open_source(dataset, root, kind=kind)
    images_NCHW = source.images("test")
    return _labelled(source, "test", np.arange(len(images_NCHW)), images_NCHW, with_masks=True)


def _labelled(
    source: Source, split: Split, chosen: Indices, images_NCHW: NDArray[np.uint8], *, with_masks: bool = False
) -> Labelled:
    """The chosen images of a split, or their patches; masks are read where they are needed."""
    masks_IHW = source.masks(split, chosen) if with_masks or source.grid else None
    labels_N = torch.from_numpy(_labels(source, split, chosen, masks_IHW))
    told = torch.from_numpy(masks_IHW) if with_masks and masks_IHW is not None else None
    groups_N = source.groups(split)
    return Labelled(
        _images(source, images_NCHW, chosen),
        labels_N,
        source.grid,
        told,
        indices_I=torch.from_numpy(chosen),
        groups_I=None if groups_N is None else torch.from_numpy(groups_N[chosen]),
    )


def _images(source: Source, images_NCHW: NDArray[np.uint8], chosen: Indices) -> Tensor:
    """The chosen images, or their patches; nothing else is read from an array that is mapped from a file."""
    return torch.from_numpy(cut(images_NCHW, source.grid, chosen) if source.grid else _taken(images_NCHW, chosen))


def _taken(images_NCHW: NDArray[np.uint8], chosen: Indices) -> NDArray[np.uint8]:
    """The chosen images: a copy, but of a run of images in a mapping of one's own, as of a large pool, these pages."""
    is_run = len(chosen) > 0 and chosen[-1] - chosen[0] + 1 == len(chosen)
    if is_run and isinstance(images_NCHW, np.memmap) and images_NCHW.flags.writeable:
        return np.asarray(images_NCHW[chosen[0] : chosen[-1] + 1])
    return images_NCHW[chosen]


def _labels(source: Source, split: Split, chosen: Indices, masks_IHW: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Labels of the chosen images, or of their patches: from the masks where there are some."""
    if source.grid is None:
        return source.labels(split)[chosen]
    if masks_IHW is None:
        return inherited_labels(source.labels(split)[chosen], source.grid)
    labels_N = marked_patches(masks_IHW, source.grid)
    labels_N[inherited_labels(source.labels(split)[chosen], source.grid) == UNLABELLED] = UNLABELLED
    return labels_N


def _provenance(draw: FewShotDraw, shots: int, label_set: int, validation: Validation, fold: int) -> Provenance:
    return Provenance(
        content_hash=draw.source.content_hash,
        official=draw.source.official,
        shots=shots,
        label_set=label_set,
        fold=fold,
        validation=validation,
        label_set_hash=draw.split.label_set_hash,
        label_budget=draw.split.label_budget,
        shots_in_all=draw.source.shots_in_all,
        patch_labels=("masks" if draw.source.has_masks else "inherited") if draw.source.grid else "",
    )
