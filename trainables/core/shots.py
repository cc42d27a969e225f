"""Number of labelled images as it is written: `5`, or `all` where every labelled image of train teaches."""

from collections.abc import Iterable
from typing import Final

ALL_SHOTS: Final = 0
"""Number that stands for all labelled images, in rows and folders too."""

WORD: Final = "all"


def read_shots(given: str) -> int:
    """Return the number that was written, or `ALL_SHOTS`.

    Raises:
        ValueError: it is neither.
    """
    if given == WORD:
        return ALL_SHOTS
    if (shots := int(given)) < 1:
        raise ValueError(f"{given} is no number of labelled images: expected one from 1, or {WORD}")
    return shots


def told_at_start(shots: Iterable[int], validation: str) -> str:
    """Return one line about what validates where all labels are in use; empty where some are not."""
    if ALL_SHOTS not in shots or validation != "labelled-cv":
        return ""
    return "all labels are in use: scores are of cross-validation among them (labelled-cv), as nothing else validates"


def shots_word(shots: int) -> int | str:
    """Return what stands for a number of shots in a file for people: itself, or `all`."""
    return WORD if shots == ALL_SHOTS else shots


def shots_title(shots: int) -> str:
    """Return how many images of a class are labelled, in words: `5 shots`, or `all labels`."""
    return "all labels" if shots == ALL_SHOTS else f"{shots} shots"
