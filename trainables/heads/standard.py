"""Standardised features: centred and scaled by images without labels, alike for features of different origins.

Shapes: B batch, N labelled images, U images of the pool, D features, E features that are left.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from trainables.heads.head import MAX_POOL, Tensors, evenly

_FLAT = 1e-12
"""Variance below which features are constant and stay 0."""


@final
@dataclass(frozen=True, eq=False)
class Standard(Tensors):
    """Block of features, centred, turned onto directions if there are any, and divided by spreads."""

    means_D: Tensor
    directions_DE: Tensor
    """Principal directions; without a row where features stay as they are."""

    spreads_E: Tensor

    def apply(self, features_BD: Tensor) -> Tensor:
        """Features (B, E), float64; blocks of several origins may be put side by side."""
        centred_BD = features_BD.double() - self.means_D
        return (centred_BD @ self.directions_DE if len(self.directions_DE) else centred_BD) / self.spreads_E


def standardise(labelled_ND: Tensor, pool_UD: Tensor, *, components: int | None = None, each: bool = False) -> Standard:
    """The standard of a block, by the pool; by the labelled images where the pool is empty.

    Args:
        labelled_ND: Any floating type.
        pool_UD: May have no row.
        components: Principal components to keep, as of pixels; None keeps the features.
        each: True divides each feature by its own spread before the block is by that of all.
    """
    rows_UD = evenly(pool_UD if len(pool_UD) else labelled_ND, MAX_POOL).double()
    means_D = rows_UD.mean(0)
    kept = rows_UD - means_D
    directions_DE = torch.zeros(0, 0, dtype=torch.float64)
    if components is not None and components < kept.shape[1] and float(kept.square().mean()) > _FLAT:
        directions_DE = _principal(kept, components)
        kept = kept @ directions_DE
    return Standard(means_D, directions_DE, _spreads(kept, each=each))


def _principal(centred_UD: Tensor, components: int) -> Tensor:
    """Directions (D, E) of most variance, by scikit-learn, with a fixed seed where it approximates."""
    from sklearn.decomposition import PCA  # half a second, which no other method should wait for

    model = PCA(min(components, len(centred_UD)), random_state=0).fit(centred_UD.numpy())
    return torch.from_numpy(model.components_.T.copy())


def _spreads(centred_UE: Tensor, *, each: bool) -> Tensor:
    """Divisors (E,): all the same, or one for each feature; 1 where there is no spread."""
    variances_E = centred_UE.square().mean(0)
    chosen_E = variances_E if each else variances_E.mean().expand_as(variances_E).clone()
    return torch.where(chosen_E > _FLAT, chosen_E, 1.0).sqrt()
