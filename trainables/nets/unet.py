"""A U-Net on a timm encoder, by segmentation-models-pytorch: the network that people take first.

Shapes: B batch, C channels, H W pixels, K logits.
"""

from typing import Any

from torch import nn

from search_spaces.core.errors import ConfigError
from trainables.nets.backbone import build_classifier


def build_unet(
    encoder: str, *, channels: int, num_logits: int, depth: int, width: int, pretrained: str = ""
) -> nn.Module:
    """A network from images (B, C, H, W), sides multiples of 2 ** depth, to logits (B, K, H, W).

    Args:
        encoder: timm model name without a tag, of a network whose stages can be had one by one.
        depth: halvings of the side, each with a step of the decoder back, 3 to 5.
        width: channels of the decoder's last step; each step before it has twice as many.
        pretrained: weights of the encoder, as `build_classifier` takes them.

    Raises:
        ConfigError: an unknown encoder, one that has no such stages, or weights that cannot be had.
    """
    import segmentation_models_pytorch as smp

    source = build_classifier(encoder, channels=channels, num_classes=1, pretrained=pretrained)  # checks the name too
    options: dict[str, Any] = {"encoder_weights": None, "in_channels": channels, "classes": num_logits}
    widths = tuple(width * 2**step for step in reversed(range(depth)))
    try:
        network: nn.Module = smp.Unet(f"tu-{encoder}", encoder_depth=depth, decoder_channels=widths, **options)
    except (AttributeError, RuntimeError, TypeError, ValueError, IndexError, KeyError, AssertionError) as why:
        reason = " ".join(str(why).split())[:200]
        raise ConfigError(f"encoder '{encoder}' cannot carry a U-Net of depth {depth}: {reason}") from why
    if pretrained:
        body: nn.Module = network.encoder.model  # type: ignore[union-attr, assignment]
        lacking = body.load_state_dict(source.state_dict(), strict=False).missing_keys
        if lacking:
            raise ConfigError(
                f"weights '{pretrained}' lack {len(lacking)} tensors of encoder '{encoder}': {lacking[0]}"
            )
    return network
