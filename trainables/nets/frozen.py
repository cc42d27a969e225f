"""Frozen networks that turn images into features, by name, with the normalisation that their weights were trained with.

Shapes: B batch, C channels, H W pixels, D features.
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import final

import torch
from torch import Tensor, nn

from search_spaces.core.weights import backbone_weights
from trainables.nets.backbone import build_classifier, normalisation

_SEED = 0


@final
class FrozenNetwork(nn.Module):
    """A network from images (B, C, H, W) in [0, 1] to its pooled output (B, D), with weights that never change.

    Args:
        name: see `backbone_weights`. Random weights are the same every time.
        channels: C; of grey images the mean of the normalisation of colours is taken.
        weighted: whether it has its weights; without, `load_whole_state` is to bring them.

    Raises:
        ConfigError: an unknown model, or weights that cannot be had.
    """

    def __init__(self, name: str, channels: int, *, weighted: bool = True) -> None:
        super().__init__()
        model, weights = backbone_weights(name)
        weights = weights if weighted else ""
        with torch.random.fork_rng([]):
            torch.manual_seed(_SEED)
            self.network = build_classifier(model, channels=channels, num_classes=0, pretrained=weights)
        self.mean_C11, self.spread_C11 = normalisation(self.network, weights, channels)
        self.requires_grad_(False).eval()
        self.to(memory_format=torch.channels_last)

    def forward(self, unit_BCHW: Tensor) -> Tensor:
        """Return features (B, D)."""
        normal_BCHW = (unit_BCHW - self.mean_C11.to(unit_BCHW)) / self.spread_C11.to(unit_BCHW)
        features_BD: Tensor = self.network(normal_BCHW.contiguous(memory_format=torch.channels_last))
        return features_BD

    def whole_state(self) -> dict[str, Tensor]:
        """Return all its numbers, the normalisation last."""
        return {**self.state_dict(), "mean": self.mean_C11, "spread": self.spread_C11}

    def load_whole_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `whole_state` gave."""
        numbers = dict(state)
        self.mean_C11, self.spread_C11 = numbers.pop("mean"), numbers.pop("spread")
        self.load_state_dict(numbers)


@cache
def frozen_hash(name: str, channels: int) -> str:
    """SHA-256 of the frozen network of a name."""
    return network_hash(FrozenNetwork(name, channels))


def network_hash(network: FrozenNetwork) -> str:
    """SHA-256 of a frozen network: its numbers, their names, and its normalisation."""
    total = sha256()
    for key, tensor in network.whole_state().items():
        total.update(f"{key} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
