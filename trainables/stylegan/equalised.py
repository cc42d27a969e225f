"""Layers whose weights all learn at one speed: drawn from N(0, 1) and scaled when they are used.

Adam moves every weight by about its step size, whatever its range; here every weight has the same range.

Source: Karras et al., arXiv:1710.10196 (2018), section 4.1.
Shapes: B batch, I inputs, O outputs, H W pixels.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
"""Slope of the leaky ReLU for negative values."""


def leaky_relu(features: Tensor) -> Tensor:
    """Leaky ReLU, times √2 so that it keeps about the size of normal features."""
    return F.leaky_relu(features, SLOPE) * sqrt(2)


def reduced_type(device: torch.device) -> torch.dtype | None:
    """Type that autocast would compute in here; None where everything is exact."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


class EqualisedLinear(nn.Module):
    """A linear layer.

    Args:
        bias: its value at the start.
        speed: how much faster than one of speed 1 the layer learns.
        spread: standard deviation of the weights at the start, before they are scaled by 1 / √I.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, speed: float = 1.0, spread: float = 1.0
    ) -> None:
        super().__init__()
        self.weight_OI = nn.Parameter(torch.randn(outputs, inputs) * (spread / speed))
        self.bias_O = nn.Parameter(torch.full((outputs,), bias / speed))
        self._weight_gain, self._bias_gain = speed / sqrt(inputs), speed

    def forward(self, features_BI: Tensor) -> Tensor:
        """(B, O)."""
        return F.linear(features_BI, self.weight_OI * self._weight_gain, self.bias_O * self._bias_gain)


class EqualisedConv2d(nn.Module):
    """A convolution.

    Args:
        kernel: its side in pixels.
        bias: whether it has one, 0 at the start.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight_OIkk = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias_O = nn.Parameter(torch.zeros(outputs)) if bias else None
        self._gain, self._stride, self._padding = 1 / sqrt(inputs * kernel**2), stride, padding

    def forward(self, features_BIHW: Tensor, reduced: torch.dtype | None = None) -> Tensor:
        """(B, O, H', W') in the type of the features, computed in the reduced one where it is given."""
        kind = reduced or features_BIHW.dtype
        weight_OIkk = (self.weight_OIkk * self._gain).to(kind)
        bias_O = None if self.bias_O is None else self.bias_O.to(kind)
        outputs_BOHW = F.conv2d(features_BIHW.to(kind), weight_OIkk, bias_O, self._stride, self._padding)
        return outputs_BOHW.to(features_BIHW.dtype)
