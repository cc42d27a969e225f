"""Requests for splits that cannot be met, refused in one line each.

Shapes: N images, K classes.
"""

from collections.abc import Sequence

import numpy as np

from search_spaces.core.errors import DataError, suggestion
from trainables.core.conditions import VALIDATION_MODES
from trainables.core.shots import ALL_SHOTS, shots_word
from trainables.data.partition import Indices, Labels


def check_validation(validation: str) -> None:
    """Refuse an unknown validation mode.

    Raises:
        DataError: it is unknown.
    """
    if validation not in VALIDATION_MODES:
        raise DataError(f"validation mode '{validation}' is unknown{suggestion(validation, VALIDATION_MODES)}")


def check_asked(shots: int, validation: str, num_validation: int | None) -> None:
    """Refuse shots and a validation mode that do not go together.

    Raises:
        DataError: they do not.
    """
    check_validation(validation)
    if shots == ALL_SHOTS and validation == "realistic":
        raise DataError("realistic validation needs labelled images beside all: choose labelled-cv or official")
    if shots < ALL_SHOTS:
        raise DataError(f"shots is {shots}; expected at least 1 labelled image per class: raise --shots")
    if validation == "labelled-cv" and shots == 1:
        raise DataError("shots is 1, but labelled-cv holds labelled images out: raise --shots to 2 or use realistic")
    if validation == "official" and not num_validation:
        raise DataError("official validation needs a val split with images: choose --validation realistic")


def check_fold(fold: int, num_parts: int, shots: int, validation: str) -> None:
    """Refuse the number of a fold that is not there.

    Raises:
        DataError: it is not.
    """
    if shots == ALL_SHOTS and validation == "labelled-cv" and fold >= num_parts:
        raise DataError(
            f"fold {fold} is not there: the rarest class has images, or groups, for {num_parts} folds: "
            f"set folds to {num_parts}"
        )
    if not 0 <= fold < num_parts:
        number = shots_word(shots)
        raise DataError(f"fold is {fold}; expected 0..{num_parts - 1} with {number} shots and {validation} validation")


def check_counts(counts_K: Indices, shots: int, validation: str, class_names: Sequence[str] | None) -> None:
    """Refuse shots of which a class has too few labelled images; `counts_K`: how many it has.

    Raises:
        DataError: a class has.
    """
    realistic = validation == "realistic"
    smallest = int(counts_K.argmin())
    count, needed = int(counts_K[smallest]), 2 * shots if realistic else shots
    name = f" ('{class_names[smallest]}')" if class_names else ""
    if shots == ALL_SHOTS:
        _check_all(count, f"class {smallest}{name}", validation)
    elif count < needed:
        _refuse_count(count, f"class {smallest}{name}", shots, validation)


def check_drawn(labels_N: Labels, train: Indices, val: Indices | None, shots: int, class_names: Sequence[str]) -> None:
    """Refuse shots in all that a part is too small for; `val` is None where the labelled pictures validate.

    Raises:
        DataError: a part is.
    """
    num_classes = len(class_names)
    if shots != ALL_SHOTS and not num_classes <= shots <= len(train):
        raise DataError(
            f"shots is {shots}; this dataset counts labelled pictures in all and has {len(train)} to train on: "
            f"expected {num_classes}..{len(train)}"
        )
    if val is None:
        counts_K = np.bincount(labels_N[train], minlength=num_classes)
        _check_all(int(counts_K.min()), f"class '{class_names[int(counts_K.argmin())]}'", "labelled-cv")
    for where, part in (("train on", train), ("validate with", train if val is None else val)):
        counts_K = np.bincount(labels_N[part], minlength=num_classes)
        if not counts_K.all():
            name = class_names[int(counts_K.argmin())]
            raise DataError(f"class '{name}' has no picture left to {where}: add pictures of it")


def _check_all(count: int, name: str, validation: str) -> None:
    least = 2 if validation == "labelled-cv" else 1
    if count < least:
        raise DataError(
            f"{name} has {count} labelled training images; expected at least {least} with {validation} validation: "
            "label one more, merge classes, or leave the class out"
        )


def _refuse_count(count: int, name: str, shots: int, validation: str) -> None:
    realistic = validation == "realistic"
    wanted = f"{shots} labelled + {shots} validation images" if realistic else f"{shots} labelled images"
    most, least = (count // 2 if realistic else count), (2 if validation == "labelled-cv" else 1)
    remedy = f"lower --shots to at most {most}" if most >= least else "add images of this class or leave it out"
    raise DataError(f"{name} has {count} training images, but {wanted} are asked for: {remedy}")
