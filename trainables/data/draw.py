"""A dataset and a few-shot split of it, without torch and without an image: cheap enough to check a sweep."""

from pathlib import Path
from typing import NamedTuple

from trainables.core.kind import Kind
from trainables.data.source import Source, open_source
from trainables.data.splits import FewShotSplit, check_validation, drawn_split, few_shot_split


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
) -> FewShotDraw:
    """Open a dataset and draw from its training labels, but read no image.

    Raises:
        ConfigError: a dataset that has not what this kind of task needs.
        DataError: a dataset that cannot be used as asked.
    """
    check_validation(validation)
    source = open_source(dataset, root, kind=kind)
    return FewShotDraw(source, _drawn(source, shots, label_set, validation, fold))


def _drawn(source: Source, shots: int, label_set: int, validation: str, fold: int) -> FewShotSplit:
    if source.shots_in_all:
        return drawn_split(
            source.labels("train"),
            shots=shots,
            label_set=label_set,
            content_hash=source.content_hash,
            validation=validation,
            val_share=source.val_share,
            fold=fold,
            class_names=source.class_names,
        )
    return few_shot_split(
        source.labels("train"),
        num_classes=source.num_classes,
        shots=shots,
        label_set=label_set,
        content_hash=source.content_hash,
        validation=validation,
        fold=fold,
        num_validation=len(source.labels("val")) if validation == "official" else None,
        class_names=source.class_names,
    )
