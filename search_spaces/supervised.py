"""A timm classifier trained on the labelled images alone: what unlabelled images must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Choice, Float, When


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(MethodConfig):
    """Defaults are those of SPARSE's classifier, so that the two differ only in what SPARSE adds."""

    classifier: str = "efficientnet_b3"
    """timm model name. Source: the SPARSE paper's classifier."""

    pretrained: str = ""
    """Empty: random weights. Otherwise a timm tag (`ra2_in1k`) or the path of a weights file."""

    batch_size: Annotated[int, Choice(8, 16, 24, 32, 64)] = 24
    """Labelled images per step, at most. Source: SPARSE code."""

    lr: Annotated[float, Float(2e-5, 5e-3, log=True)] = 2e-4
    """AdamW step size. Source: SPARSE paper."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.9
    """AdamW first-moment decay. Source: AdamW."""

    weight_decay: Annotated[float, Float(1e-6, 5e-2, log=True)] = 1e-4
    """AdamW decoupled decay. Source: SPARSE code, classifier."""

    dropout: Annotated[float, Float(0.0, 0.5)] = 0.3
    """Dropout before the last layer. Source: EfficientNet-B3."""

    drop_path: float = 0.2
    """Stochastic depth rate. Source: EfficientNet-B3."""

    w_mixup: Annotated[float, Float(0.0, 2.0)] = 0.5
    """Weight of the mixup loss beside the plain one; 0 switches it off. Source: SPARSE paper (γ)."""

    mixup_alpha: Annotated[float, Float(0.05, 1.0, log=True), When("w_mixup", above=0)] = 0.2
    """Both parameters of mixup's Beta distribution. Source: SPARSE paper."""

    flip: bool = True
    """Mirror training images left-right at random; switch off where left and right differ in meaning."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "plain": {"w_mixup": 0.0, "dropout": 0.0, "drop_path": 0.0},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "batch_size", 2, 4096)
        require(self, "lr", 1e-8, 1.0)
        require(self, "beta1", 0.0, 0.9999)
        require(self, "weight_decay", 0.0, 1.0)
        require(self, "dropout", 0.0, 0.95)
        require(self, "drop_path", 0.0, 0.95)
        require(self, "w_mixup", 0.0)
        require(self, "mixup_alpha", 1e-3, 10.0)
