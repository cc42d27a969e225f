"""TransUNet: a residual network, a transformer on its last features, and a decoder that climbs back along its skips.

    images BCHW ── stem ─┬─ pool ── stages ─┬── … ── last stage ── projection + positions ── transformer blocks, norm
                         │ 1/2              │ 1/4, 1/8                                                │ 1/16
    logits BKHW ── head ─┴── ×2, join ◄ ────┴── ×2, join ◄ ───────── …                 ×2, join ◄ ── first

The encoder is a hybrid of timm (`vit_base_r50_s16_224`: R50 + ViT-B/16) without its class token. Its convolutions pad
as TensorFlow does, which on even sides differs from the source by half a pixel.

Shapes: B batch, C image channels, H W pixels, K classes, h w patches, P = hw, D features.

Source: Chen et al., arXiv:2102.04306; the encoder is that of Dosovitskiy et al., arXiv:2010.11929.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from search_spaces.core.errors import ConfigError
from trainables.nets.backbone import build_classifier

DECODER_WIDTHS = (256, 128, 64, 16)
"""Features after each doubling of the side, in the source."""

_FIRST_WIDTH = 512


def build_trans_unet(
    encoder: str = "vit_base_r50_s16_224",
    *,
    num_classes: int,
    channels: int = 3,
    image_size: int = 224,
    pretrained: str = "",
    dropout: float = 0.1,
    decoder_widths: Sequence[int] = DECODER_WIDTHS,
) -> "TransUNet":
    """A TransUNet on an encoder from timm.

    Args:
        encoder: timm name, without a tag, of a vision transformer on a ResNetV2.
        num_classes: K.
        channels: C; the first convolution of pretrained weights is converted to them.
        image_size: side of the images in pixels; the positions of pretrained weights are resampled to it.
        pretrained: as for a classifier: empty, the path of a weights file, or a timm tag such as `orig_in21k`.
        dropout: of the transformer: after the positions are added, and in the blocks' perceptrons.
        decoder_widths: features after each doubling of the side, one more than the encoder has skips.

    Raises:
        ConfigError: a model that is no such hybrid, a side it cannot take, weights that cannot be had or do not fit.
    """
    hybrid: Any = build_classifier(encoder, channels=channels, num_classes=0, pretrained=pretrained)
    embed: Any = getattr(hybrid, "patch_embed", None)
    if not isinstance(getattr(embed, "backbone", None), ResNetV2) or embed.patch_size != (1, 1):
        raise ConfigError(f"encoder '{encoder}' is no transformer on a ResNetV2; use one such as vit_base_r50_s16_224")
    if image_size % 2 ** len(decoder_widths):
        multiple = 2 ** len(decoder_widths)
        raise ConfigError(f"image_size {image_size}: TransUNet takes sides that are multiples of {multiple}")
    if len(decoder_widths) != len(embed.backbone.stages) + 1:
        raise ConfigError(
            f"decoder_widths {(*decoder_widths,)}: encoder '{encoder}' needs {len(embed.backbone.stages) + 1} of them"
        )
    hybrid.set_input_size(img_size=image_size)
    return TransUNet(hybrid, num_classes=num_classes, dropout=dropout, decoder_widths=decoder_widths)


class TransUNet(nn.Module):
    """Logits (B, K, H, W) of images (B, C, H, W) of the side that the encoder was made for.

    Args:
        hybrid: timm's vision transformer with the stem and stages of a ResNetV2 as its patch embedding; what it is
            made of becomes part of this network.
        num_classes: K.
        dropout: of the transformer, see `build_trans_unet`.
        decoder_widths: features after each doubling of the side: one for each skip, and one without.
    """

    def __init__(
        self,
        hybrid: Any,
        *,
        num_classes: int,
        dropout: float = 0.1,
        decoder_widths: Sequence[int] = DECODER_WIDTHS,
    ) -> None:
        super().__init__()
        self.backbone, self.project = hybrid.patch_embed.backbone, hybrid.patch_embed.proj
        self.grid_size: tuple[int, int] = hybrid.patch_embed.grid_size
        num_patches = self.grid_size[0] * self.grid_size[1]
        self.positions_1PD = nn.Parameter(hybrid.pos_embed.detach()[:, -num_patches:].clone())  # not the class token's
        self.dropout, self.blocks, self.norm = nn.Dropout(dropout), hybrid.blocks, hybrid.norm
        for block in self.blocks:
            for layer in block.mlp.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = dropout
        self.first = _convolution(hybrid.embed_dim, _FIRST_WIDTH)
        skips = [each["num_chs"] for each in self.backbone.feature_info[-2::-1]]
        widths = [_FIRST_WIDTH, *decoder_widths]
        self.ups = nn.ModuleList(
            _Up(deep, skip, width) for deep, skip, width in zip(widths[:-1], [*skips, 0], widths[1:], strict=True)
        )
        self.head = nn.Conv2d(widths[-1], num_classes, 3, padding=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W)."""
        skips, deep_BDhw = self._convolve(images_BCHW)
        features = self.first(self._transform(deep_BDhw))
        for up in self.ups:
            features = up(features, skips.pop() if skips else None)
        logits_BKHW: Tensor = self.head(features)
        return logits_BKHW

    def _convolve(self, images_BCHW: Tensor) -> tuple[list[Tensor], Tensor]:
        """The features of 1/2, 1/4, … of the side, and the last ones."""
        features, found = images_BCHW, []
        for name, layer in self.backbone.stem.named_children():
            if name == "pool":
                found.append(features)
            features = layer(features)
        for stage in self.backbone.stages:
            features = stage(features)
            found.append(features)
        return found[:-1], self.backbone.norm(features)

    def _transform(self, deep_BDhw: Tensor) -> Tensor:
        """Features (B, D, h, w) that have seen one another."""
        tokens_BPD = self.project(deep_BDhw).flatten(2).transpose(1, 2)
        tokens_BPD = self.norm(self.blocks(self.dropout(tokens_BPD + self.positions_1PD)))
        seen_BDhw: Tensor = tokens_BPD.transpose(1, 2).unflatten(2, self.grid_size)
        return seen_BDhw


class _Up(nn.Module):
    """Doubles the side, joins the skip features where there are some, and convolves twice."""

    def __init__(self, deep: int, skip: int, width: int) -> None:
        super().__init__()
        self.join = _convolution(deep + skip, width)
        self.refine = _convolution(width, width)

    def forward(self, deep_BDHW: Tensor, skip_BDHW: Tensor | None) -> Tensor:
        up_BDHW = F.interpolate(deep_BDHW, scale_factor=2, mode="bilinear", align_corners=True)
        if skip_BDHW is not None:
            up_BDHW = torch.cat([up_BDHW, skip_BDHW], 1)
        refined_BDHW: Tensor = self.refine(self.join(up_BDHW))
        return refined_BDHW


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
