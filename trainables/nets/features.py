"""Networks whose features measure how alike two sets of images are.

Shapes: B batch, C channels, H W pixels, D features.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from search_spaces.core.errors import ConfigError
from trainables.nets.backbone import build_classifier

_RANDOM = "random"
_TIMM = "timm"
_WIDTH = 32
_SEED = 0


def feature_network(name: str, channels: int) -> nn.Module:
    """A network from images (B, C, H, W) in [-1, 1] to features (B, D), with weights that are the same every time.

    Args:
        name: `random`: four convolutions with fixed random weights, of any side, which tells sets apart that differ
            in coarse ways. `timm:MODEL`: a timm model, with the same random weights; `timm:MODEL:WEIGHTS`: with those
            of a file or a timm tag.
        channels: C.

    Raises:
        ConfigError: a name of another form, an unknown model, weights that cannot be had.
    """
    kind, _, rest = name.partition(":")
    with torch.random.fork_rng([]):
        torch.manual_seed(_SEED)
        if name == _RANDOM:
            return _RandomFeatures(channels).requires_grad_(False)
        if kind == _TIMM and rest:
            model, _, weights = rest.partition(":")
            return build_classifier(model, channels=channels, num_classes=0, pretrained=weights).requires_grad_(False)
    raise ConfigError(
        f"feature_network '{name}' is unknown; expected {_RANDOM}, {_TIMM}:MODEL or {_TIMM}:MODEL:WEIGHTS"
    )


class _RandomFeatures(nn.Module):
    """Means and deviations of the maps of four convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels, _WIDTH, _WIDTH, 2 * _WIDTH, 2 * _WIDTH]
        layers = [
            nn.Conv2d(before, after, 3, stride=1 if index == 0 else 2, padding=1)
            for index, (before, after) in enumerate(pairwise(widths))
        ]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, a=0.2)
        self.layers = nn.ModuleList(layers)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        features = []
        maps_BCHW = images_BCHW
        for layer in self.layers:
            maps_BCHW = nn.functional.leaky_relu(layer(maps_BCHW), 0.2)
            features += [maps_BCHW.mean((2, 3)), maps_BCHW.std((2, 3))]
        return torch.cat(features, 1)
