"""Settings of training that starts from a network's weights: which of them change, and how fast."""

from dataclasses import dataclass
from typing import Annotated, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Float, When

_FITTED = When("head_start", equals="probe")


@dataclass(frozen=True, kw_only=True)
class FineTunedConfig(MethodConfig):
    """Defaults train everything alike, as from random weights; the rest is searched where a head was fitted first."""

    head_start: Literal["random", "probe"] = "random"
    """Start of the last layer: as `head_init` says, or fitted to the features of the labelled images by logistic
    regression, so that training begins with what a probe knows. Source: Kumar et al., arXiv:2202.10054."""

    head_c: Annotated[float, Float(1e-4, 1e2, log=True), _FITTED] = 0.01
    """Inverse L2 penalty of that logistic regression on standardised features. Ours."""

    lr_ratio_body: Annotated[float, Float(1e-3, 1.0, log=True), _FITTED] = 1.0
    """Step size of all layers but the last, relative to `lr`. Source: ours; usual are 0.01 to 0.1."""

    layer_decay: Annotated[float, Float(0.6, 1.0), _FITTED] = 1.0
    """Step size of each layer relative to that of the layer above it. Source: Clark et al., arXiv:2003.10555."""

    trained_layers: Literal["all", "last_block", "norms", "low_rank", "head"] = "all"
    """What learns beside the last layer: everything, the last block, normalisation and biases (Ben Zaken et al.,
    arXiv:2106.10199), a low-rank change of the attention's weights (Hu et al., arXiv:2106.09685), or nothing."""

    low_rank: int = 4
    """Rank of that change, which begins at zero. Source: Hu et al., 4."""

    frozen_statistics: bool = False
    """Leave BatchNorm's statistics as they came with the weights: few images have none worth taking over. Ours."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "head_c", 1e-9, 1e9)
        require(self, "lr_ratio_body", 0.0, 1e3)
        require(self, "layer_decay", 0.01, 1.0)
        require(self, "low_rank", 1, 1024)

    @property
    def is_fine_tuned(self) -> bool:
        """Return True if anything is asked for that training from random weights does not have."""
        return (self.head_start, self.trained_layers, self.frozen_statistics) != ("random", "all", False)
