"""ConvNet: SSL-GAN's discriminator trained on the labelled images alone, what its generator must beat.

Source: Lecouat et al., "Semi-supervised deep learning for abnormality classification in retinal images",
arXiv:1812.07832 (2018), whose baseline shares the network and its hyperparameters with the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, Float, Int

MIN_SIDE = {"dr": 25, "conv_large": 9}
"""Smallest side of images, by tail: two strides of 2 must leave it 7 × 7 or 3 × 3 pixels."""


@dataclass(frozen=True, kw_only=True)
class ConvnetConfig(MethodConfig):
    """Defaults are those of `ssl_gan`, so that the two differ only in what unlabelled images add."""

    image_size: int = 32
    """Side in pixels at which images reach the network; others are resized on the device. Source: paper."""

    # Network
    width: Annotated[int, Choice(16, 32, 64, 96)] = 96
    """Channels of the first three convolutions; the others have twice as many. Source: paper, Table 3."""

    tail: Literal["dr", "conv_large"] = "dr"
    """Last 3 × 3 convolutions: two with stride 2, as in the paper, or one with stride 1, as in improved-gan."""

    drop_in: Annotated[float, Float(0.0, 0.3)] = 0.2
    """Dropout of pixels. Source: paper, Table 3."""

    drop_hidden: Annotated[float, Float(0.0, 0.6)] = 0.5
    """Dropout after each stride of the first two. Source: paper, Table 3."""

    negative_slope: float = 0.2
    """Slope of the leaky ReLU. Source: paper, Table 6."""

    init_std: float = 0.05
    """Standard deviation of the first weights, of which data-dependent initialisation leaves the direction.
    Source: paper, Table 6."""

    ddi: bool = True
    """Start gains and biases so that every layer's output has mean 0 and deviation 1. Source: improved-gan."""

    train_gain: bool = False
    """Learn the gains of hidden layers; that of the last layer always is. Source: improved-gan."""

    # Schedule
    batch_size: Annotated[int, Choice(32, 64, 100, 128)] = 100
    """Labelled images per step, each as often as it takes. Source: paper, Table 6."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated; nothing else depends on it. Ours."""

    lr_decay_start: Annotated[float, Float(0.5, 0.9)] = 1000 / 1200
    """Share of the budget after which the step size falls linearly to 0. Source: paper, 1000 of 1200 epochs."""

    # Optimisation
    lr: Annotated[float, Float(5e-5, 2e-3, log=True)] = 3e-4
    """Adam step size. Source: paper, Table 6."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.5
    """Adam first-moment decay. Source: paper, Table 6."""

    ema_steps: Annotated[int, Int(10, 10_000, log=True)] = 1000
    """Steps over which the weights that predict are averaged: their decay is 1 - 1 / ema_steps. Source: paper, 0.999.
    A budget of fewer steps leaves the average near its start: then take a tenth of them."""

    # Images
    shift: Annotated[int, Int(0, 4)] = 2
    """Pixels by which training images move at most, left, right, up and down. Source: improved-gan's successors."""

    flip: bool = True
    """Mirror training images left-right at random; switch off where left and right differ in meaning. Source: paper."""

    flip_vertical: bool = True
    """Mirror training images upside down at random; switch off where up and down differ. Source: paper."""

    class_balance: bool = False
    """Let labelled batches hold all classes alike; images are then drawn with replacement. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "small": {"width": 16, "batch_size": 32, "drop_in": 0.05, "drop_hidden": 0.1, "ema_steps": 100},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_side(self, self.tail)
        check_discriminator(self)


def check_side(config: MethodConfig, tail: str) -> None:
    """Check that the discriminator can take images of that size.

    Raises:
        ConfigError: naming size, tail and what to change.
    """
    least = MIN_SIDE[tail]
    if config.image_size < least:
        advice = f"; tail 'conv_large' takes {MIN_SIDE['conv_large']}" if tail == "dr" else ""
        raise ConfigError(
            f"{type(config).__name__}.image_size: {config.image_size} is impossible with tail '{tail}', "
            f"expected at least {least}{advice}"
        )


def check_discriminator(config: MethodConfig) -> None:
    """Check what the configurations of `convnet` and `ssl_gan` have in common."""
    require(config, "width", 1, 1024)
    require(config, "batch_size", 2, 4096)
    require(config, "steps_per_epoch", 1, 10_000)
    require(config, "lr_decay_start", 0.0, 1.0)
    require(config, "lr", 1e-8, 1.0)
    require(config, "beta1", 0.0, 0.9999)
    require(config, "ema_steps", 1)
    require(config, "init_std", 1e-4, 1.0)
    require(config, "shift", 0, 8)
    for name in ("drop_in", "drop_hidden", "negative_slope"):
        require(config, name, 0.0, 0.95)
