import pytest

from search_spaces.convnet import ConvnetConfig
from search_spaces.core.augmentation import NO_MOTION
from search_spaces.core.config import write_config
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import space_of
from search_spaces.ssl_gan import SslGanConfig, first_map


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, (4, 1)), (28, (7, 2)), (32, (4, 3)), (48, (6, 3)), (64, (4, 4)), (96, (6, 4)), (128, (4, 5)), (224, (7, 5))],
)
def test_the_generator_starts_at_4_to_7(side, expected):
    assert first_map(side) == expected


@pytest.mark.parametrize(("side", "nearest"), [(30, "28 and 32"), (33, "32 and 40"), (100, "96 and 112")])
def test_other_sides_are_refused_with_the_nearest(side, nearest):
    with pytest.raises(ConfigError, match=f"image_size: {side} is impossible.*nearest sizes are {nearest}"):
        SslGanConfig(image_size=side)


@pytest.mark.parametrize("config_type", [SslGanConfig, ConvnetConfig])
@pytest.mark.parametrize(("tail", "too_small", "enough"), [("dr", 24, 28), ("conv_large", 8, 10)])
def test_images_too_small_for_the_tail_are_refused(config_type, tail, too_small, enough):
    with pytest.raises(ConfigError, match=f"{too_small} is impossible with tail '{tail}', expected at least"):
        config_type(image_size=too_small, tail=tail)
    assert config_type(image_size=enough, tail=tail).image_size == enough


def test_the_discriminator_takes_25_px_and_the_generator_does_not():
    assert ConvnetConfig(image_size=25).image_size == 25
    with pytest.raises(ConfigError, match="nearest sizes are 24 and 28"):
        SslGanConfig(image_size=25)


def test_the_companion_has_the_same_fields_defaults_and_ranges():
    ours, theirs = write_config(SslGanConfig()), write_config(ConvnetConfig())
    assert {name: ours[name] for name in theirs} == theirs
    both = space_of(SslGanConfig)
    assert {name: both[name] for name in space_of(ConvnetConfig)} == space_of(ConvnetConfig)


def test_the_originals_choices():
    config = SslGanConfig.preset("improved_gan")
    assert (config.unsup_weight, config.tail, config.average) == (0.5, "conv_large", 0.02)
    assert (config.schedule, config.decay_start) == ("linear", pytest.approx(800 / 1200))
    assert not any(getattr(config, name) for name in ("flip", "flip_vertical", "warm_up", *NO_MOTION))


def test_the_papers_choices():
    for config in (SslGanConfig.preset("paper"), ConvnetConfig.preset("paper")):
        assert (config.width, config.batch_size, config.lr, config.beta1) == (96, 100, 3e-4, 0.5)
        assert (config.drop_in, config.drop_hidden, config.average, config.warm_up) == (0.2, 0.5, 0.01, 0.0)
        assert (config.schedule, config.decay_start) == ("linear", pytest.approx(1000 / 1200))
        assert (config.flip, config.flip_vertical, config.shift * 32) == (True, True, 2)
        assert not any(getattr(config, name) for name in NO_MOTION if name != "shift")
    gan = SslGanConfig.preset("paper")
    assert (gan.generator_width, gan.batch_unlabelled, gan.lr_ratio_generator) == (512, 100, 1.0)
