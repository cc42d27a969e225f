"""An exponential moving average of a network's weights, over a share of the budget."""

from copy import deepcopy
from math import exp
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """A copy of a network whose weights follow the original's: θ̄ ← d · θ̄ + (1 - d) · θ.

    d is at most (1 + t) / (10 + t) after t updates, so that the first weights are soon forgotten however short training
    is, and at most exp(-s / τ), where s is the share of the budget since the last update: a time constant τ that means
    the same at every budget. Buffers of numbers, such as BatchNorm's statistics, are averaged too, counts copied.

    Args:
        time_constant: τ, above 0.

    Sources: Polyak & Juditsky (1992); the warm-up is TensorFlow's.
    """

    def __init__(self, network: nn.Module, time_constant: float) -> None:
        self.network = deepcopy(network).requires_grad_(False)
        self._followed, self._time_constant = network, time_constant
        self._updates, self._share = 0, 0.0

    @torch.no_grad()
    def update(self, share: float) -> None:
        """Take in the weights as they are now, with that share of the budget behind."""
        passed = max(0.0, share - self._share)  # less than nothing where another round begins
        decay = min(exp(-passed / self._time_constant), (1 + self._updates) / (10 + self._updates))
        self._updates, self._share = self._updates + 1, share
        torch._foreach_lerp_(list(self.network.parameters()), list(self._followed.parameters()), 1 - decay)
        for own, followed in zip(self.network.buffers(), self._followed.buffers(), strict=True):
            if own.is_floating_point():
                own.lerp_(followed, 1 - decay)
            else:
                own.copy_(followed)

    def restart(self) -> None:
        """Begin anew with the original's weights, which were replaced."""
        self.network.load_state_dict(self._followed.state_dict())
        self._updates, self._share = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """The averaged network, and what its next update depends on."""
        return {"network": self.network.state_dict(), "updates": self._updates, "share": self._share}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self._updates, self._share = state["updates"], state["share"]
