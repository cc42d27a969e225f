"""An exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from torch import nn


class WeightAverage:
    """A copy of a network whose parameters follow the original's: θ̄ ← decay · θ̄ + (1 - decay) · θ.

    It starts at the original's weights, so it needs no correction. For networks without buffers.

    Source: Polyak & Juditsky (1992); as in Lecouat et al., arXiv:1812.07832.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if next(network.buffers(), None) is not None:
            raise ValueError("the average of a network with buffers is not defined here")
        self.network = deepcopy(network).requires_grad_(False)
        self._followed, self._share = network, 1 - decay

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        torch._foreach_lerp_(list(self.network.parameters()), list(self._followed.parameters()), self._share)
