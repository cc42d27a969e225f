"""Few-shot tasks and test sets as tensors.

`few_shot_task` never opens the test split; `test_set` is the only function that does, so selection cannot see
it by accident. In the same way only `hidden_labels` gives out the labels of unlabelled images.

Shapes: M unlabelled images.
"""

from pathlib import Path

import torch
from torch import Tensor

from trainables.core.method import Labelled, Provenance, Task, Validation
from trainables.data.draw import Draw, check_few_shot, draw_few_shot
from trainables.data.source import open_source

__all__ = ["check_few_shot", "few_shot_task", "hidden_labels", "test_set"]


def few_shot_task(
    dataset: str,
    shots: int,
    label_set: int,
    validation: Validation = "realistic",
    root: Path | None = None,
    fold: int = 0,
) -> Task:
    """Draws a task; the same arguments always give the same one.

    Args:
        dataset: Catalogue name, optionally `@SIDE`, or a path.
        shots: Labelled images per class.
        label_set: Number of the draw.
        validation: Where the validation images come from.
        root: Folder of the data files; default $SPARSE_SEARCH_DATA, else ~/.medmnist.
        fold: The part of the labelled images that validates, in `labelled-cv`; 0 in the other modes.

    Raises:
        DataError: a dataset that cannot be used as asked.
    """
    source, split = draw = draw_few_shot(dataset, shots, label_set, validation, root, fold)
    images_NCHW, labels_N = source.images("train"), source.labels("train")
    labelled, unlabelled, chosen = split.labelled_indices, split.unlabelled_indices, split.validation_indices
    unlabelled_NCHW = torch.from_numpy(images_NCHW[unlabelled])
    few = Labelled(torch.from_numpy(images_NCHW[labelled]), torch.from_numpy(labels_N[labelled]))
    if split.validation_from == "val":
        images_NCHW, labels_N = source.images("val"), source.labels("val")
    scored = Labelled(torch.from_numpy(images_NCHW[chosen]), torch.from_numpy(labels_N[chosen]))
    return Task(
        dataset=source.name,
        kind="classification",
        num_classes=source.num_classes,
        channels=source.channels,
        labelled=few,
        unlabelled_NCHW=unlabelled_NCHW,
        validation=scored,
        provenance=_provenance(draw, shots, label_set, validation, fold),
    )


def hidden_labels(
    dataset: str,
    shots: int,
    label_set: int,
    validation: Validation = "realistic",
    root: Path | None = None,
    fold: int = 0,
) -> Tensor:
    """The labels (M,), int64, of the unlabelled images of the task with the same arguments, in its order.

    For diagnosis only, as of how many pseudo-labels are right: a task does not hold them, so no method can learn
    from them.

    Raises:
        DataError: a dataset that cannot be used as asked.
    """
    source, split = draw_few_shot(dataset, shots, label_set, validation, root, fold)
    return torch.from_numpy(source.labels("train")[split.unlabelled_indices])


def test_set(dataset: str, root: Path | None = None) -> Labelled:  # noqa: PT028 -- no test, a test set
    """The whole test split, in the order of the file.

    Raises:
        DataError: a dataset that cannot be read, or one without a test split.
    """
    source = open_source(dataset, root)
    return Labelled(torch.from_numpy(source.images("test")), torch.from_numpy(source.labels("test")))


def _provenance(draw: Draw, shots: int, label_set: int, validation: Validation, fold: int) -> Provenance:
    return Provenance(
        content_hash=draw.source.content_hash,
        official=draw.source.official,
        shots=shots,
        label_set=label_set,
        fold=fold,
        validation=validation,
        label_set_hash=draw.split.label_set_hash,
        label_budget=draw.split.label_budget,
    )
