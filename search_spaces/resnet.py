"""ResNet: a timm network trained on the labelled images alone, the paper's standard CNNs beside SSL-GAN.

Source: Lecouat et al., "Semi-supervised deep learning for abnormality classification in retinal images",
arXiv:1812.07832 (2018), whose ResNet-34 sees patches and whose ResNet-50 sees whole images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Choice, Float, Int


@dataclass(frozen=True, kw_only=True)
class ResnetConfig(MethodConfig):
    """Defaults are the `paper` preset: ResNet-34 from random weights, on patches of 128 px.

    `whole` is the network for whole images. The paper's third row starts from pretrained weights. It is no preset, as
    every search tries all presets and weights have to be there: set `classifier: resnet50` with `pretrained: a1_in1k`,
    a timm tag that is downloaded, or with the path of a file.
    """

    classifier: str = "resnet34"
    """timm model name. Source: paper."""

    pretrained: str = ""
    """Empty: random weights. Otherwise a timm tag (`a1_in1k`) or the path of a weights file."""

    # Optimisation
    batch_size: Annotated[int, Choice(8, 16, 32, 64)] = 32
    """Labelled images per step, at most. Source: paper, Table 5."""

    lr: Annotated[float, Float(1e-6, 1e-2, log=True)] = 1e-5
    """Adam step size before the first plateau. Source: paper, Table 5."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.9
    """Adam first-moment decay. Source: paper, Table 5."""

    patience: Annotated[int, Int(2, 1000, log=True)] = 10
    """Epochs in a row without a lower training loss after which the step size falls. An epoch of few labels is a single
    step, and its loss noise: then take more. Source: paper, Table 5."""

    plateau_factor: float = 0.1
    """By which the step size is multiplied at a plateau; 1 keeps it constant. Source: paper, Table 5."""

    class_weights: bool = True
    """Let all classes weigh the same in the loss, however many images they have. Source: paper."""

    # Images
    rotation: Annotated[float, Float(0.0, 180.0)] = 180.0
    """Degrees by which training images turn at most, to either side. Source: paper."""

    shift: Annotated[float, Float(0.0, 0.5)] = 0.3
    """Share of their side by which training images move at most, left, right, up and down. Source: paper."""

    flip: bool = True
    """Mirror training images left-right at random; switch off where left and right differ in meaning. Source: paper."""

    flip_vertical: bool = True
    """Mirror training images upside down at random; switch off where up and down differ. Source: paper."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "whole": {"classifier": "resnet50"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "batch_size", 2, 4096)
        require(self, "lr", 1e-8, 1.0)
        require(self, "beta1", 0.0, 0.9999)
        require(self, "patience", 1)
        require(self, "plateau_factor", 1e-3, 1.0)
        require(self, "rotation", 0.0, 180.0)
        require(self, "shift", 0.0, 1.0)
