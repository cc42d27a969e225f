"""SPARSE's discriminator: it judges patches of an image, and classifies the image.

Shapes: B batch, C image channels, H W pixels, K classes, h w patches (2 × 2, or 3 × 3 where the side is no
power of two).

    images BCHW ─ n × [convolution 4 × 4, stride 2; leaky ReLU] ─┬─ patch head ─ patches B1hw, linear
                  w, 2w, 4w, … features                          └─ class head ─ logits BK

Source: Manni et al., arXiv:2508.06429, where n = 6 for 128 px; the form is StarGAN's (Choi et al.,
arXiv:1711.09020). There is no normalisation layer, so every image is judged alone: the value for a batch is
that of its parts.
"""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Map of patches, and class logits, of square images.

    Args:
        channels: C.
        num_classes: K.
        side: H = W, from 8 up.
        width: w, the features of the first convolution; 64 in the paper.
    """

    def __init__(self, *, channels: int, num_classes: int, side: int, width: int = 64) -> None:
        super().__init__()
        num_strided = num_strided_convolutions(side)
        sizes = [channels] + [width << stage for stage in range(num_strided)]
        self.trunk = nn.Sequential(*_trunk(sizes))
        self.patch_head = nn.Conv2d(sizes[-1], 1, 3, padding=1, bias=False)
        self.class_head = nn.Conv2d(sizes[-1], num_classes, side >> num_strided, bias=False)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, 1, h, w), higher where more real, and logits (B, K)."""
        features_BDHW = self.trunk(images_BCHW)
        return self.patch_head(features_BDHW), self.class_head(features_BDHW).flatten(1)

    def patches(self, images_BCHW: Tensor) -> Tensor:
        """Return the map of patches alone, outside the autocast that Accelerate puts on `forward`."""
        patches_B1HW: Tensor = self.patch_head(self.trunk(images_BCHW))
        return patches_B1HW


def num_strided_convolutions(side: int) -> int:
    """Number of halvings of the side: 6 from 128 px up, else so many that at least 2 × 2 patches remain."""
    return min(6, side.bit_length() - 2)


def _trunk(sizes: list[int]) -> Iterator[nn.Module]:
    for inputs, outputs in pairwise(sizes):
        yield nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        yield nn.LeakyReLU(0.01, inplace=True)
