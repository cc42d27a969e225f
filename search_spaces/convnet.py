"""ConvNet: SSL-GAN's discriminator trained on the labelled images alone, what its generator must beat.

Source: Lecouat et al., "Semi-supervised deep learning for abnormality classification in retinal images",
arXiv:1812.07832 (2018), whose baseline shares the network and its hyperparameters with the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.augmentation import NO_MOTION, AugmentedConfig
from search_spaces.core.config import MethodConfig, require
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, Float
from search_spaces.core.schedule import ScheduledConfig

MIN_SIDE = {"dr": 25, "conv_large": 9}
"""Smallest side of images, by tail: two strides of 2 must leave it 7 × 7 or 3 × 3 pixels."""

PAPER: Mapping[str, Any] = {
    "width": 96,
    "drop_in": 0.2,
    "drop_hidden": 0.5,
    "batch_size": 100,
    "lr": 3e-4,
    "flip": True,
    "flip_vertical": True,
    **NO_MOTION,
    "shift": 2 / 32,
    "schedule": "linear",
    "decay_start": 1000 / 1200,
    "warm_up": 0.0,
    "average": 0.01,
}
"""Settings of the paper that `convnet` and `ssl_gan` share; its average, of decay 0.999, is over a hundredth of its
steps."""


@dataclass(frozen=True, kw_only=True)
class ConvnetConfig(ScheduledConfig, AugmentedConfig):
    """Defaults are those of `ssl_gan`, so that the two differ only in what unlabelled images add."""

    image_size: int = 32
    """Side in pixels at which images reach the network; others are resized on the device. Source: paper."""

    # Network
    width: Annotated[int, Choice(16, 32, 64, 96)] = 32
    """Channels of the first three convolutions; the others have twice as many. Source: paper, Table 3, 96."""

    tail: Literal["dr", "conv_large"] = "dr"
    """Last 3 × 3 convolutions: two with stride 2, as in the paper, or one with stride 1, as in improved-gan."""

    drop_in: Annotated[float, Float(0.0, 0.3)] = 0.05
    """Dropout of pixels. Source: paper, Table 3, 0.2."""

    drop_hidden: Annotated[float, Float(0.0, 0.6)] = 0.1
    """Dropout after each stride of the first two. Source: paper, Table 3, 0.5."""

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
    batch_size: Annotated[int, Choice(32, 64, 100, 128)] = 32
    """Labelled images per step, each as often as it takes. Source: paper, Table 6, 100."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated; nothing else depends on it. Ours."""

    # Optimisation
    lr: Annotated[float, Float(1e-4, 1e-2, log=True)] = 2e-3
    """Adam step size. Source: ours; paper, Table 6, 3e-4."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.5
    """Adam first-moment decay. Source: paper, Table 6."""

    # Images
    class_balance: bool = False
    """Let labelled batches hold all classes alike; images are then drawn with replacement. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": PAPER,
        "small": {"width": 16},
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
    require(config, "lr", 1e-8, 1.0)
    require(config, "beta1", 0.0, 0.9999)
    require(config, "init_std", 1e-4, 1.0)
    for name in ("drop_in", "drop_hidden", "negative_slope"):
        require(config, name, 0.0, 0.95)
