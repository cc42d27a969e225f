"""Networks that go on from given weights: what of them learns, and how fast.

Shapes: B batch, C channels, H W pixels, D features, K classes; r rank, O I outputs and inputs of a layer.
"""

from collections.abc import Iterator
from typing import Any, final

import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from search_spaces.core.errors import ConfigError
from search_spaces.core.fine_tuning import FineTunedConfig

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
_LAST_BLOCK = 2
"""Groups of parameters from the end on: the last layer, and the block before it."""


@final
class FineTunedNetwork(nn.Module):
    """A timm classifier of images in [0, 1] that learns as a configuration asks for; others get no gradient.

    Args:
        network: as from `build_classifier`.
        mean_C11: of the images that its weights were trained with, and their spread.
        keeps_normalisation: whether both are in its state, as in `whole_state`.

    Raises:
        ConfigError: a low-rank change of a network that has no attention.
    """

    def __init__(
        self,
        network: nn.Module,
        config: FineTunedConfig,
        mean_C11: Tensor,
        spread_C11: Tensor,
        *,
        keeps_normalisation: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self._mean_C11: Tensor
        self._spread_C11: Tensor
        self.register_buffer("_mean_C11", mean_C11, persistent=keeps_normalisation)
        self.register_buffer("_spread_C11", spread_C11, persistent=keeps_normalisation)
        self._frozen_statistics = config.frozen_statistics
        if config.trained_layers != "all":
            learning = set(_learning(network, config))
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name in learning)
        self.train()

    def whole_state(self) -> dict[str, Tensor]:
        """Return its state and the normalisation, which checkpoints need not hold."""
        return {**self.state_dict(), "_mean_C11": self._mean_C11, "_spread_C11": self._spread_C11}

    @property
    def last(self) -> nn.Module:
        """The last layer."""
        last: nn.Module = self.network.get_classifier()  # type: ignore[operator]
        return last

    def train(self, mode: bool = True) -> "FineTunedNetwork":
        """Frozen statistics never enter training mode."""
        super().train(mode)
        if self._frozen_statistics:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, unit_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits_BK: Tensor = self.network(self._normal(unit_BCHW))
        return logits_BK

    def features(self, unit_BCHW: Tensor) -> Tensor:
        """What the last layer is given (B, D)."""
        network: Any = self.network
        features_BD: Tensor = network.forward_head(network.forward_features(self._normal(unit_BCHW)), pre_logits=True)
        return features_BD

    def _normal(self, unit_BCHW: Tensor) -> Tensor:
        return (unit_BCHW - self._mean_C11) / self._spread_C11


def rates(network: FineTunedNetwork, config: FineTunedConfig) -> dict[str, float]:
    """Return the step size of each parameter by name, relative to that of the last layer."""
    scales = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(network.network, layer_decay=config.layer_decay)
        for parameter in group["params"]
    }
    last = {id(parameter) for parameter in network.last.parameters()}
    return {
        name: 1.0 if id(each) in last else config.lr_ratio_body * scales.get(id(each), 1.0)
        for name, each in network.named_parameters()
    }


def _learning(network: nn.Module, config: FineTunedConfig) -> Iterator[str]:
    """Yield the names of the parameters that learn."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    match config.trained_layers:
        case "last_block":
            matcher: Any = network.group_matcher(coarse=True)  # type: ignore[operator]
            groups: dict[int, list[str]] = group_parameters(network, matcher, reverse=False)
            for number in sorted(groups)[-_LAST_BLOCK:]:
                yield from groups[number]
        case "norms":
            for module in network.modules():
                own = dict(module.named_parameters(recurse=False))
                yield from (names[id(p)] for n, p in own.items() if isinstance(module, _NORMS) or n == "bias")
        case "low_rank":
            yield from _with_low_rank(network, config.low_rank)
    last: nn.Module = network.get_classifier()  # type: ignore[operator]
    yield from (names[id(parameter)] for parameter in last.parameters())


class LowRankChange(nn.Module):
    """A weight (O, I) plus a product of an (O, r) and an (r, I) matrix, of which the first begins at zero."""

    def __init__(self, outputs: int, inputs: int, rank: int) -> None:
        super().__init__()
        self.up_Or = nn.Parameter(torch.zeros(outputs, rank))
        self.down_rI = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)

    def forward(self, weight_OI: Tensor) -> Tensor:
        """The changed weight (O, I)."""
        return weight_OI + self.up_Or @ self.down_rI


def _with_low_rank(network: nn.Module, rank: int) -> Iterator[str]:
    """Give every linear layer of an attention a low-rank change; yield the names of its parameters."""
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "attn" in name.split(".")
    ]
    if not layers:
        raise ConfigError("trained_layers: low_rank changes the weights of attention, and this classifier has none")
    for name, layer in layers:
        parametrize.register_parametrization(
            layer, "weight", LowRankChange(layer.out_features, layer.in_features, rank)
        )
        yield from (f"{name}.parametrizations.weight.0.{part}" for part in ("up_Or", "down_rI"))
