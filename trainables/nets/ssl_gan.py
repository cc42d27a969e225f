"""SSL-GAN's discriminator, which classifies, and its generator.

Shapes: B batch, C image channels, H W pixels (H = W), K classes, Z latent, D features, h w pixels of the last map.

    discriminator, w = width; [3, s2] is a 3 × 3 convolution of stride 2; ↓ marks dropout before it

    images BCHW ─↓ [3] [3] [3, s2] ─↓ [3] [3] [3, s2] ─↓ tail ─ [1] [1] ─ map BDhw ─ mean ─ features BD ─ logits BK
                    w   w   w          2w  2w  2w         2w     2w  2w

    tail "dr": two unpadded [3, s2]      h = w = 1, 1, 3, 5, 7 for images of 28, 32, 64, 96, 128 px
    tail "conv_large": one unpadded [3]  h = w = 5, 6, 14, 22, 30

    generator: numbers BZ in [0, 1) ─ dense ─ first map, 4 to 7 px ─ n × [5 × 5 transposed convolution, doubling] ─
               images BCHW in (-1, 1)

Layers of the discriminator and the generator's last are weight-normalised; the generator's others have BatchNorm
without a scale. The discriminator has no BatchNorm, so every image is judged alone.

Source: Lecouat et al., arXiv:1812.07832, Tables 3 and 4. Its Table 4 generates 96 px while its text says 32: here the
first map and the number of doublings follow from the size.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.nets.weight_norm import weight_normed

_HALVINGS = (0, 1, 2, 2)
"""Halvings of the generator's width, map by map; 3 from then on."""


class Discriminator(nn.Module):
    """Class logits of images, and the features that they come from. What is real has a large logit.

    Args:
        channels: C.
        num_classes: K; there is no logit for generated images, theirs is 0.
        width: w; 96 in the paper.
        tail: `dr` or `conv_large`, for images from 25 or 9 px up.
        drop_in: dropout of pixels.
        drop_hidden: dropout after each of the first two strides.
        negative_slope: of the leaky ReLU.
        init_std: of the first weights.
        train_gain: whether gains are learned; the last layer's always are.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_classes: int,
        width: int = 96,
        tail: str = "dr",
        drop_in: float = 0.2,
        drop_hidden: float = 0.5,
        negative_slope: float = 0.2,
        init_std: float = 0.05,
        train_gain: bool = False,
    ) -> None:
        super().__init__()
        w = width
        convolution = partial(_convolution, negative_slope=negative_slope, init_std=init_std, train_gain=train_gain)
        strides = (2, 2) if tail == "dr" else (1,)
        self.trunk = nn.Sequential(
            nn.Dropout(drop_in),
            convolution(channels, w),
            convolution(w, w),
            convolution(w, w, stride=2),
            nn.Dropout(drop_hidden),
            convolution(w, 2 * w),
            convolution(2 * w, 2 * w),
            convolution(2 * w, 2 * w, stride=2),
            nn.Dropout(drop_hidden),
            *(convolution(2 * w, 2 * w, stride=stride, padding=0) for stride in strides),
            convolution(2 * w, 2 * w, kernel=1),
            convolution(2 * w, 2 * w, kernel=1),
        )
        self.output = weight_normed(nn.Linear(2 * w, num_classes), init_std=init_std, train_gain=True)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and the last map (B, D, h, w)."""
        map_BDhw = self.trunk(images_BCHW)
        return self.output(pooled_features(map_BDhw)), map_BDhw


def pooled_features(map_BDhw: Tensor) -> Tensor:
    """The mean (B, D) over the pixels of a map, in float32 at least."""
    return map_BDhw.mean((2, 3), dtype=torch.promote_types(map_BDhw.dtype, torch.float32))


def _convolution(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int | None = None,
    negative_slope: float,
    init_std: float,
    train_gain: bool,
) -> nn.Sequential:
    around = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=around)
    return nn.Sequential(
        weight_normed(layer, init_std=init_std, train_gain=train_gain), nn.LeakyReLU(negative_slope, inplace=True)
    )


class SslGanGenerator(nn.Module):
    """Images in (-1, 1) from uniform numbers.

    Args:
        channels: C.
        first_side: of the first map, in pixels.
        num_doublings: of that side, from 1 up.
        width: channels of the first map; 512 in the paper, then 256, 128, 128, 64.
        z_dim: Z.
        init_std: of the first weights.
    """

    def __init__(
        self,
        *,
        channels: int,
        first_side: int,
        num_doublings: int,
        width: int = 512,
        z_dim: int = 100,
        init_std: float = 0.05,
    ) -> None:
        super().__init__()
        widths = [width >> halvings for halvings in (*_HALVINGS, *[3] * num_doublings)[:num_doublings]]
        size = width * first_side**2
        self.first = nn.Sequential(
            nn.Linear(z_dim, size, bias=False),
            _unscaled(nn.BatchNorm1d(size, eps=1e-6)),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (width, first_side, first_side)),
        )
        self.grow = nn.Sequential(*_doublings(widths))
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=init_std)
        self.output = weight_normed(_doubling(widths[-1], channels, bias=True), init_std=init_std, train_gain=True)

    def forward(self, numbers_BZ: Tensor) -> Tensor:
        """Images (B, C, H, W). In training mode they depend on their batch, which must hold two at least."""
        return torch.tanh(self.output(self.grow(self.first(numbers_BZ))))


def _doublings(widths: list[int]) -> Iterator[nn.Module]:
    for inputs, outputs in pairwise(widths):
        yield _doubling(inputs, outputs, bias=False)
        yield _unscaled(nn.BatchNorm2d(outputs, eps=1e-6))
        yield nn.ReLU(inplace=True)


def _doubling(inputs: int, outputs: int, *, bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1, bias=bias)


def _unscaled(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """With a learned shift only: its scale stays 1."""
    norm.weight.requires_grad_(False)
    return norm
