"""SSL-GAN: a classifier that also tells real images from generated ones, and a generator that matches its features.

Sources: Lecouat et al., "Semi-supervised deep learning for abnormality classification in retinal images",
arXiv:1812.07832 (2018), below "paper"; Salimans et al., "Improved techniques for training GANs", arXiv:1606.03498,
and its published code, below "improved-gan". Both are presets of this class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.convnet import PAPER, check_discriminator, check_side
from search_spaces.core.augmentation import AugmentedConfig
from search_spaces.core.config import require
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, Float
from search_spaces.core.schedule import ScheduledConfig

_PAPER: Mapping[str, Any] = {**PAPER, "generator_width": 512, "batch_unlabelled": 100, "lr_ratio_generator": 1.0}


@dataclass(frozen=True, kw_only=True)
class SslGanConfig(ScheduledConfig, AugmentedConfig):
    """Defaults are ours, narrow and quick; `paper` is what the paper says, at the 32 px of its text."""

    image_size: int = 32
    """Side in pixels at which images reach the networks; others are resized on the device. It must be 4, 5, 6 or 7
    times a power of two, as the generator doubles a first map of that side. Source: paper."""

    # Networks
    width: Annotated[int, Choice(16, 32, 64, 96)] = 32
    """Channels of the discriminator's first three convolutions; the others have twice as many. Source: paper,
    Table 3, 96."""

    generator_width: Annotated[int, Choice(64, 128, 256, 512)] = 128
    """Channels of the generator's first map; fewer in each larger one. Source: paper, Table 4, 512."""

    z_dim: Annotated[int, Choice(32, 64, 100, 128)] = 100
    """Uniform numbers from which an image is generated. Source: paper, Table 4."""

    tail: Literal["dr", "conv_large"] = "dr"
    """Last 3 × 3 convolutions: two with stride 2, as in the paper, or one with stride 1, as in improved-gan."""

    drop_in: Annotated[float, Float(0.0, 0.3)] = 0.05
    """Dropout of the discriminator's pixels. Source: paper, Table 3, 0.2."""

    drop_hidden: Annotated[float, Float(0.0, 0.6)] = 0.1
    """Dropout after each of the discriminator's first two strides. Source: paper, Table 3, 0.5."""

    negative_slope: float = 0.2
    """Slope of the discriminator's leaky ReLU. Source: paper, Table 6."""

    init_std: float = 0.05
    """Standard deviation of the first weights, of which data-dependent initialisation leaves the direction.
    Source: paper, Table 6."""

    ddi: bool = True
    """Start gains and biases so that every layer's output has mean 0 and deviation 1. Source: improved-gan."""

    train_gain: bool = False
    """Learn the gains of the discriminator's hidden layers; those of the last layers always are.
    Source: improved-gan."""

    # Schedule
    batch_size: Annotated[int, Choice(32, 64, 100, 128)] = 32
    """Labelled images per step, each as often as it takes. Source: paper, Table 6, 100."""

    batch_unlabelled: Annotated[int, Choice(32, 64, 100, 128)] = 32
    """Unlabelled images per step of each network, and as many generated ones. Source: paper, Table 6,
    100."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated; nothing else depends on it. Ours."""

    # Optimisation
    lr: Annotated[float, Float(1e-4, 1e-2, log=True)] = 2e-3
    """Adam step size of both networks. Source: ours; paper, Table 6, 3e-4."""

    lr_ratio_generator: Annotated[float, Float(0.3, 10.0, log=True)] = 3.0
    """The generator's step size, relative to `lr`. Source: ours; paper 1."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.5
    """Adam first-moment decay. Source: paper, Table 6."""

    # Losses
    unsup_weight: Annotated[float, Float(0.05, 5.0, log=True)] = 1.0
    """Weight of telling real from generated beside classification. Source: paper 1.0, improved-gan 0.5. Without it the
    method is `convnet`."""

    entropy_weight: Annotated[float, Float(0.0, 0.3)] = 0.0
    """Weight of the entropy of the classes of unlabelled images, to be small. Source: Dai et al., arXiv:1705.09783."""

    fm_weight: float = 1.0
    """Weight of feature matching. Adam divides it out unless `pull_away_weight` stands beside it. Source: paper."""

    fm_layer: Literal["pooled", "nin_map"] = "pooled"
    """Features that are matched: averaged over the last map, as in improved-gan, or each of its pixels. The same where
    that map is a single pixel, as up to 40 px with tail `dr`."""

    pull_away_weight: Annotated[float, Float(0.0, 0.3)] = 0.0
    """Weight of the likeness of generated images, to be small. Source: Dai et al., arXiv:1705.09783."""

    # Images
    class_balance: bool = False
    """Let labelled batches hold all classes alike; images are then drawn with replacement. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _PAPER,
        "improved_gan": {
            **_PAPER,
            "tail": "conv_large",
            "decay_start": 800 / 1200,
            "average": 0.02,
            "unsup_weight": 0.5,
            "shift": 0.0,
            "flip": False,
            "flip_vertical": False,
        },
        "small": {"width": 16, "generator_width": 64},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_side(self, self.tail)
        first_map(self.image_size)
        check_discriminator(self)
        require(self, "generator_width", 8, 4096)
        require(self, "z_dim", 1, 4096)
        require(self, "batch_unlabelled", 2, 4096)
        require(self, "lr_ratio_generator", 1e-3, 1e3)
        require(self, "unsup_weight", 1e-4, 1e4)
        require(self, "fm_weight", 1e-4, 1e4)
        for name in ("entropy_weight", "pull_away_weight"):
            require(self, name, 0.0, 1e4)


def first_map(side: int) -> tuple[int, int]:
    """Side of the generator's first map, 4 to 7, and how often it doubles to that of the image.

    Raises:
        ConfigError: no number of doublings leads there.
    """
    doublings = max(0, side.bit_length() - 3)
    first = side >> doublings
    if first << doublings != side:
        smaller, larger = first << doublings, (first + 1) << doublings
        raise ConfigError(
            f"SslGanConfig.image_size: {side} is impossible, as the generator doubles a map of 4 to 7 px; "
            f"the nearest sizes are {smaller} and {larger}"
        )
    return first, doublings
