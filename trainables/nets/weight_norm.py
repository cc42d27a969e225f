"""Weight normalisation: a weight is a direction times a gain per output channel, and its start is fitted to data.

Sources: Salimans & Kingma, arXiv:1602.07868; gains frozen but for the last layer's as in improved-gan's code
(arXiv:1606.03498). A network with such layers cannot be pickled: it travels as a state dict.

Shapes: B batch, O output channels of a layer.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

OUTPUT_STD = 0.1
"""Deviation of a network's output at its start: small, so that no class and no pixel is decided."""

_MIN_STD = 1e-8
"""Deviation that a constant channel is taken to have, so that its gain stays finite."""

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def weight_normed(layer: Layer, *, init_std: float, train_gain: bool) -> Layer:
    """The layer with normalised weights of random direction, gains of 1 and biases of 0.

    Args:
        init_std: of the numbers that the direction is made of; how far an optimiser's step turns it depends on them.
        train_gain: whether the gains are learned.
    """
    nn.init.normal_(layer.weight, std=init_std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    # A transposed convolution has its output channels second.
    weight_norm(layer, dim=1 if isinstance(layer, nn.ConvTranspose2d) else 0)
    gain = gain_of(layer)
    nn.init.ones_(gain)
    gain.requires_grad_(train_gain)
    return layer


def gain_of(layer: nn.Module) -> nn.Parameter:
    """The gains of a weight-normalised layer, one per output channel."""
    gain: nn.Parameter = layer.get_parameter("parametrizations.weight.original0")
    return gain


@torch.no_grad()
def initialise_by_data(network: nn.Module, inputs_B: Tensor, *, output: nn.Module) -> None:
    """Set gains and biases so that each layer's output has mean 0 and deviation 1 per channel on these inputs.

    One pass through the network as it stands, layer by layer: each works on what the rescaled ones before it give.
    Layers without weight normalisation are left alone.

    Args:
        output: the last layer, whose deviation becomes `OUTPUT_STD`.
    """

    def rescale(layer: nn.Module, inputs: tuple[Tensor, ...], outputs_BO: Tensor) -> Tensor:
        target = OUTPUT_STD if layer is output else 1.0
        all_but_O = [0, *range(2, outputs_BO.ndim)]
        variance_O, mean_O = torch.var_mean(outputs_BO, all_but_O, correction=0)
        scale_O = target / variance_O.sqrt().clamp(min=_MIN_STD)
        gain, bias = gain_of(layer), layer.get_parameter("bias")
        gain.mul_(scale_O.view_as(gain))
        bias.sub_(mean_O).mul_(scale_O)
        like_BO = (-1, *[1] * (outputs_BO.ndim - 2))
        return (outputs_BO - mean_O.view(like_BO)) * scale_O.view(like_BO)

    layers = [layer for layer in network.modules() if is_parametrized(layer, "weight")]
    hooks = [layer.register_forward_hook(rescale) for layer in layers]
    try:
        network(inputs_B)
    finally:
        for hook in hooks:
            hook.remove()
