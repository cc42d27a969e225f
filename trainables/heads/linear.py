"""A linear head, as several ways of fitting end with.

Shapes: B batch, D features, K classes.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from trainables.heads.head import Tensors


@final
@dataclass(frozen=True, eq=False)
class LinearHead(Tensors):
    """Softmax of weighted sums of the features."""

    weights_DK: Tensor
    biases_K: Tensor
    """Minus infinity for a class that had no label."""

    def probabilities(self, features_BD: Tensor) -> Tensor:
        """Probabilities (B, K), float64."""
        return (features_BD.double() @ self.weights_DK + self.biases_K).softmax(1)
