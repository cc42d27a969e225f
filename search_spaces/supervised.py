"""A timm classifier trained on the labelled images alone: what unlabelled images must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from search_spaces.core.augmentation import NO_MOTION, AugmentedConfig
from search_spaces.core.config import require
from search_spaces.core.errors import ConfigError
from search_spaces.core.fine_tuning import FineTunedConfig
from search_spaces.core.ranges import Choice, Float
from search_spaces.core.schedule import CONSTANT_RATE, NO_AVERAGE, ScheduledConfig
from search_spaces.core.self_supervision import PretextConfig


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(PretextConfig, ScheduledConfig, AugmentedConfig, FineTunedConfig):
    """Defaults are ours, and those of `sparse`, so that the two differ only in what SPARSE adds."""

    classifier: str = "resnet18"
    """timm model name. Source: ours; the SPARSE paper's classifier is efficientnet_b3."""

    pretrained: str = ""
    """Empty: random weights, or what `pretext` makes of them. Otherwise a timm tag (`ra2_in1k`), the path of a file, or
    `lite0` … `lite2`."""

    head_init: Literal["linear", "network"] = "linear"
    """Start of the classifier's last layer: torch's for a linear layer, as in SPARSE's code, or timm's for this model,
    whose first logits may be twenty times as large."""

    batch_size: Annotated[int, Choice(8, 16, 24, 32, 64)] = 32
    """Labelled images per step, each as often as it takes, and changed anew each time. Source: SPARSE code, 24."""

    lr: Annotated[float, Float(1e-4, 1e-2, log=True)] = 2e-3
    """AdamW step size. Source: ours; SPARSE paper 2e-4."""

    beta1: Annotated[float, Choice(0.0, 0.5, 0.9)] = 0.9
    """AdamW first-moment decay. Source: AdamW."""

    weight_decay: Annotated[float, Float(1e-6, 1e-1, log=True)] = 1e-2
    """AdamW decoupled decay. Source: ours; SPARSE code, classifier, 1e-4."""

    dropout: Annotated[float, Float(0.0, 0.5)] = 0.0
    """Dropout before the last layer. Source: ours; EfficientNet-B3 0.3."""

    drop_path: float = 0.0
    """Stochastic depth rate. Source: ours; EfficientNet-B3 0.2."""

    mixup_alpha: Annotated[float, Float(0.0, 1.0)] = 0.4
    """Both parameters of mixup's Beta distribution: it learns from mixed images and labels; 0: from the plain ones.
    Source: ours; SPARSE paper 0.2, beside a plain loss."""

    label_smoothing: Annotated[float, Float(0.0, 0.3)] = 0.0
    """Share of each label that is given to all classes alike. Source: Szegedy et al., arXiv:1512.00567, 0.1."""

    steps_per_epoch: int = 10
    """Steps between two moments at which a budget can be evaluated; nothing else depends on it. Ours."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "plain": {"flip": True, "mixup_alpha": 0.0, **NO_MOTION, **CONSTANT_RATE, **NO_AVERAGE},
    }

    @property
    def is_fine_tuned(self) -> bool:
        """Return True if anything is asked for that training from random weights does not have."""
        return super().is_fine_tuned or self.has_pretext

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "batch_size", 2, 4096)
        require(self, "steps_per_epoch", 1, 10_000)
        require(self, "lr", 1e-8, 1.0)
        require(self, "beta1", 0.0, 0.9999)
        require(self, "weight_decay", 0.0, 1.0)
        require(self, "dropout", 0.0, 0.95)
        require(self, "drop_path", 0.0, 0.95)
        require(self, "mixup_alpha", 0.0, 10.0)
        if self.has_pretext and (self.pretrained or self.trained_layers == "low_rank"):
            other = "pretrained" if self.pretrained else "trained_layers: low_rank"
            raise ConfigError(f"SupervisedConfig.pretext: '{self.pretext}' does not go with {other}; leave one out")
        require(self, "label_smoothing", 0.0, 0.999)
