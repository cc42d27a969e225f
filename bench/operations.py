"""Counts floating point operations while code runs, those of backward passes too.

    with Operations() as operations:
        step()
    print(operations.count)

A multiplication with an addition counts as 2. Convolutions and matrix products only: the rest of a network is a few
per cent. `torch.utils.flop_counter` leaves out `groups` in the backward of a convolution (15 times too much for an
EfficientNet) and fails where a gradient is differentiated again.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class Operations(TorchDispatchMode):
    """Adds up, in `count`, the operations of what runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RULES:
            with self:  # under inference_mode conv2d and linear arrive whole
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        output = func(*args, **kwargs)
        self.count += _RULES[func](args, output)
        return output


def _convolution(args: Sequence[Any], output: Tensor) -> int:
    images, weight, transposed = args[0], args[1], args[6]
    return _passes_of(weight, images if transposed else output)


def _convolution_backward(args: Sequence[Any], outputs: Any) -> int:
    """As much as the forward for each of the two gradients asked for; a bias is a sum and counts for nothing."""
    gradient, images, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    return (wanted[0] + wanted[1]) * _passes_of(weight, images if transposed else gradient)


def _passes_of(weight: Tensor, places: Tensor) -> int:
    """Every element of `places` meets one filter, whose size already knows the groups."""
    return 2 * places.numel() * prod(weight.shape[1:])


def _product(first: Tensor, output: Tensor) -> int:
    return 2 * output.numel() * first.shape[-1]


_RULES: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.mm.default: lambda args, output: _product(args[0], output),
    aten.bmm.default: lambda args, output: _product(args[0], output),
    aten.addmm.default: lambda args, output: _product(args[1], output),
    aten.baddbmm.default: lambda args, output: _product(args[1], output),
}
