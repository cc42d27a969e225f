"""SPARSE's generator: an attention U-Net that translates an image to a class, and also classifies.

Shapes: B batch, C image channels, H W pixels, K classes, D features.

                    classify: images BCHW          generate: images BCHW + K constant class maps
                              │                                 │
                         first_classify                   first_generate            w, H × W ─────────┐ skip
                              └───────────────┬─────────────────┘                                     │
                                          second                        2w, H/2 × W/2 ─────────┐ skip │
                                          third                  4w, H/4 × W/4 ─────────┐ skip │      │
                                          bottom          8w, H/8 × W/8                 │      │      │
                              ┌───────────────┴─────────────────┐                       │      │      │
                     mean over pixels                      up3 ◄┼───────────────────────┘      │      │
                          class head                       up2 ◄┼──────────────────────────────┘      │
                              │                            up1 ◄┼─────────────────────────────────────┘
                          logits BK                        output → images BCHW, linear (or squashed)

Source: Manni et al., arXiv:2508.06429; the gate follows Oktay et al., "Attention U-Net", arXiv:1804.03999,
with one map per channel. `second`, `third` and `bottom` and their BatchNorm statistics serve both modes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionUNet(nn.Module):
    """Translates (B, C, H, W) to the classes given, or classifies where none are given. H and W from 8 up.

    Args:
        channels: C.
        num_classes: K.
        width: w, the features of the first stage; 64 in the paper.
        squashed: whether translations pass a sigmoid, to stay in the range of images.
    """

    def __init__(self, *, channels: int, num_classes: int, width: int = 64, squashed: bool = False) -> None:
        super().__init__()
        w = width
        self.first_generate = _double_convolution(channels + num_classes, w)
        self.first_classify = _double_convolution(channels, w)
        self.second = _double_convolution(w, 2 * w)
        self.third = _double_convolution(2 * w, 4 * w)
        self.bottom = _double_convolution(4 * w, 8 * w)
        self.up3 = _Up(8 * w, 4 * w)
        self.up2 = _Up(4 * w, 2 * w)
        self.up1 = _Up(2 * w, w)
        self.output = nn.Conv2d(w, channels, 1)
        self.squash = nn.Sigmoid() if squashed else nn.Identity()
        self.class_head = nn.Linear(8 * w, num_classes)

    def forward(self, images_BCHW: Tensor, classes_BK: Tensor | None = None) -> Tensor:
        """Logits (B, K), or, given one-hot classes, translated images (B, C, H, W), unbounded unless squashed."""
        if classes_BK is None:
            return self._classify(images_BCHW)
        return self._generate(images_BCHW, classes_BK)

    def _classify(self, images_BCHW: Tensor) -> Tensor:
        _, _, bottom_BDHW = self._encode(self.first_classify(images_BCHW))
        logits_BK: Tensor = self.class_head(bottom_BDHW.mean((2, 3)))
        return logits_BK

    def _generate(self, images_BCHW: Tensor, classes_BK: Tensor) -> Tensor:
        height, width = images_BCHW.shape[2:]
        maps_BKHW = classes_BK.to(images_BCHW.dtype)[:, :, None, None].expand(-1, -1, height, width)
        first = self.first_generate(torch.cat([images_BCHW, maps_BKHW], 1))
        second, third, bottom = self._encode(first)
        features = self.up1(self.up2(self.up3(bottom, third), second), first)
        translated_BCHW: Tensor = self.squash(self.output(features))
        return translated_BCHW

    def _encode(self, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        second = self.second(F.max_pool2d(first, 2))
        third = self.third(F.max_pool2d(second, 2))
        return second, third, self.bottom(F.max_pool2d(third, 2))


class _Up(nn.Module):
    """Doubles the side of deep features and joins them with the gated skip features of that side."""

    def __init__(self, deep: int, skip: int) -> None:
        super().__init__()
        self.gate = _Gate(deep, skip)
        self.join = _double_convolution(deep + skip, skip)

    def forward(self, deep_BDHW: Tensor, skip_BDHW: Tensor) -> Tensor:
        up_BDHW = _resized(deep_BDHW, skip_BDHW)
        joined_BDHW: Tensor = self.join(torch.cat([up_BDHW, self.gate(deep_BDHW, skip_BDHW)], 1))
        return joined_BDHW


class _Gate(nn.Module):
    """Skip features, each weighted in (0, 1) by what the deep features say there."""

    def __init__(self, deep: int, skip: int) -> None:
        super().__init__()
        self.from_deep = nn.Sequential(nn.Conv2d(deep, skip, 1), nn.BatchNorm2d(skip))
        self.from_skip = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip))
        self.mix = nn.Conv2d(skip, skip, 1)

    def forward(self, deep_BDHW: Tensor, skip_BDHW: Tensor) -> Tensor:
        # A 1 × 1 convolution commutes with resizing, whose weights add up to 1: a quarter of the work before it.
        projected_BDHW = self.from_deep[1](_resized(self.from_deep[0](deep_BDHW), skip_BDHW))
        heard_BDHW = F.relu(projected_BDHW + self.from_skip(skip_BDHW))
        return torch.sigmoid(self.mix(heard_BDHW)) * skip_BDHW


def _resized(deep_BDHW: Tensor, like_BDHW: Tensor) -> Tensor:
    # To that size rather than by two: the same where 8 divides the side, and 28 px work too.
    return F.interpolate(deep_BDHW, like_BDHW.shape[2:], mode="bilinear", align_corners=True)


def _double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
