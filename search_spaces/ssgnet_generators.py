"""SSGNet's generators alone: a StyleGAN3 per class, judged by how far its images are from held-out ones.

Sources: "SSGNet", BMVC 2025, arXiv:2510.06123, and its published code, below "code"; Karras et al., "Alias-free
generative adversarial networks", arXiv:2106.12423, below "StyleGAN3"; Karras et al., "Training generative adversarial
networks with limited data", arXiv:2006.06676, below "ADA".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.errors import ConfigError
from search_spaces.core.generators import layers_for, require_channels, side_for
from search_spaces.core.ranges import Choice, Float, Int, When

_MIN_LAYERS = 3  # the last two have the bandwidth of the image already


@dataclass(frozen=True, kw_only=True)
class SsgnetGeneratorsConfig(MethodConfig):
    """Defaults are ours: small networks for small images and few shots, which train on a CPU.

    `paper` is the publication at 256 px: five million images before the first score, so a budget must be larger than
    that.
    """

    image_size: int = 32
    """Side in pixels at which images reach all networks; others are resized on the device. Generators make the next
    power of two, of which a border is cut off, and learn from images with a mirrored one. Source: paper 256."""

    generator_images: Annotated[int, Int(8_000, 16_000, log=True)] = 8_000
    """Real images that the generators see, those of all classes together; they are part of the budget, with which this
    range should grow. Source: the paper is silent; StyleGAN3 calls five million of each class reasonable."""

    generator_init: Annotated[
        Literal["scratch", "unlabelled_pretrain"],
        Choice("scratch", "unlabelled_pretrain"),
    ] = "scratch"
    """Start of a class's generator: at random weights, or at those of one that was trained on all training images,
    the unlabelled ones included. The second is our extension: of five images a generator remembers five images."""

    pretrain_images: Annotated[
        int, Int(2_000, 8_000, log=True), When("generator_init", equals="unlabelled_pretrain")
    ] = 8_000
    """Images that the common generator sees before, beside `generator_images`. Ours."""

    freeze_critic: Annotated[int, Int(0, 10), When("generator_init", equals="unlabelled_pretrain")] = 0
    """Convolutions of the common discriminator, from the image on, that keep their weights. Source: arXiv:2002.10964,
    as in StyleGAN3's code."""

    generator_batch: Annotated[int, Choice(8, 16, 32, 64)] = 16
    """Images per step of generator and discriminator. Source: code 32."""

    generator_layers: int = 0
    """Synthesis layers besides the last; 0: 6, 8, 10 or 14 for up to 32, 64, 128 px and more, so that the sampling rate
    never rises by more than a factor of 2. Source: StyleGAN3 14."""

    generator_width: Annotated[int, Choice(16, 32, 64, 128, 256, 512)] = 64
    """Most channels of a layer, of generator and discriminator. Source: StyleGAN3 512."""

    generator_channel_base: int = 1024
    """Channels of a layer times its bandwidth or side, where that is below `generator_width`. Source: StyleGAN3,
    32768."""

    z_dim: int = 64
    """Normal numbers from which an image is generated, and length of a style. Source: StyleGAN3 512."""

    mapping_layers: Annotated[int, Int(2, 8)] = 2
    """Layers from these numbers to a style. Source: StyleGAN3."""

    generator_lr: Annotated[float, Float(5e-4, 5e-3, log=True)] = 2.5e-3
    """Adam step size of generators. Source: StyleGAN3."""

    critic_lr: Annotated[float, Float(5e-4, 5e-3, log=True)] = 2e-3
    """Adam step size of discriminators. Source: StyleGAN3."""

    r1_weight: Annotated[float, Float(0.125, 16.0, log=True)] = 1.0
    """Gradient penalty of discriminators (γ), relative to side² / 32768: what matters most. Source: StyleGAN3 at batch
    32, and the code's 2 at 256 px."""

    r1_interval: Annotated[int, Choice(4, 8, 16)] = 16
    """Steps between two gradient penalties, each so much heavier. Source: StyleGAN3."""

    mbstd_group: Annotated[int, Choice(2, 4, 8)] = 4
    """Images whose deviation a discriminator sees together. Source: StyleGAN3."""

    ema_share: Annotated[float, Float(0.002, 0.05, log=True)] = 0.05
    """Half-life of the weights' average that samples, as a share of the images that a generator sees. Source: 10,000
    images at batch 32, in StyleGAN3; in short runs ours."""

    magnitude_share: Annotated[float, Float(0.002, 0.1, log=True)] = 0.1
    """Half-life of the average that normalises magnitudes, as such a share. Source: 20,000 images, in StyleGAN3."""

    # Augmentation
    augment: Annotated[Literal["ada", "fixed", "none"], Choice("ada", "fixed", "none")] = "ada"
    """Probability of changing images before a discriminator sees them: as it overfits, always `augment_p`, or never.
    Source: ADA."""

    ada_target: Annotated[float, Float(0.4, 0.8), When("augment", equals="ada")] = 0.6
    """Mean sign of a discriminator's judgement of real images, above which it overfits. Source: ADA."""

    ada_share: Annotated[float, Float(0.02, 0.5, log=True), When("augment", equals="ada")] = 0.1
    """Share of a generator's images within which the probability can rise from 0 to 1. Source: ADA 500,000 images."""

    augment_p: float = 0.2
    """Probability with `augment: fixed`. Source: ADA."""

    augment_operations: Literal["b", "bg", "bgc"] = "bg"
    """Which: pixel blitting, geometry, colour. Source: ADA, all three; without colour ours, as grey values have a
    meaning."""

    generator_mirror: bool = False
    """Mirror real images left-right at random before a discriminator sees them: generators then make both. Source:
    code."""

    # Samples and their scores
    truncation: Annotated[float, Float(0.5, 1.0)] = 1.0
    """Distance of samples from the mean style (ψ): less is safer and more alike. Source: code."""

    feature_network: str = "random"
    """Whose features kernel and Fréchet distances are those of, in `ssgnet` for the log alone: `random`, a small
    network with fixed weights, `timm:MODEL`, or `timm:MODEL:WEIGHTS` with a file or tag. Distances by other networks
    do not compare."""

    score_images: int = 256
    """Synthetic images of a class for such a distance. Ours."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "image_size": 256,
            "generator_images": 5_000_000,
            "generator_batch": 32,
            "generator_width": 512,
            "generator_channel_base": 32768,
            "z_dim": 512,
            "ema_share": 0.004,
            "magnitude_share": 0.008,
            "ada_share": 0.2,
            "augment_operations": "bgc",
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "image_size", 9, 1024)
        for name in ("generator_images", "pretrain_images", "generator_layers", "freeze_critic"):
            require(self, name, 0)
        for name in ("steps_per_epoch", "score_images"):
            require(self, name, 1)
        require(self, "mapping_layers", 1, 16)
        require(self, "generator_channel_base", 16)
        for name in ("generator_width", "z_dim"):
            require(self, name, 1, 4096)
        for name in ("generator_batch", "mbstd_group"):
            require(self, name, 2, 4096)
        require(self, "r1_interval", 1, 1024)
        for name in ("generator_lr", "critic_lr"):
            require(self, name, 1e-8, 1.0)
        require(self, "r1_weight", 0.0, 1e4)
        for name in ("ema_share", "magnitude_share", "ada_share"):
            require(self, name, 1e-4, 1.0)
        require(self, "ada_target", -1.0, 1.0)
        for name in ("augment_p", "truncation"):
            require(self, name, 0.0, 1.0)
        if 0 < self.generator_layers < _MIN_LAYERS:
            raise ConfigError(
                f"{type(self).__name__}.generator_layers: {self.generator_layers} is impossible, expected at least "
                f"{_MIN_LAYERS}, or 0 for as many as suit the side"
            )
        require_channels(self, self.generator_channel_base, self.generator_side)
        group = min(self.mbstd_group, self.generator_batch)
        if self.generator_batch % group:
            raise ConfigError(
                f"{type(self).__name__}.generator_batch: {self.generator_batch} is impossible with mbstd_group "
                f"{group}, expected a multiple of it"
            )

    @property
    def generator_side(self) -> int:
        """Side in pixels of the images that generators make: the next power of two, at least 16."""
        return side_for(self.image_size)

    @property
    def num_layers(self) -> int:
        """Synthesis layers besides the last, as set or by the rule for this side."""
        return self.generator_layers or layers_for(self.generator_side)
