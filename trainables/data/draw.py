"""A dataset and a few-shot split of it, without torch: cheap enough to check a sweep.

Pictures that are there more than once are drawn once: see `duplicates`, which looks at each picture a single time.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from search_spaces.core.errors import DataError
from trainables.core.conditions import Conditions
from trainables.core.kind import Kind
from trainables.core.shots import ALL_SHOTS
from trainables.data.partition import Indices, Labels
from trainables.data.source import Source, open_source
from trainables.data.split_checks import check_validation
from trainables.data.splits import (
    FewShotSplit,
    drawn_split,
    few_shot_split,
    whole_split,
    without_fold,
)


class FewShotDraw(NamedTuple):
    """Dataset, and the parts that its images play."""

    source: Source
    split: FewShotSplit


def draw_few_shot(
    dataset: str,
    shots: int,
    label_set: int,
    validation: str = "realistic",
    root: Path | None = None,
    fold: int = 0,
    kind: Kind = "classification",
    folds: int = Conditions.folds,
) -> FewShotDraw:
    """Open a dataset and draw from its training labels.

    Raises:
        ConfigError: a dataset that has not what this kind of task needs.
        DataError: a dataset that cannot be used as asked.
    """
    check_validation(validation)
    source = open_source(dataset, root, kind=kind)
    return FewShotDraw(source, _drawn(source, shots, label_set, validation, fold, folds))


def draw_final(
    dataset: str, shots: int, label_set: int, validation: str, root: Path | None, kind: Kind, folds: int
) -> FewShotDraw:
    """Open a dataset and draw what a model for use is trained on: as `draw_few_shot`, but that no fold is held out.

    With `labelled-cv` the labelled images validate as well, so that their scores tell nothing.

    Raises:
        ConfigError, DataError: as `draw_few_shot`.
    """
    check_validation(validation)
    source = open_source(dataset, root, kind=kind)
    if shots == ALL_SHOTS and validation == "labelled-cv":
        return FewShotDraw(source, whole_split(source.labels("train"), source.roles()))
    split = _drawn(source, shots, label_set, validation, 0, folds)
    if validation != "labelled-cv":
        return FewShotDraw(source, split)
    return FewShotDraw(source, without_fold(split, _pool_of_all_folds(source, split, shots, label_set, folds)))


def _pool_of_all_folds(source: Source, split: FewShotSplit, shots: int, label_set: int, folds: int) -> Indices:
    """What may be unlabelled where no fold is held out: a group that the first one holds out is there in the second."""
    if not source.shots_in_all:
        return np.flatnonzero(source.roles().present_N)
    other = _drawn(source, shots, label_set, "labelled-cv", 1, folds)
    return np.union1d(split.unlabelled_indices, other.unlabelled_indices)


def _drawn(source: Source, shots: int, label_set: int, validation: str, fold: int, folds: int) -> FewShotSplit:
    labels_N = source.labels("train")
    if source.shots_in_all:
        return drawn_split(
            labels_N,
            shots=shots,
            label_set=label_set,
            content_hash=source.content_hash,
            validation=validation,
            val_share=source.val_share,
            fold=fold,
            folds=folds,
            class_names=source.class_names,
            roles=source.roles(),
            groups=source.groups("train"),
        )
    with_val = validation == "official"
    val_labels = source.labels("val") if with_val else None
    split = few_shot_split(
        labels_N,
        num_classes=source.num_classes,
        shots=shots,
        label_set=label_set,
        content_hash=source.content_hash,
        validation=validation,
        fold=fold,
        folds=folds,
        num_validation=None if val_labels is None else len(val_labels),
        class_names=source.class_names,
        roles=source.roles(with_val=with_val),
        groups=source.groups("train"),
    )
    if val_labels is not None:
        _check_val(source, val_labels[split.validation_indices])
    return split


def _check_val(source: Source, labels_V: Labels) -> None:
    """Refuse a val split in which a class is missing: some scores have no value there, and others flatter."""
    counts_K = np.bincount(labels_V, minlength=source.num_classes)
    if not counts_K.all():
        name = source.class_names[int(counts_K.argmin())]
        raise DataError(
            f"dataset '{source.name}': val has no image of class '{name}' to validate with; expected some of every "
            "class: add some, or choose --validation realistic or labelled-cv"
        )
