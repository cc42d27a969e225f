"""ResNet: a timm network trained on the labelled images alone, the paper's standard CNNs beside SSL-GAN.

Source: Lecouat et al., "Semi-supervised deep learning for abnormality classification in retinal images",
arXiv:1812.07832 (2018), whose ResNet-34 sees patches and whose ResNet-50 sees whole images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from search_spaces.core.augmentation import AugmentedConfig
from search_spaces.core.config import require
from search_spaces.core.ranges import Choice, Float
from search_spaces.core.schedule import CONSTANT_RATE, NO_AVERAGE, ScheduledConfig

_PAPER: Mapping[str, Any] = {
    "lr": 1e-5,
    "patience": 0.2,
    "rotation": 180.0,
    "shift": 0.3,
    "zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "flip": True,
    "flip_vertical": True,
    **CONSTANT_RATE,
    **NO_AVERAGE,
}


@dataclass(frozen=True, kw_only=True)
class ResnetConfig(ScheduledConfig, AugmentedConfig):
    """Defaults are ours; `paper` is ResNet-34 from random weights as published, on patches of 128 px.

    `whole` is the paper's network for whole images. The paper's third row starts from pretrained weights. It is no
    preset, as every search tries all presets and weights have to be there: set `classifier: resnet50` with
    `pretrained: a1_in1k`, a timm tag that is downloaded, or with the path of a file.
    """

    classifier: str = "resnet34"
    """timm model name. Source: paper."""

    pretrained: str = ""
    """Empty: random weights. Otherwise a timm tag (`a1_in1k`), the path of a file, or `lite0` … `lite2`."""

    # Optimisation
    batch_size: Annotated[int, Choice(8, 16, 32, 64)] = 32
    """Labelled images per step, at most. Source: paper, Table 5."""

    lr: Annotated[float, Float(1e-5, 1e-2, log=True)] = 1e-3
    """Adam step size before the first plateau. Source: ours; paper, Table 5, 1e-5."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.9
    """Adam first-moment decay. Source: paper, Table 5."""

    patience: Annotated[float, Float(0.02, 1.0, log=True)] = 1.0
    """Share of the budget without a lower training loss after which the step size falls; 1: never. Source: paper, Table
    5, ten passes over all images; of few, whose loss is noise, that is nothing."""

    plateau_factor: float = 0.1
    """By which the step size is multiplied at a plateau; 1 keeps it constant. Source: paper, Table 5."""

    class_weights: bool = True
    """Let all classes weigh the same in the loss, however many images they have. Source: paper."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _PAPER,
        "whole": {**_PAPER, "classifier": "resnet50"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "batch_size", 2, 4096)
        require(self, "lr", 1e-8, 1.0)
        require(self, "beta1", 0.0, 0.9999)
        require(self, "patience", 1e-4, 1.0)
        require(self, "plateau_factor", 1e-3, 1.0)
