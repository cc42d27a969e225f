"""Which images are labelled, which validate and which stay unlabelled: pure functions of labels.

Every class has one random order of its training images, fixed by (content hash, label set). Labelled images
come from its beginning, so 5 shots lie inside 10 and methods are paired; `realistic` validation images come
from its end.

Shapes: N training images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

import numpy as np

from search_spaces.core.errors import DataError, suggestion
from trainables.data.partition import Indices, Labels, shuffled_class

ValidationMode = Literal["realistic", "labelled-cv", "official"]
VALIDATION_MODES: tuple[ValidationMode, ...] = get_args(ValidationMode)

_MAX_FOLDS = 5


@dataclass(frozen=True)
class FewShotSplit:
    """Ascending indices into the train split, but for validation images that come from the val split."""

    labelled_indices: Indices
    unlabelled_indices: Indices
    validation_indices: Indices
    validation_from: Literal["train", "val"]
    label_set_hash: str
    """12 hex digits, of the labelled and the validating indices."""

    label_budget: int
    """Labels that the whole procedure looks at; with `labelled-cv` all folds look at the same."""


def num_folds(shots: int) -> int:
    """Folds of `labelled-cv`: five, or one per shot when there are fewer."""
    return min(_MAX_FOLDS, shots)


def few_shot_split(
    train_labels: Labels,
    *,
    num_classes: int,
    shots: int,
    label_set: int,
    content_hash: str,
    validation: str,
    fold: int = 0,
    num_validation: int | None = None,
    class_names: Sequence[str] | None = None,
) -> FewShotSplit:
    """Draws a few-shot problem; the same arguments always give the same one.

    Args:
        train_labels: (N,), in 0..K-1.
        num_classes: K.
        shots: Labelled images per class.
        label_set: Number of the draw.
        content_hash: Of the data, so that two datasets of one size are not drawn alike.
        validation: One of `VALIDATION_MODES`.
        fold: The part of the labelled images that validates, in `labelled-cv`; 0 in the other modes.
        num_validation: Size of the val split; needed for `official` only.
        class_names: Used in messages.

    Raises:
        DataError: unknown mode, shots or fold out of range, or a class with too few images.
    """
    _check_request(shots, validation, fold, num_validation)
    _check_counts(np.bincount(train_labels, minlength=num_classes), shots, validation, class_names)
    orders = [shuffled_class(train_labels, label, content_hash, label_set) for label in range(num_classes)]
    drawn = _sorted([order[:shots] for order in orders])
    labelled, chosen = drawn, np.arange(num_validation or 0)
    if validation == "realistic":
        chosen = _sorted([order[-shots:] for order in orders])
    elif validation == "labelled-cv":
        chosen = _sorted([order[:shots][fold :: num_folds(shots)] for order in orders])
        labelled = np.setdiff1d(drawn, chosen)
    origin: Literal["train", "val"] = "val" if validation == "official" else "train"
    looked_at = drawn if origin == "val" else np.union1d(drawn, chosen)
    return FewShotSplit(
        labelled_indices=labelled,
        unlabelled_indices=np.setdiff1d(np.arange(len(train_labels)), looked_at),
        validation_indices=chosen,
        validation_from=origin,
        label_set_hash=_hash(labelled, chosen, origin),
        label_budget=len(looked_at) + (len(chosen) if origin == "val" else 0),
    )


def check_validation(validation: str) -> None:
    """Refuses an unknown validation mode.

    Raises:
        DataError: it is unknown.
    """
    if validation not in VALIDATION_MODES:
        raise DataError(f"validation mode '{validation}' is unknown{suggestion(validation, VALIDATION_MODES)}")


def _check_request(shots: int, validation: str, fold: int, num_validation: int | None) -> None:
    check_validation(validation)
    folds = num_folds(shots) if validation == "labelled-cv" else 1
    if shots < 1:
        raise DataError(f"shots is {shots}; expected at least 1 labelled image per class: raise --shots")
    if validation == "labelled-cv" and shots < 2:
        raise DataError("shots is 1, but labelled-cv holds labelled images out: raise --shots to 2 or use realistic")
    if not 0 <= fold < folds:
        raise DataError(f"fold is {fold}; expected 0..{folds - 1} with {shots} shots and {validation} validation")
    if validation == "official" and not num_validation:
        raise DataError("official validation needs a val split with images: choose --validation realistic")


def _check_counts(counts_K: Indices, shots: int, validation: str, class_names: Sequence[str] | None) -> None:
    realistic = validation == "realistic"
    smallest = int(counts_K.argmin())
    count, needed = int(counts_K[smallest]), 2 * shots if realistic else shots
    if count >= needed:
        return
    name = f" ('{class_names[smallest]}')" if class_names else ""
    wanted = f"{shots} labelled + {shots} validation images" if realistic else f"{shots} labelled images"
    most, least = (count // 2 if realistic else count), (2 if validation == "labelled-cv" else 1)
    remedy = f"lower --shots to at most {most}" if most >= least else "add images of this class or leave it out"
    raise DataError(f"class {smallest}{name} has {count} training images, but {wanted} are asked for: {remedy}")


def _sorted(parts: Sequence[Indices]) -> Indices:
    return np.sort(np.concatenate(parts))


def _hash(labelled: Indices, validation: Indices, origin: str) -> str:
    text = "|".join([",".join(map(str, labelled.tolist())), origin, ",".join(map(str, validation.tolist()))])
    return sha256(text.encode()).hexdigest()[:12]
