"""Nearest class mean by cosine.

    c_k = mean of x/‖x‖ over class k,   p(k | x) ∝ exp(cos(x, c_k) / temperature)

Source: Snell et al., NeurIPS 2017, with the cosine of Gidaris and Komodakis, CVPR 2018.

Shapes: B batch, N labelled images, D features, K classes.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from trainables.heads.head import Features, Tensors, barred, class_means


@final
@dataclass(frozen=True, eq=False)
class PrototypeHead(Tensors):
    """A direction for each class."""

    directions_KD: Tensor
    """Of length 1, or 0."""

    biases_K: Tensor
    """Added to the scaled cosines; minus infinity for a class that had no label."""

    temperature: Tensor

    def probabilities(self, features_BD: Tensor) -> Tensor:
        """Probabilities (B, K), float64."""
        cosines_BK = normalize(features_BD.double(), dim=1) @ self.directions_KD.T
        return (cosines_BK / self.temperature + self.biases_K).softmax(1)


def fit(features: Features, *, temperature: float = 0.1) -> PrototypeHead:
    """The head; `temperature`, above 0, changes how sure it is, not which class it names."""
    means_KD = class_means(normalize(features.labelled_ND.double(), dim=1), features.members_NK())
    scale = torch.tensor(temperature, dtype=torch.float64)
    return PrototypeHead(normalize(means_KD, dim=1), barred(features.known_K()), scale)
