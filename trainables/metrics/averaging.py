"""Means of what several configurations say of the same images. Loads without torch."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def weighted_mean(each: Iterable[NDArray[np.float64]], weights: Iterable[float]) -> NDArray[np.float64]:
    """Return the sum of arrays times weights that add up to 1.

    They are added one after the other, in the order given, so that the same members give the same digits wherever they
    are averaged; one member of weight 1 is itself.

    Raises:
        ValueError: no member, or other numbers of arrays and weights.
    """
    terms = [weight * array for array, weight in zip(each, weights, strict=True)]
    if not terms:
        raise ValueError("an average needs a member")
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
