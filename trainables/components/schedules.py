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

    As torch's `ReduceLROnPlateau`, but patient for a share of the budget rather than for a number of epochs, which may
    be single steps, and without the optimiser that it would have to hold.

    Args:
        patience: Share of the budget behind the lowest loss, or behind the last fall, after which it falls.
        factor: By which it is multiplied then.
    """

    _MIN_PROGRESS = 1e-4
    """Share of the lowest loss by which a lower one must be lower; torch's."""

    def __init__(self, patience: float, factor: float) -> None:
        self._patience, self._factor = patience, factor
        self.scale = 1.0
        """Of the step size, as of the last loss."""
        self._lowest, self._since = inf, 0.0

    def update(self, loss: float, share: float) -> None:
        """Take in the next loss, 0 or more, with that share of the budget behind."""
        if loss < self._lowest * (1 - self._MIN_PROGRESS):
            self._lowest, self._since = loss, share
        elif share - self._since >= self._patience:
            self.scale, self._since = self.scale * self._factor, share

    def state_dict(self) -> dict[str, Any]:
        """The scale, the lowest loss, and where it was."""
        return {"scale": self.scale, "lowest": self._lowest, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.scale, self._lowest, self._since = state["scale"], state["lowest"], state["since"]
