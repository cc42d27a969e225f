"""SSGNet: a StyleGAN3 per class enlarges the training set of a classifier.

Sources: "SSGNet", BMVC 2025, arXiv:2510.06123, below "paper", and its published code, below "code"; Karras et al.,
"Alias-free generative adversarial networks", arXiv:2106.12423, below "StyleGAN3"; Karras et al., "Training generative
adversarial networks with limited data", arXiv:2006.06676, below "ADA".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.errors import ConfigError
from search_spaces.core.generators import layers_for, require_channels, side_for
from search_spaces.core.ranges import Choice, Float, Int, When

_FEWEST_LAYERS = 3  # the last two have the bandwidth of the image already


@dataclass(frozen=True, kw_only=True)
class SsgnetConfig(MethodConfig):
    """Defaults are ours: small networks for small images and few shots, whose generators train on a CPU.

    `paper` is the publication at 256 px with its +20 % policy. Its generators see five million images before the
    classifier sees one, so a budget must be larger than that; in `real`, the control, there are no generators and the
    same budget goes to the classifier. The paper's other policies are `extra_ratio: 0` (balance) and `0.5` (+50 %). Its
    pretrained weights have to be there: set `pretrained`, and `freeze: backbone` for what the published code trains.
    """

    image_size: int = 32
    """Side in pixels at which images reach all networks; others are resized on the device. Generators make the next
    power of two, of which a border is cut off, and learn from images with a mirrored one. Source: paper 256."""

    # Training set
    synthetic: bool = True
    """Whether there are generators; without them the classifier learns from the labelled images alone."""

    extra_ratio: Annotated[float, Float(0.2, 50.0, log=True), When("synthetic", equals=True)] = 5.0
    """Synthetic images of every class, relative to `class_target`, beside those that fill it up to it. 0 only balances
    classes, which of few shots are equal already. Source: paper 0.2 and 0.5 of full data (ρ); for few shots ours."""

    class_target: int = 0
    """Images to which every class is filled up before `extra_ratio` counts; 0: as many as the largest class has.
    Source: code."""

    synthetic_weight: Annotated[float, Float(0.1, 1.0), When("synthetic", equals=True)] = 1.0
    """Weight of a synthetic image in the classifier's loss, beside 1 of a real one. Source: paper 1."""

    max_synthetic: Annotated[float, Float(0.1, 1.0), When("synthetic", equals=True)] = 1.0
    """Largest share of synthetic images in a batch; where there are fewer, their share of the training set. Ours."""

    # Generators
    generator_images: Annotated[int, Int(8_000, 16_000, log=True), When("synthetic", equals=True)] = 8_000
    """Real images that the generators see, those of all classes together; they are part of the budget, with which this
    range should grow. Source: the paper is silent; StyleGAN3 calls five million of each class reasonable."""

    generator_init: Annotated[
        Literal["scratch", "unlabelled_pretrain"],
        Choice("scratch", "unlabelled_pretrain"),
        When("synthetic", equals=True),
    ] = "scratch"
    """Where a class's generator starts: at random weights, or at those of one that was trained on all training images,
    the unlabelled ones included. The second is our extension: of five images a generator remembers five images."""

    pretrain_images: Annotated[
        int, Int(2_000, 8_000, log=True), When("generator_init", equals="unlabelled_pretrain")
    ] = 8_000
    """Images that the common generator sees before, beside `generator_images`. Ours."""

    freeze_critic: Annotated[int, Int(0, 10), When("generator_init", equals="unlabelled_pretrain")] = 0
    """Convolutions of the common critic, from the image on, that keep their weights. Source: arXiv:2002.10964, as in
    StyleGAN3's code."""

    generator_batch: Annotated[int, Choice(8, 16, 32, 64), When("synthetic", equals=True)] = 16
    """Images per step of generator and critic. Source: code 32."""

    generator_layers: int = 0
    """Synthesis layers besides the last; 0: 6, 8, 10 or 14 for up to 32, 64, 128 px and more, so that the sampling rate
    never rises by more than a factor of 2. Source: StyleGAN3 14."""

    generator_width: Annotated[int, Choice(16, 32, 64, 128, 256, 512), When("synthetic", equals=True)] = 64
    """Most channels of a layer, of generator and critic. Source: StyleGAN3 512."""

    generator_channel_base: int = 1024
    """Channels of a layer times its bandwidth or side, where that is below `generator_width`. Source: StyleGAN3,
    32768."""

    z_dim: int = 64
    """Normal numbers from which an image is generated, and length of a style. Source: StyleGAN3 512."""

    mapping_layers: Annotated[int, Int(2, 8), When("synthetic", equals=True)] = 2
    """Layers from these numbers to a style. Source: StyleGAN3."""

    generator_lr: Annotated[float, Float(5e-4, 5e-3, log=True), When("synthetic", equals=True)] = 2.5e-3
    """Adam step size of generators. Source: StyleGAN3."""

    critic_lr: Annotated[float, Float(5e-4, 5e-3, log=True), When("synthetic", equals=True)] = 2e-3
    """Adam step size of critics. Source: StyleGAN3."""

    r1_weight: Annotated[float, Float(0.125, 16.0, log=True), When("synthetic", equals=True)] = 1.0
    """Gradient penalty of critics (γ), relative to side² / 32768: what matters most. Source: StyleGAN3 at batch 32, and
    the code's 2 at 256 px."""

    r1_interval: Annotated[int, Choice(4, 8, 16), When("synthetic", equals=True)] = 16
    """Steps between two gradient penalties, each so much heavier. Source: StyleGAN3."""

    mbstd_group: Annotated[int, Choice(2, 4, 8), When("synthetic", equals=True)] = 4
    """Images whose deviation a critic sees together. Source: StyleGAN3."""

    ema_share: Annotated[float, Float(0.002, 0.05, log=True), When("synthetic", equals=True)] = 0.05
    """Half-life of the weights' average that samples, as a share of the images that a generator sees. Source: 10,000
    images at batch 32, in StyleGAN3; in short runs ours."""

    magnitude_share: Annotated[float, Float(0.002, 0.1, log=True), When("synthetic", equals=True)] = 0.1
    """Half-life of the average that normalises magnitudes, as such a share. Source: 20,000 images, in StyleGAN3."""

    # Their augmentation
    augment: Annotated[
        Literal["ada", "fixed", "none"], Choice("ada", "fixed", "none"), When("synthetic", equals=True)
    ] = "ada"
    """How likely images are changed before a critic sees them: as it overfits, always `augment_p`, or never.
    Source: ADA."""

    ada_target: Annotated[float, Float(0.4, 0.8), When("synthetic", equals=True), When("augment", equals="ada")] = 0.6
    """Mean sign of a critic's judgement of real images, above which it overfits. Source: ADA."""

    ada_share: Annotated[
        float, Float(0.02, 0.5, log=True), When("synthetic", equals=True), When("augment", equals="ada")
    ] = 0.1
    """Share of a generator's images within which the probability can rise from 0 to 1. Source: ADA 500,000 images."""

    augment_p: float = 0.2
    """Probability with `augment: fixed`. Source: ADA."""

    augment_operations: Literal["b", "bg", "bgc"] = "bg"
    """Which: pixel blitting, geometry, colour. Source: ADA, all three; without colour ours, as grey values have a
    meaning."""

    generator_mirror: bool = False
    """Mirror real images left-right at random before a critic sees them: generators then make both. Source: code."""

    # Bank
    truncation: Annotated[float, Float(0.5, 1.0), When("synthetic", equals=True)] = 1.0
    """How far samples are from the mean style (ψ): less is safer and more alike. Source: code."""

    feature_network: str = "random"
    """Whose features kernel and Fréchet distances are those of, for the log alone: `random`, a small network with fixed
    weights, `timm:MODEL`, or `timm:MODEL:WEIGHTS` with a file or tag. Distances by other networks do not compare."""

    score_images: int = 256
    """Synthetic images of a class for such a distance. Ours."""

    # Classifier
    classifier: str = "resnet18"
    """timm model name. Source: paper, resnet50."""

    pretrained: str = ""
    """Empty: random weights. Otherwise a timm tag (`a1_in1k`) or the path of a weights file."""

    freeze: Literal["none", "backbone"] = "none"
    """What keeps its weights: nothing, or all but the last layer. Source: code, all but its head."""

    batch_size: Annotated[int, Choice(16, 32, 64, 128)] = 32
    """Images per step of the classifier. Source: paper 64."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated, of a generator or of the classifier. Ours."""

    lr: Annotated[float, Float(1e-5, 1e-2, log=True)] = 3e-4
    """AdamW step size before the first plateau. Source: paper 5e-3."""

    weight_decay: Annotated[float, Float(1e-6, 1e-1, log=True)] = 1e-4
    """AdamW decoupled decay. Source: paper, Adam without."""

    patience: Annotated[int, Int(2, 1000, log=True)] = 20
    """Epochs, of a few steps each, in a row without a lower training loss after which the step size falls. Source:
    code, 3 whole passes; `paper` has about those of its chest X-rays."""

    plateau_factor: float = 0.1
    """By which the step size is multiplied at a plateau; 1 keeps it constant. Source: code."""

    flip: bool = False
    """Mirror the classifier's training images left-right at random. Source: code."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "image_size": 256,
            "extra_ratio": 0.2,
            "generator_images": 5_000_000,
            "generator_batch": 32,
            "generator_width": 512,
            "generator_channel_base": 32768,
            "z_dim": 512,
            "ema_share": 0.004,
            "magnitude_share": 0.008,
            "ada_share": 0.2,
            "augment_operations": "bgc",
            "classifier": "resnet50",
            "batch_size": 64,
            "lr": 5e-3,
            "weight_decay": 0.0,
            "patience": 45,
        },
        "real": {"synthetic": False},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "image_size", 9, 1024)
        for name in ("generator_images", "pretrain_images", "generator_layers", "class_target", "freeze_critic"):
            require(self, name, 0)
        for name in ("steps_per_epoch", "patience", "score_images"):
            require(self, name, 1)
        require(self, "mapping_layers", 1, 16)
        require(self, "generator_channel_base", 16)
        for name in ("generator_width", "z_dim"):
            require(self, name, 1, 4096)
        for name in ("batch_size", "generator_batch", "mbstd_group"):
            require(self, name, 2, 4096)
        require(self, "r1_interval", 1, 1024)
        for name in ("lr", "generator_lr", "critic_lr"):
            require(self, name, 1e-8, 1.0)
        for name in ("r1_weight", "extra_ratio", "weight_decay", "synthetic_weight"):
            require(self, name, 0.0, 1e4)
        for name in ("ema_share", "magnitude_share", "ada_share", "plateau_factor"):
            require(self, name, 1e-4, 1.0)
        require(self, "ada_target", -1.0, 1.0)
        for name in ("augment_p", "truncation", "max_synthetic"):
            require(self, name, 0.0, 1.0)
        if 0 < self.generator_layers < _FEWEST_LAYERS:
            raise ConfigError(
                f"SsgnetConfig.generator_layers: {self.generator_layers} is impossible, expected at least "
                f"{_FEWEST_LAYERS}, or 0 for as many as suit the side"
            )
        require_channels(self, self.generator_channel_base, self.generator_side)
        group = min(self.mbstd_group, self.generator_batch)
        if self.generator_batch % group:
            raise ConfigError(
                f"SsgnetConfig.generator_batch: {self.generator_batch} is impossible with mbstd_group {group}, "
                "expected a multiple of it"
            )

    @property
    def generator_side(self) -> int:
        """Side in pixels of the images that generators make: the next power of two, at least 16."""
        return side_for(self.image_size)

    @property
    def num_layers(self) -> int:
        """Synthesis layers besides the last, as set or by the rule for this side."""
        return self.generator_layers or layers_for(self.generator_side)
