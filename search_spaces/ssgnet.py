"""SSGNet: a StyleGAN3 per class enlarges the training set of a classifier.

Sources: "SSGNet", BMVC 2025, arXiv:2510.06123, below "paper", and its published code, below "code"; Karras et al.,
"Alias-free generative adversarial networks", arXiv:2106.12423, below "StyleGAN3"; Karras et al., "Training generative
adversarial networks with limited data", arXiv:2006.06676, below "ADA".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.config import require
from search_spaces.core.ranges import Choice, Float, When
from search_spaces.ssgnet_generators import SsgnetGeneratorsConfig


@dataclass(frozen=True, kw_only=True)
class SsgnetConfig(SsgnetGeneratorsConfig):
    """Defaults are ours: small networks for small images and few shots, whose generators train on a CPU.

    `paper` is the publication at 256 px with its +20 % policy. Its generators see five million images before the
    classifier sees one, so a budget must be larger than that; in `real`, the control, there are no generators and the
    same budget goes to the classifier. The paper's other policies are `extra_ratio: 0` (balance) and `0.5` (+50 %). Its
    pretrained weights have to be there: set `pretrained`, and `freeze: backbone` for what the published code trains.
    """

    inherited_when = When("synthetic", equals=True)

    # Training set
    synthetic: bool = True
    """Train generators; without them the classifier learns from the labelled images alone."""

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

    # Classifier
    classifier: str = "resnet18"
    """timm model name. Source: paper, resnet50."""

    pretrained: str = ""
    """Empty: random weights. Otherwise a timm tag (`a1_in1k`), the path of a file, or `lite0` … `lite2`."""

    freeze: Literal["none", "backbone"] = "none"
    """Layers that keep their weights: none, or all but the last. Source: code, all but its head."""

    batch_size: Annotated[int, Choice(16, 32, 64, 128)] = 32
    """Images per step of the classifier. Source: paper 64."""

    lr: Annotated[float, Float(1e-5, 1e-2, log=True)] = 3e-4
    """AdamW step size before the first plateau. Source: paper 5e-3."""

    weight_decay: Annotated[float, Float(1e-6, 1e-1, log=True)] = 1e-4
    """AdamW decoupled decay. Source: paper, Adam without."""

    patience: Annotated[float, Float(0.02, 1.0, log=True)] = 0.2
    """Share of the classifier's part of the budget without a lower training loss after which the step size falls; 1:
    never. Source: code, 3 whole passes of 50 epochs at most."""

    plateau_factor: float = 0.1
    """By which the step size is multiplied at a plateau; 1 keeps it constant. Source: code."""

    flip: bool = False
    """Mirror the classifier's training images left-right at random. Source: code."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            **SsgnetGeneratorsConfig.presets["paper"],
            "extra_ratio": 0.2,
            "classifier": "resnet50",
            "batch_size": 64,
            "lr": 5e-3,
            "weight_decay": 0.0,
            "patience": 0.06,
        },
        "real": {"synthetic": False},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "class_target", 0)
        require(self, "patience", 1e-4, 1.0)
        require(self, "batch_size", 2, 4096)
        require(self, "lr", 1e-8, 1.0)
        for name in ("extra_ratio", "weight_decay", "synthetic_weight"):
            require(self, name, 0.0, 1e4)
        require(self, "plateau_factor", 1e-4, 1.0)
        require(self, "max_synthetic", 0.0, 1.0)
