"""SSGNet for masks: one StyleGAN3 makes pictures, whose masks a segmenter gives itself, round after round.

Sources: "SSGNet", BMVC 2025, arXiv:2510.06123, below "paper", and its published code, below "code"; Karras et al.,
"Alias-free generative adversarial networks", arXiv:2106.12423, below "StyleGAN3".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.config import require
from search_spaces.core.errors import ConfigError
from search_spaces.core.generators import require_channels, side_for
from search_spaces.core.ranges import Choice, Float, Int, When
from search_spaces.segmenter import SegmenterConfig


@dataclass(frozen=True, kw_only=True)
class SsgnetSegmenterConfig(SegmenterConfig):
    """The segmenter's settings are those of `segmenter`, which at the same budget is the control without a generator.

    The generator's length and that of the rounds are parts of the budget: `generator_images`, then (`rounds` + 1) ×
    `round_images`, of which the last round takes what is left.
    """

    # Generator
    generator_images: Annotated[int, Int(4_000, 16_000, log=True)] = 8_000
    """Real pictures that the generator sees. Source: the paper is silent; StyleGAN3 calls five million reasonable."""

    generator_init: Annotated[Literal["scratch", "unlabelled_pretrain"], Choice("scratch", "unlabelled_pretrain")] = (
        "unlabelled_pretrain"
    )
    """Start of the generator: at random weights, or after it has learned from all training pictures, the unlabelled
    ones included. The second is our extension, as of five pictures a generator remembers five pictures."""

    pretrain_images: Annotated[
        int, Int(2_000, 8_000, log=True), When("generator_init", equals="unlabelled_pretrain")
    ] = 4_000
    """Pictures that it sees then, beside `generator_images`. Ours."""

    generator_batch: int = 16
    """Pictures per step of generator and discriminator. Source: code 32."""

    generator_width: Annotated[int, Choice(16, 32, 64, 128, 256, 512)] = 64
    """Most channels of a layer, of generator and discriminator. Source: StyleGAN3 512."""

    generator_channel_base: int = 1024
    """Channels of a layer times its bandwidth or side, where that is below `generator_width`. Source: StyleGAN3,
    32768."""

    z_dim: int = 64
    """Normal numbers from which a picture is generated, and length of a style. Source: StyleGAN3 512."""

    generator_lr: Annotated[float, Float(5e-4, 5e-3, log=True)] = 2.5e-3
    """Adam step size of the generator; the discriminator's is four fifths of it. Source: StyleGAN3."""

    r1_weight: Annotated[float, Float(0.125, 16.0, log=True)] = 1.0
    """Gradient penalty of the discriminator (γ), relative to side² / 32768. Source: StyleGAN3 at batch 32."""

    # Bank
    synthetic_images: Annotated[int, Int(50, 1_000, log=True)] = 200
    """Pictures that the generator makes. Source: paper 10,000."""

    truncation: Annotated[float, Float(0.5, 1.0)] = 1.0
    """Distance of samples from the mean style (ψ): less is safer and more alike. Source: code."""

    max_synthetic: Annotated[float, Float(0.1, 0.85)] = 0.5
    """Largest share of synthetic pictures in a batch; where there are fewer, their share of all pictures. Source:
    paper, their share, 0.84 of ISIC; a half is ours."""

    # Rounds
    rounds: Annotated[int, Choice(1, 2, 3)] = 2
    """Trainings with pseudo-labelled masks, after the first one without. Source: paper."""

    round_images: Annotated[int, Int(2_000, 8_000, log=True)] = 4_000
    """Pictures of a training but the last. Source: code, 4,000 steps."""

    round_init: Annotated[Literal["scratch", "warm"], Choice("scratch", "warm")] = "scratch"
    """Start of a round: a fresh network, or the last one's. Source: code."""

    pixel_confidence: Annotated[float, Float(0.5, 0.95)] = 0.5
    """Pixels whose likelier class is less likely do not count; 0.5 leaves none out. Ours; the paper filters nothing."""

    keep_fraction: Annotated[float, Float(0.2, 1.0)] = 1.0
    """Synthetic pictures that take part, those with the surest masks. Ours."""

    soft: bool = False
    """Use the probabilities themselves as targets. Ours."""

    mask_threshold: float = 0.5
    """From this probability on a pixel is foreground. Source: code."""

    min_foreground: float = 0.0
    """Least share of foreground in a mask that takes part; any number above 0 leaves out empty masks. Ours."""

    max_foreground: float = 1.0
    """Greatest share. Ours."""

    min_agreement: float = 0.0
    """Least Dice of a mask and that of the round before, from the second round on. Ours."""

    average_flips: bool = False
    """Make masks from the mean prediction for a picture and its mirror images. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {
            **preset,
            "generator_images": 5_000_000,
            "generator_init": "scratch",
            "generator_batch": 32,
            "generator_width": 512,
            "generator_channel_base": 32768,
            "z_dim": 512,
            "r1_weight": 1.0,
            "synthetic_images": 10_000,
            "max_synthetic": 0.85,
            "round_images": 128_000,
        }
        for name, preset in SegmenterConfig.presets.items()
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generator_images", "round_images", "rounds", "synthetic_images"):
            require(self, name, 1)
        require(self, "pretrain_images", 0)
        require(self, "generator_batch", 2, 4096)
        for name in ("generator_width", "z_dim"):
            require(self, name, 1, 4096)
        require(self, "generator_channel_base", 16)
        require(self, "generator_lr", 1e-8, 1.0)
        require(self, "r1_weight", 0.0, 1e4)
        require(self, "pixel_confidence", 0.5, 1.0)
        for name in (
            "truncation", "max_synthetic", "keep_fraction", "mask_threshold", "min_foreground", "max_foreground",
            "min_agreement",
        ):  # fmt: skip
            require(self, name, 0.0, 1.0)
        if self.min_foreground > self.max_foreground:
            raise ConfigError(
                f"SsgnetSegmenterConfig.min_foreground: {self.min_foreground:g} is above max_foreground, "
                f"{self.max_foreground:g}, so no mask takes part; expected at most that"
            )
        require_channels(self, self.generator_channel_base, self.generator_side)
        if self.generator_batch % min(4, self.generator_batch):
            raise ConfigError(
                f"SsgnetSegmenterConfig.generator_batch: {self.generator_batch} is impossible, expected 2, 3 or a "
                "multiple of 4"
            )

    @property
    def generator_side(self) -> int:
        """Side in pixels of the pictures that the generator makes: the next power of two, at least 16."""
        return side_for(self.image_size)
