"""Sizes of a StyleGAN3 for images of a side: the rules that methods with generators share."""

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError

_LAYERS = {16: 4, 32: 6, 64: 8, 128: 10}
_MAX_LAYERS = 14


def side_for(image_size: int) -> int:
    """Side in pixels of the images that a generator makes: the next power of two, at least 16."""
    return max(16, 1 << (image_size - 1).bit_length())


def layers_for(side: int) -> int:
    """Synthesis layers besides the last."""
    return _LAYERS.get(side, _MAX_LAYERS)


def require_channels(config: MethodConfig, channel_base: int, side: int) -> None:
    """Check that the widest image still has a channel.

    Raises:
        ConfigError: it has none.
    """
    if channel_base < side:
        raise ConfigError(
            f"{type(config).__name__}.generator_channel_base: {channel_base} leaves no channel at {side} px, "
            f"expected at least {side}"
        )
