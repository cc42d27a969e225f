"""Network of a pretext task: what is kept, and the layers above it that are thrown away.

Shapes: B batch, C channels, H W pixels, D features, P projection.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor, nn

from search_spaces.core.errors import ConfigError
from trainables.nets.backbone import build_classifier, normalisation


@final
class PretextNetwork(nn.Module):
    """A timm network of images in [0, 1], a projector of its pooled outputs, and a predictor of projections if asked.

    Args:
        model: timm's name; its weights are random.
        channels: C.
        outputs: P.
        predicts: True for a predictor.
    """

    def __init__(self, model: str, channels: int, outputs: int, *, predicts: bool) -> None:
        super().__init__()
        self.encoder = build_classifier(model, channels=channels, num_classes=0)
        self._mean_C11: Tensor
        self._spread_C11: Tensor
        for name, value in zip(("_mean_C11", "_spread_C11"), normalisation(self.encoder, "", channels), strict=True):
            self.register_buffer(name, value, persistent=False)
        known: Any = self.encoder
        features = int(getattr(known, "head_hidden_size", known.num_features))
        self.projector = _two_layers(features, features, outputs)
        self.predictor = _two_layers(outputs, features, outputs) if predicts else nn.Identity()

    def forward(self, unit_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections (B, P), and what is predicted from them."""
        projected_BP = self.projector(self.encoder((unit_BCHW - self._mean_C11) / self._spread_C11))
        return projected_BP, self.predictor(projected_BP)


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


@final
class SlowNetwork:
    """A copy of a network whose weights follow the original's: θ̄ ← m · θ̄ + (1 - m) · θ.

    BatchNorm in it normalises by the batch, as in the original.
    """

    def __init__(self, network: PretextNetwork, device: torch.device) -> None:
        self.network = deepcopy(network).requires_grad_(False).to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, unit_BCHW: Tensor) -> Tensor:
        """Return projections (B, P), without gradients."""
        projected_BP: Tensor = self.network(unit_BCHW)[0]
        return projected_BP

    @torch.no_grad()
    def follow(self, network: nn.Module, momentum: float) -> None:
        """Take in the original's weights as they are now."""
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - momentum)


def load_body(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a timm classifier the weights of an encoder of the same name; its last layer stays.

    Raises:
        ConfigError: it has other tensors beside its last layer.
    """
    own: Any = network
    last = {id(each) for each in own.get_classifier().parameters()}
    body = {name for name, each in network.named_parameters(remove_duplicate=False) if id(each) not in last}
    body |= {name for name, _ in network.named_buffers()}
    if odd := sorted((body & network.state_dict().keys()) ^ weights.keys()):
        raise ConfigError(f"pretext: this classifier has not the same tensors without its last layer, such as {odd[0]}")
    network.load_state_dict(weights, strict=False)
