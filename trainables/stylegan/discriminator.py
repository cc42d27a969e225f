"""StyleGAN2's residual discriminator: how real an image looks, as a log-odds.

    images ─ 1 × 1 ─ [ block ] down to 4 px ─ + spread within groups ─ 3 × 3 ─ linear ─ linear ─ logit

    block:  ─┬─ 3 × 3 ─ low pass ─ 3 × 3, stride 2 ─┬─ sum × √½
             └─ low pass, stride 2 ─ 1 × 1 ─────────┘

Leaky ReLU after every layer but the 1 × 1 beside a block and the last. No normalisation: an image is judged alone but
for the spread, which tells when the images of a group look too much alike.

Departures: a group is G neighbours of the batch instead of every (B / G)-th image, so that a batch divides into shares
of whole groups; as images come in random order that makes no difference. Without classes. In reduced precision only the
convolutions are, from 128 px up, and of those the blocks at more than a sixteenth of the resolution.

Source: Karras et al., arXiv:1912.04958 (2020), section 4 and appendix B; groups: arXiv:1710.10196, section 3.
Shapes: B batch, G group, C features, H W pixels (H = W).
"""

from functools import lru_cache
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.stylegan.equalised import EqualisedConv2d, EqualisedLinear, leaky_relu, reduced_type

_LAST_SIDE = 4


class StyleganDiscriminator(nn.Module):
    """Logits of images, large for real ones.

    Args:
        resolution: of the images, in pixels of a side: a power of two, 8 at least.
        channels: of the images.
        channel_base: features times pixels of a side, until there are `channel_max`.
        group: G; a batch is a multiple of it, or smaller and one group.

    Raises:
        ValueError: a resolution that is no such power of two.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int = 3,
        channel_base: int = 32768,
        channel_max: int = 512,
        group: int = 4,
    ) -> None:
        super().__init__()
        if resolution < 8 or not log2(resolution).is_integer():
            raise ValueError(f"a discriminator of {resolution} px: its resolution must be a power of two from 8 up")
        self.group, self._may_reduce = group, resolution > 64

        def width(side: int) -> int:
            return min(channel_base // side, channel_max)

        sides = [resolution >> halvings for halvings in range(int(log2(resolution // _LAST_SIDE)))]
        last = width(_LAST_SIDE)
        self.from_image = EqualisedConv2d(channels, width(resolution), 1)
        self.blocks = nn.ModuleList(
            _Block(width(side), width(side // 2), may_reduce=self._may_reduce and side * 16 > resolution)
            for side in sides
        )
        self.joint = EqualisedConv2d(last + 1, last, 3, padding=1)
        self.dense = EqualisedLinear(last * _LAST_SIDE**2, last)
        self.output = EqualisedLinear(last, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B,), in float32 or that of the weights.

        Raises:
            ValueError: a batch that is no multiple of the group.
        """
        reduced = reduced_type(images_BCHW.device)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            features_BCHW = leaky_relu(self.from_image(images_BCHW, reduced if self._may_reduce else None))
            for block in self.blocks:
                features_BCHW = block(features_BCHW, reduced)
            with_spread_BCHW = torch.cat([features_BCHW, group_spread(features_BCHW, self.group)], 1)
            features_BC = leaky_relu(self.dense(leaky_relu(self.joint(with_spread_BCHW)).flatten(1)))
            logits_B1: Tensor = self.output(features_BC)
            return logits_B1[:, 0]

    def convolutions(self) -> list[nn.Module]:
        """Its convolutions from the image on: those that a transfer may keep as they are."""
        inner = [part for block in self.blocks for part in block.children()]
        return [self.from_image, *inner, self.joint]


def group_spread(features_BCHW: Tensor, group: int) -> Tensor:
    """A map (B, 1, H, W) per image: the standard deviation within its group, averaged over features and pixels.

    Raises:
        ValueError: a batch that is no multiple of the group.
    """
    batch, _, height, width = features_BCHW.shape
    group = min(group, batch)
    if batch % group:
        raise ValueError(f"a batch of {batch} images is no multiple of {group}, the group of the discriminator")
    grouped = features_BCHW.view(batch // group, group, *features_BCHW.shape[1:])
    spread = (grouped.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return spread.repeat_interleave(group).view(batch, 1, 1, 1).expand(-1, -1, height, width)


def blurred(features_BCHW: Tensor, *, padding: int, stride: int = 1) -> Tensor:
    """Each feature map under the low pass 1 3 3 1, divided by 8, along both axes."""
    channels = features_BCHW.shape[1]
    kernel = _low_pass(features_BCHW.device, features_BCHW.dtype).expand(channels, 1, -1, -1)
    return F.conv2d(features_BCHW, kernel, stride=stride, padding=padding, groups=channels)


@lru_cache(maxsize=8)
def _low_pass(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(4, 4); kept, as the host would wait for the device whenever it sent the taps there."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=dtype) / 8
    return (taps[:, None] * taps).to(device, non_blocking=True)


class _Block(nn.Module):
    """Halves the side."""

    def __init__(self, inputs: int, outputs: int, *, may_reduce: bool) -> None:
        super().__init__()
        self._may_reduce = may_reduce
        self.first = EqualisedConv2d(inputs, inputs, 3, padding=1)
        self.second = EqualisedConv2d(inputs, outputs, 3, stride=2)
        self.beside = EqualisedConv2d(inputs, outputs, 1, bias=False)

    def forward(self, features_BCHW: Tensor, reduced: torch.dtype | None = None) -> Tensor:
        reduced = reduced if self._may_reduce else None
        beside_BCHW = self.beside(blurred(features_BCHW, padding=1, stride=2), reduced)
        main_BCHW = blurred(leaky_relu(self.first(features_BCHW, reduced)), padding=2)
        halved_BCHW: Tensor = beside_BCHW + leaky_relu(self.second(main_BCHW, reduced))
        return halved_BCHW * sqrt(0.5)
