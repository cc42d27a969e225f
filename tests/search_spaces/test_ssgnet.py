"""What SSGNet's settings refuse: networks and choices that cannot be."""

import pytest

from search_spaces.core.errors import ConfigError
from search_spaces.ssgnet import SsgnetConfig
from search_spaces.ssgnet_segmenter import SsgnetSegmenterConfig


@pytest.mark.parametrize("config_type", [SsgnetConfig, SsgnetSegmenterConfig])
def test_generators_have_a_channel_at_every_side(config_type):
    assert config_type(image_size=64, generator_channel_base=64).generator_side == 64
    with pytest.raises(
        ConfigError, match="generator_channel_base: 63 leaves no channel at 64 px, expected at least 64"
    ):
        config_type(image_size=64, generator_channel_base=63)


@pytest.mark.parametrize("layers", [1, 2])
def test_generators_have_layers_before_the_last_two(layers):
    assert SsgnetConfig(generator_layers=3).num_layers == 3
    with pytest.raises(ConfigError, match=f"generator_layers: {layers} is impossible, expected at least 3, or 0"):
        SsgnetConfig(generator_layers=layers)


def test_some_masks_may_take_part():
    assert SsgnetSegmenterConfig(min_foreground=0.2, max_foreground=0.2)
    with pytest.raises(ConfigError, match=r"min_foreground: 0\.3 is above max_foreground, 0\.2, so no mask takes part"):
        SsgnetSegmenterConfig(min_foreground=0.3, max_foreground=0.2)
