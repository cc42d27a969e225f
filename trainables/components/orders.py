"""Endless passes over some items, each in a new random order.

Shapes: N items.
"""

from typing import Any

import torch
from torch import Tensor


def fair_order(labels_N: Tensor) -> "InfiniteSampler":
    """Passes over labelled images in which every class has the same chance; plain ones where all have as many."""
    counts = labels_N.bincount()
    known = counts[counts > 0]
    return InfiniteSampler(len(labels_N), labels_N if bool((known != known[0]).any()) else None)


class InfiniteSampler:
    """Indices of items, as many as are asked for: every item once before any comes again.

    Passes need not end where an epoch or a batch does, and a batch may be larger than there are items. Draws from
    torch's global CPU generator at the start of a pass; its state is the order of this pass.

    Args:
        num_items: N, at least 1.
        classes_N: where given, a pass is N draws with replacement in which every class has the same chance.
    """

    def __init__(self, num_items: int, classes_N: Tensor | None = None) -> None:
        self._num_items = num_items
        self._chances_N = None if classes_N is None else 1.0 / classes_N.bincount()[classes_N]
        self._order_N, self._position = torch.empty(0, dtype=torch.long), 0

    def take(self, count: int) -> Tensor:
        """The next indices (count,), on the CPU; none, and nothing drawn, where none are asked for."""
        parts = [self._order_N[:0]]
        while count > 0:
            if self._position == len(self._order_N):
                self._order_N, self._position = self._draw(), 0
            parts.append(self._order_N[self._position : self._position + count])
            self._position += len(parts[-1])
            count -= len(parts[-1])
        return torch.cat(parts)

    def _draw(self) -> Tensor:
        if self._chances_N is None:
            return torch.randperm(self._num_items)
        return torch.multinomial(self._chances_N, self._num_items, replacement=True)

    def state_dict(self) -> dict[str, Any]:
        """The order of this pass and how much of it is taken."""
        return {"order": self._order_N, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._order_N, self._position = state["order"], state["position"]
