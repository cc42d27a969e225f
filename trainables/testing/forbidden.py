"""Labels that nobody may look at."""

from dataclasses import replace
from typing import Any, final

from trainables.core.method import Labelled


@final
class Forbidden:
    """Stands where labels or masks are; to touch it is an error."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a learner read the validation labels")

    def __len__(self) -> int:
        raise AssertionError("a learner counted the validation labels")


def without_labels(images: Labelled) -> Labelled:
    """Return the images with labels and masks that raise `AssertionError` when they are touched."""
    sealed = replace(images)
    object.__setattr__(sealed, "labels_N", Forbidden())
    object.__setattr__(sealed, "masks_IHW", Forbidden())
    return sealed
