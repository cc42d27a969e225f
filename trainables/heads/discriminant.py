"""Linear discriminant whose common covariance is shrunken towards a multiple of the identity.

    Σ = (1 - shrinkage) · covariance + shrinkage · (trace / D) · I
    log p(k | x) = x·Σ⁻¹m_k - m_k·Σ⁻¹m_k / 2 + constant: all classes are equally likely before

The covariance is that of the labelled images about their class means, or that of the pool about its mean, which tells
directions apart though it holds the differences between classes too.

Source: Friedman, Journal of the American Statistical Association 84 (1989) 165.

Shapes: N labelled images, U images of the pool, D features, K classes.
"""

import torch
from torch import Tensor

from trainables.heads.head import Features, barred, class_means
from trainables.heads.linear import LinearHead

_MAX_ROWS = 1_000
"""Of the pool: the covariance of more would take longer than all else."""

_FLAT = 1e-12
"""Mean variance below which the features are constant, and the identity stands for the covariance."""


def fit(features: Features, *, shrinkage: float = 0.9, pooled: bool = False) -> LinearHead:
    """The head; `shrinkage` above 0 and up to 1, `pooled` takes the covariance of the pool where there is one."""
    labelled_ND, members_NK = features.labelled_ND.double(), features.members_NK()
    means_KD = class_means(labelled_ND, members_NK)
    pool_UD = features.some_of_pool(_MAX_ROWS)
    rows = pool_UD - pool_UD.mean(0) if pooled and len(pool_UD) > 1 else labelled_ND - members_NK @ means_KD
    weights_DK = whitened(rows, means_KD.T, shrinkage)
    biases_K = barred(features.known_K()) - (means_KD * weights_DK.T).sum(1) / 2
    return LinearHead(weights_DK, biases_K)


def whitened(residuals_ND: Tensor, means_DK: Tensor, shrinkage: float) -> Tensor:
    """Solution (D, K) of Σ W = means, for residuals that need not be many; Σ is the identity where they are zero.

    With fewer residuals than features the system is as large as their number, by Woodbury's identity.
    """
    count, size = residuals_ND.shape
    variance = float(residuals_ND.square().mean())
    if variance < _FLAT:
        return means_DK.clone()
    ridge = shrinkage * variance
    rows_ND = residuals_ND * ((1 - shrinkage) / (ridge * count)) ** 0.5
    if count >= size:
        return _solved(rows_ND.T @ rows_ND, means_DK) / ridge
    spanned_DK: Tensor = rows_ND.T @ _solved(rows_ND @ rows_ND.T, rows_ND @ means_DK)
    return (means_DK - spanned_DK) / ridge


def _solved(gram: Tensor, targets: Tensor) -> Tensor:
    """Solution of (I + gram) X = targets."""
    gram.diagonal().add_(1.0)
    solution: Tensor = torch.cholesky_solve(targets, torch.linalg.cholesky(gram))
    return solution
