"""Segmenter: VM-UNet or TransUNet trained on the pictures with masks alone.

Sources: "SSGNet", BMVC 2025, arXiv:2510.06123, and its published code, below "code"; Ruan et al., "VM-UNet",
arXiv:2402.02491; Chen et al., "TransUNet", arXiv:2102.04306; Kato & Hotta, "Adaptive t-vMF Dice loss",
arXiv:2207.07842, below "t-vMF".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.augmentation import NO_MOTION, MovedConfig
from search_spaces.core.config import require
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, Float, When
from search_spaces.core.schedule import NO_AVERAGE, ScheduledConfig

_PAPERS: Mapping[str, Any] = {
    "flip": True,
    "warm_up": 0.0,
    **NO_AVERAGE,
    **{k: v for k, v in NO_MOTION.items() if k != "rotation"},
}
"""What the publications have in common, where it is not the default."""


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(ScheduledConfig, MovedConfig):
    """Defaults are ours: a U-Net on a small encoder, which trains on a CPU.

    `vm_unet` and `trans_unet` are the publications at their full sizes; their pretrained weights are not theirs to
    give: for TransUNet set `pretrained`.
    """

    image_size: int = 64
    """Side in pixels at which pictures and masks reach the network; others are resized on the device. A multiple of
    2^encoder_depth for a U-Net, of 2^(stages + 1) for VM-UNet, of 16 for TransUNet. Source: VM-UNet 256, t-vMF 224."""

    # Network
    network: Literal["unet", "vm_unet", "trans_unet"] = "unet"
    """A U-Net on any encoder, a U of selective scans, or a residual network with a transformer and a decoder."""

    encoder: str = "resnet18"
    """timm name of the encoder of a U-Net or of TransUNet. Source: ours; TransUNet vit_base_r50_s16_224."""

    pretrained: str = ""
    """Weights of the encoder. Empty: random ones. Otherwise a timm tag (`a1_in1k`), the path of a file, or `lite0` …
    `lite2`."""

    encoder_depth: Annotated[int, Choice(3, 4, 5), When("network", equals="unet")] = 4
    """Halvings of the side by a U-Net's encoder. Ours."""

    decoder_width: Annotated[int, Choice(8, 16, 32), When("network", equals="unet")] = 16
    """Channels of the last step of a U-Net's decoder; each step before it has twice as many. Source:
    segmentation-models-pytorch."""

    features: Annotated[int, Choice(16, 32, 64, 96), When("network", equals="vm_unet")] = 16
    """Features of VM-UNet's first stage; each has twice those before. Source: VM-UNet 96."""

    stages: int = 3
    """Stages of VM-UNet, each with half the side of the one before. Source: VM-UNet 4."""

    depth: Annotated[int, Choice(1, 2), When("network", equals="vm_unet")] = 1
    """Blocks of a stage of VM-UNet; the last of the decoder has one less, at least 1. Source: VM-UNet 2."""

    d_state: Annotated[int, Choice(4, 8, 16), When("network", equals="vm_unet")] = 8
    """Numbers that a scan remembers for each feature. Source: VM-UNet 16."""

    drop_path: Annotated[float, Float(0.0, 0.4), When("network", equals="vm_unet")] = 0.2
    """Greatest rate at which a block of VM-UNet is left out for a picture. Source: VM-UNet."""

    dropout: float = 0.1
    """Dropout of TransUNet's transformer. Source: TransUNet."""

    # Loss
    loss: Annotated[Literal["bce_dice", "adaptive_tvmf_dice"], Choice("bce_dice", "adaptive_tvmf_dice")] = "bce_dice"
    """Cross-entropy and Dice of the foreground, or the t-vMF Dice of both classes. Source: VM-UNet; t-vMF."""

    dice_weight: Annotated[float, Float(0.1, 4.0, log=True), When("loss", equals="bce_dice")] = 1.0
    """Weight of the Dice term, beside 1 of the cross-entropy. Source: VM-UNet."""

    kappa_scale: float = 32.0
    """κ of a class whose Dice is 1 (λ). Source: t-vMF."""

    # Schedule
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with a momentum of 0.9. Source: VM-UNet; t-vMF."""

    lr: Annotated[float, Float(3e-4, 3e-2, log=True)] = 1e-2
    """Step size at the start. Source: code, 1e-3 of AdamW, 1e-2 of SGD."""

    weight_decay: Annotated[float, Float(1e-6, 1e-1, log=True)] = 1e-2
    """Decoupled for AdamW, an L2 penalty for SGD; none of the scans' own rates. Source: code, 1e-2 and 1e-4."""

    batch_size: Annotated[int, Choice(4, 8, 16, 32)] = 8
    """Pictures per step, each as often as it takes. Source: code 32 and 24."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated, and at which κ is set. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vm_unet": {
            "image_size": 256,
            "network": "vm_unet",
            "features": 96,
            "stages": 4,
            "depth": 2,
            "d_state": 16,
            "lr": 1e-3,
            "batch_size": 32,
            "rotation": 180.0,
            "flip_vertical": True,
            **_PAPERS,
        },
        "trans_unet": {
            "image_size": 224,
            "network": "trans_unet",
            "encoder": "vit_base_r50_s16_224",
            "loss": "adaptive_tvmf_dice",
            "optimiser": "sgd",
            "lr": 1e-2,
            "schedule": "poly",
            "weight_decay": 1e-4,
            "batch_size": 32,
            "rotation": 90.0,
            **_PAPERS,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "features", 8, 1024)
        require(self, "stages", 1, 6)
        require(self, "encoder_depth", 3, 5)
        require(self, "decoder_width", 1, 1024)
        for name in ("depth", "steps_per_epoch"):
            require(self, name, 1, 10_000)
        require(self, "d_state", 1, 256)
        require(self, "batch_size", 2, 4096)
        require(self, "lr", 1e-8, 1.0)
        for name in ("drop_path", "dropout"):
            require(self, name, 0.0, 0.95)
        for name in ("weight_decay", "dice_weight", "kappa_scale"):
            require(self, name, 0.0, 1e4)
        if self.features % 4:
            raise ConfigError(
                f"{type(self).__name__}.features: {self.features} is impossible, expected a multiple of 4"
            )
        if self.image_size % self.side_multiple:
            advice = {
                "unet": f"or encoder_depth below {self.encoder_depth}",
                "vm_unet": f"or stages below {self.stages}",
                "trans_unet": "or network unet",
            }[self.network]
            raise ConfigError(
                f"{type(self).__name__}.image_size: {self.image_size} is impossible with this network, expected a "
                f"multiple of {self.side_multiple}, {advice}"
            )

    @property
    def side_multiple(self) -> int:
        """Pixels, of which `image_size` is a multiple."""
        halvings = {"unet": self.encoder_depth, "vm_unet": self.stages + 1, "trans_unet": 4}
        return 1 << halvings[self.network]
