"""Vote of the nearest labelled images by cosine.

    p(k | x) ∝ Σ over the nearest n of class k: exp(cos(x, x_n) / temperature)

Source: Wu et al., CVPR 2018, section 3.4.

Shapes: B batch, N labelled images, J nearest, D features, K classes.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from trainables.heads.head import Features, Tensors


@final
@dataclass(frozen=True, eq=False)
class NeighbourHead(Tensors):
    """The labelled images themselves."""

    directions_ND: Tensor
    """Of length 1, or 0."""

    members_NK: Tensor
    num_nearest: Tensor
    temperature: Tensor

    def probabilities(self, features_BD: Tensor) -> Tensor:
        """Probabilities (B, K), float64; classes that are not among the nearest have 0."""
        cosines_BN = normalize(features_BD.double(), dim=1) @ self.directions_ND.T
        cosines_BJ, nearest_BJ = cosines_BN.topk(int(self.num_nearest), dim=1)
        votes_BJ = (cosines_BJ / self.temperature).softmax(1)
        return (votes_BJ[:, :, None] * self.members_NK[nearest_BJ]).sum(1)


def fit(features: Features, *, k: int = 11, temperature: float = 0.1) -> NeighbourHead:
    """The head; `k` of at least 1, all labelled images where there are fewer, and `temperature` above 0."""
    num_nearest = torch.tensor(min(k, len(features.labels_N)))
    scale = torch.tensor(temperature, dtype=torch.float64)
    return NeighbourHead(normalize(features.labelled_ND.double(), dim=1), features.members_NK(), num_nearest, scale)
