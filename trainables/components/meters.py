"""Means over an epoch, with one wait for the device at its end."""

import torch
from torch import Tensor


class Means:
    """Weighted means of named scalars, summed where they are."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, weight: float, **values: Tensor) -> None:
        """Take in scalars (no gradient is kept) of a batch of that weight."""
        for name, value in values.items():
            term = value.detach().float() * weight
            self._sums[name] = self._sums[name] + term if name in self._sums else term
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def read(self) -> dict[str, float]:
        """The means as plain numbers; the only step that waits for the device."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        return {name: total / self._weights[name] for name, total in zip(self._sums, sums, strict=True)}
