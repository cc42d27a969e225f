"""Step sizes that follow the share of a budget that is behind, or the loss."""

from math import cos, inf, pi
from typing import Any


def linear_decay(share: float, start: float) -> float:
    """1 until the share `start` of the budget, from then on linearly to 0 at its end.

    Source: Lecouat et al., arXiv:1812.07832, 1000 of 1200 epochs; improved-gan's code, 800 of 1200.
    """
    return 1.0 if share <= start else (1 - share) / (1 - start)


def cosine_decay(share: float) -> float:
    """From 1 at the start of the budget to 0 at its end, half a cosine.

    Source: Loshchilov & Hutter, arXiv:1608.03983.
    """
    return (1 + cos(pi * share)) / 2


def poly_decay(share: float, power: float = 0.9) -> float:
    """(1 - share) to a power: from 1 at the start of the budget to 0 at its end. Source: Kato & Hotta's code."""
    return float((1 - share) ** power)


class Plateau:
    """A scale that falls whenever a loss has stopped falling.

    The same as torch's `ReduceLROnPlateau` with a patience of one epoch less, which counts those that it still
    forgives, and without the optimiser that it would have to hold.

    Args:
        patience: Losses in a row that are not lower than the lowest before, after which it falls.
        factor: By which it is multiplied then.
    """

    _MIN_PROGRESS = 1e-4
    """Share of the lowest loss by which a lower one must be lower; torch's."""

    def __init__(self, patience: int, factor: float) -> None:
        self._patience, self._factor = patience, factor
        self.scale = 1.0
        """Of the step size, as of the last loss."""
        self._lowest, self._num_bad = inf, 0

    def update(self, loss: float) -> None:
        """Take in the next loss, 0 or more."""
        if loss < self._lowest * (1 - self._MIN_PROGRESS):
            self._lowest, self._num_bad = loss, 0
            return
        self._num_bad += 1
        if self._num_bad == self._patience:
            self.scale, self._num_bad = self.scale * self._factor, 0

    def state_dict(self) -> dict[str, Any]:
        """The scale, the lowest loss, and the losses since."""
        return {"scale": self.scale, "lowest": self._lowest, "num_bad": self._num_bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.scale, self._lowest, self._num_bad = state["scale"], state["lowest"], state["num_bad"]
