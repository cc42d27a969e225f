"""SPARSE: three networks, pseudo-labels by percentile, class-conditioned translation.

Source: Manni et al., "SPARSE data, rich results: few-shot semi-supervised learning via class-conditioned
image translation", Comput. Med. Imaging Graph. 128:102705 (2026), arXiv:2508.06429. The paper and its
published code are materially different algorithms; both are presets of this class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.augmentation import NO_MOTION, AugmentedConfig
from search_spaces.core.config import require
from search_spaces.core.ranges import Choice, Float, Int, When
from search_spaces.core.schedule import CONSTANT_RATE, NO_AVERAGE, ScheduledConfig

_PAPER: Mapping[str, Any] = {
    "classifier": "efficientnet_b3",
    "dropout": 0.3,
    "drop_path": 0.2,
    "batch_size": 24,
    "fill_batches": False,
    "w_syn": 1.0,
    "mu": 10,
    "unsup_fraction": 1.0,
    "lr": 2e-4,
    "lr_ratio_classifier": 1.0,
    "weight_decay_classifier": 1e-4,
    "w_mixup": 0.5,
    "mixup_alpha": 0.2,
    "flip": True,
    **NO_MOTION,
    **CONSTANT_RATE,
    **NO_AVERAGE,
}
"""What paper and published code have in common, where it is not the default."""


@dataclass(frozen=True, kw_only=True)
class SparseConfig(ScheduledConfig, AugmentedConfig):
    """Defaults are ours; `paper` is what the paper describes, with its sign error corrected, `reference` its code."""

    # Networks
    width: int = 64
    """Channels of the generator's first stage; the others are multiples. Source: code."""

    critic_width: int = 64
    """Channels of the discriminator's first convolution; doubled at every stride. Source: code."""

    classifier: str = "resnet18"
    """timm model name. Source: ours; paper efficientnet_b3."""

    pretrained: str = ""
    """Empty: random weights. Otherwise a timm tag (`ra2_in1k`), the path of a file, or `lite0` … `lite2`."""

    dropout: Annotated[float, Float(0.0, 0.5)] = 0.0
    """Dropout before the classifier's last layer. Source: ours; code 0.3."""

    drop_path: float = 0.0
    """Stochastic depth rate of the classifier. Source: ours; torchvision's EfficientNet, used by the code, 0.2."""

    head_init: Literal["linear", "network"] = "linear"
    """Start of the classifier's last layer: torch's for a linear layer, as in SPARSE's code, or timm's for this model,
    whose first logits may be twenty times as large."""

    generator_output: Literal["linear", "sigmoid"] = "linear"
    """Range of translations: unbounded, as in the code, or squashed to the range of images. Ours."""

    # Schedule
    batch_size: Annotated[int, Choice(8, 16, 24, 32, 64)] = 32
    """Images per step, labelled and unlabelled, at most. Source: ours; code 24."""

    mu: Annotated[int, Choice(1, 2, 5, 10, 25, 50)] = 25
    """Epochs between unsupervised phases; 0 means never. Source: ours; paper, Fig. 2, 10."""

    unsup_warmup: Annotated[int, Int(0, 50), When("mu", above=0)] = 0
    """Epochs before the first unsupervised phase. Ours: the first pseudo-labels are noise."""

    unsup_fraction: Annotated[float, Float(0.02, 1.0, log=True), When("mu", above=0)] = 0.05
    """Share of the unlabelled images used in each unsupervised phase. Small, so that the few labelled ones are
    not lost among them. Source: ours; paper 1."""

    n_critic: Annotated[int, Int(1, 5), When("mu", above=0)] = 1
    """Discriminator steps per step of generator and classifier. Source: paper uses 1."""

    # Optimisation
    lr: Annotated[float, Float(2e-5, 5e-3, log=True)] = 5e-4
    """AdamW step size of all three networks. Source: ours; paper 2e-4."""

    lr_ratio_critic: Annotated[float, Float(0.2, 5.0, log=True)] = 1.0
    """The discriminator's step size, relative to `lr`. Ours."""

    lr_ratio_classifier: Annotated[float, Float(0.2, 10.0, log=True)] = 4.0
    """The classifier's step size, relative to `lr`. Source: ours; paper 1."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.5
    """AdamW first-moment decay. Source: code."""

    weight_decay: Annotated[float, Float(1e-6, 5e-2, log=True)] = 1e-2
    """AdamW decoupled decay of generator and discriminator. Source: code."""

    weight_decay_classifier: Annotated[float, Float(1e-6, 1e-1, log=True)] = 1e-2
    """AdamW decoupled decay of the classifier. Source: ours; code 1e-4."""

    stratify: bool = False
    """Spread the classes evenly over the labelled batches, where there are several. Ours."""

    fill_batches: bool = True
    """Repeat labelled images, changed anew each time, until they fill a batch: of few labels batches are else so small
    that BatchNorm sees noise. Ours."""

    # Supervised phase
    w_proto: Annotated[float, Float(0.1, 3.0, log=True)] = 1.0
    """Weight of the prototype loss. Source: paper."""

    proto_temperature: Annotated[float, Float(0.05, 4.0, log=True), When("w_proto", above=0)] = 2.0
    """Softmax temperature of the prototypes (T). Source: paper 2.0, code 0.1."""

    proto_source: Literal["batch", "bank"] = "batch"
    """Whose predictions make a prototype: the batch's own, or also the latest of all other labelled images. Ours."""

    w_mutual: Annotated[float, Float(0.01, 1.0, log=True), When("mutual_gradient", equals=True)] = 0.1
    """Weight of mutual learning (α). Source: paper."""

    lambda_kl: Annotated[float, Float(0.05, 5.0, log=True), When("w_mutual", above=0)] = 0.5
    """Weight of the divergence from the peers inside mutual learning. Source: paper."""

    w_entropy: Annotated[float, Float(1e-3, 0.3, log=True)] = 0.01
    """Weight of entropy minimisation (β). Source: paper 0.01, code 0.1."""

    w_mixup: Annotated[float, Float(0.0, 2.0)] = 1.0
    """Weight of the mixup loss (γ). Source: code; paper 0.5."""

    mixup_alpha: Annotated[float, Float(0.05, 1.0, log=True), When("w_mixup", above=0)] = 0.4
    """Both parameters of mixup's Beta distribution. Source: ours; paper 0.2."""

    w_bce: Annotated[float, Float(0.0, 1.0)] = 0.0
    """Weight of a plain binary cross-entropy of discriminator and classifier. Source: code 1.0."""

    # Pseudo-labels
    percentile: Annotated[float, Float(0.0, 0.95), When("mu", above=0), When("mask", equals=True)] = 0.75
    """Share of each unlabelled batch that is dropped as least confident (ρ): a rank, not a probability."""

    ens_temperature: Annotated[float, Float(0.25, 4.0, log=True), When("mu", above=0)] = 2.0
    """Softmax temperature of the pseudo-label vote. Source: paper 2.0, code 0.5."""

    ens_blend: Annotated[float, Float(0.3, 1.0), When("mu", above=0), When("temporal_ensemble", equals=True)] = 0.6
    """Share of the current vote beside the temporal ensemble. Source: paper."""

    ema_momentum: Annotated[float, Float(0.5, 0.99), When("mu", above=0), When("temporal_ensemble", equals=True)] = 0.99
    """Decay of the temporal ensemble, one update per unsupervised phase. Source: paper."""

    mask_scope: Annotated[Literal["all", "labels"], Choice("all", "labels"), When("percentile", above=0)] = "all"
    """Scope of the percentile: it drops images from every unsupervised loss, or only from those that use labels."""

    percentile_by_class: Annotated[bool, Choice(True, False), When("percentile", above=0)] = False
    """Drop that share of the images that are named each class, rather than of all: where classes are of unequal size
    the rare ones would go without pseudo-labels. Ours."""

    pseudo_label_mode: Literal["train", "eval"] = "train"
    """Mode of the classifier when it votes: with dropout and batch statistics, or as in prediction. Source: code."""

    # Translation
    lambda_rec: Annotated[float, Float(1.0, 50.0, log=True), When("mu", above=0)] = 10.0
    """Weight of the cycle reconstruction. Source: paper."""

    lambda_gp: Annotated[float, Float(1.0, 30.0, log=True), When("mu", above=0)] = 10.0
    """Weight of the gradient penalty. Source: paper."""

    lambda_cls_d: Annotated[float, Float(0.1, 5.0, log=True), When("mu", above=0)] = 1.0
    """Weight of the pseudo-labels in the discriminator's loss. Source: paper."""

    lambda_cls_g: Annotated[float, Float(0.1, 5.0, log=True), When("mu", above=0)] = 1.0
    """Weight of the discriminator's class head in the generator's loss. Source: paper."""

    lambda_cls_gg: Annotated[float, Float(0.1, 5.0, log=True), When("mu", above=0)] = 1.0
    """Weight of the generator's own class head in its loss. Source: paper."""

    w_syn: Annotated[float, Float(0.05, 2.0, log=True), When("mu", above=0)] = 0.3
    """Weight of translated images for the classifier. They have steps of their own, whose size it scales: AdamW would
    divide a weight of the loss out. Source: ours; paper 1."""

    w_pseudo: Annotated[float, Float(0.0, 2.0), When("mu", above=0)] = 0.0
    """Weight of the pseudo-labels of real images for the classifier, in steps of their own as with `w_syn`. In the
    paper only the discriminator learns from them. Ours."""

    # What paper and published code do differently
    class_loss: Literal["ce", "bce_sum"] = "ce"
    """Class losses of the unsupervised phase: cross-entropy, or binary cross-entropy summed over classes."""

    mutual_gradient: bool = True
    """Give mutual learning a gradient; in the published code it is a constant."""

    normalise_vote: bool = True
    """Divide the confidence-weighted vote by the sum of its weights."""

    temporal_ensemble: bool = True
    """Keep votes of earlier phases per image."""

    mask: bool = True
    """Apply `percentile` at all; the published code does not."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _PAPER,
        "reference": {
            **_PAPER,
            "mu": 5,
            "proto_temperature": 0.1,
            "lambda_kl": 0.1,
            "w_entropy": 0.1,
            "w_mixup": 1.0,
            "w_bce": 1.0,
            "ens_temperature": 0.5,
            "ens_blend": 0.7,
            "class_loss": "bce_sum",
            "mutual_gradient": False,
            "normalise_vote": False,
            "temporal_ensemble": False,
            "mask": False,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "critic_width"):
            require(self, name, 1, 1024)
        require(self, "image_size", 16, 1024)
        require(self, "batch_size", 2, 4096)
        for name in ("mu", "unsup_warmup"):
            require(self, name, 0)
        require(self, "n_critic", 1, 100)
        require(self, "unsup_fraction", 1e-4, 1.0)
        require(self, "lr", 1e-8, 1.0)
        require(self, "beta1", 0.0, 0.9999)
        require(self, "percentile", 0.0, 0.99)
        require(self, "ens_blend", 0.0, 1.0)
        require(self, "ema_momentum", 0.0, 0.9999)
        require(self, "mixup_alpha", 1e-3, 10.0)
        for name in ("dropout", "drop_path"):
            require(self, name, 0.0, 0.95)
        for name in ("proto_temperature", "ens_temperature", "lr_ratio_critic", "lr_ratio_classifier"):
            require(self, name, 1e-3, 1e3)
        for name in (
            "weight_decay", "weight_decay_classifier", "w_proto", "w_mutual", "lambda_kl", "w_entropy", "w_mixup",
            "w_bce", "w_pseudo", "lambda_rec", "lambda_gp", "lambda_cls_d", "lambda_cls_g", "lambda_cls_gg", "w_syn",
        ):  # fmt: skip
            require(self, name, 0.0, 1e4)
