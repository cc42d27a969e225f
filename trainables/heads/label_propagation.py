"""Label propagation over labelled and unlabelled images.

    W from the k nearest of every image, symmetric;  S = D^-1/2 W D^-1/2
    P = (1 - alpha) (I - alpha S)^-1 Y;  columns of P divided by their sums, then rows by theirs

W is the positive part of the cosine to the power `gamma`, or, `local`, exp(-d² gamma / (s_i s_j)) of the distance d of
two directions, where s is an image's distance to the last of its neighbours. A new image is the vote of its k nearest,
weighted in the same way.

Source: Zhou et al., NeurIPS 2003; local scales: Zelnik-Manor and Perona, NeurIPS 2004.

Shapes: B batch, M images of the graph, J nearest, D features, K classes.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor
from torch.nn.functional import normalize

from trainables.heads.head import Features, Tensors

_TOLERANCE = 1e-10
_CHUNK = 1_024
"""Rows whose similarities to all others are in memory at a time."""


@final
@dataclass(frozen=True, eq=False)
class GraphHead(Tensors):
    """Images of the graph, and the classes that were propagated to them."""

    directions_MD: Tensor
    """Features of length 1, float32: a checkpoint holds them."""

    scales_M: Tensor
    """Distance to the last neighbour; not used by cosine weights."""

    probs_MK: Tensor
    fallback_K: Tensor
    """Probabilities of an image that no neighbour votes for."""

    k: Tensor
    gamma: Tensor
    local: Tensor

    def probabilities(self, features_BD: Tensor) -> Tensor:
        """Probabilities (B, K), float64."""
        directions_BD = normalize(features_BD.double(), dim=1).float()
        cosines_BJ, nearest_BJ = _nearest(directions_BD, self.directions_MD, min(int(self.k), len(self.scales_M)))
        scales_B = _distances(cosines_BJ[:, -1])
        weights_BJ = self._weights(cosines_BJ, scales_B, self.scales_M[nearest_BJ])
        votes_BK = (weights_BJ[:, :, None] * self.probs_MK[nearest_BJ]).sum(1)
        return rows_normalised(votes_BK, self.fallback_K)

    def _weights(self, cosines_BJ: Tensor, scales_B: Tensor, scales_BJ: Tensor) -> Tensor:
        return _weights(cosines_BJ, scales_B, scales_BJ, float(self.gamma), local=bool(self.local))


def fit(features: Features, *, k: int = 10, alpha: float = 0.9, gamma: float = 1.0, local: bool = True) -> GraphHead:
    """The head; `k` of at least 1, `alpha` in 0..1 without its ends, `gamma` above 0, `local` Gaussian weights."""
    rows = features.labelled_ND.double(), features.some_of_pool()
    directions_MD = torch.cat([normalize(each, dim=1).float() for each in rows])
    graph_MM, scales_M = _graph(directions_MD, k, gamma, local=local)
    seeds_MK = np.zeros((len(directions_MD), features.num_classes))
    seeds_MK[: len(features.labels_N)] = features.members_NK().numpy()
    known_K = features.known_K().double()
    fallback_K = known_K / known_K.sum()
    probs_MK = torch.from_numpy(propagated(graph_MM, seeds_MK, alpha))
    totals_K = probs_MK.sum(0)
    balanced_MK = probs_MK / torch.where(totals_K > 0, totals_K, 1.0)
    settings = torch.tensor(k), torch.tensor(gamma, dtype=torch.float64), torch.tensor(local)
    return GraphHead(directions_MD, scales_M, rows_normalised(balanced_MK, fallback_K), fallback_K, *settings)


def propagated(graph_MM: sparse.csr_array, seeds_MK: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Solution (M, K) of (I - alpha S) P = (1 - alpha) Y, never negative, by conjugate gradients."""
    degrees_M = graph_MM.sum(axis=1)
    halves = sparse.diags_array(np.divide(1.0, np.sqrt(degrees_M), out=np.zeros(len(degrees_M)), where=degrees_M > 0))
    system_MM = sparse.eye_array(len(degrees_M)) - alpha * (halves @ graph_MM @ halves)
    columns = [cg(system_MM, (1 - alpha) * seeds_M, rtol=_TOLERANCE)[0] for seeds_M in seeds_MK.T]
    solution: NDArray[np.float64] = np.maximum(np.stack(columns, axis=1), 0.0)
    return solution


def rows_normalised(votes_BK: Tensor, fallback_K: Tensor) -> Tensor:
    """Rows divided by their sums; the fallback where a row has no vote."""
    totals_B1 = votes_BK.sum(1, keepdim=True)
    return torch.where(totals_B1 > 0, votes_BK / torch.where(totals_B1 > 0, totals_B1, 1.0), fallback_K)


def _graph(directions_MD: Tensor, k: int, gamma: float, *, local: bool) -> tuple[sparse.csr_array, Tensor]:
    """Weights (M, M), symmetric and without a diagonal, and scales (M,)."""
    size = len(directions_MD)
    num_nearest = min(k, size - 1)
    if not num_nearest:
        return sparse.csr_array((size, size)), torch.zeros(size, dtype=torch.float64)
    cosines_MJ, nearest_MJ = _nearest(directions_MD, directions_MD, num_nearest, themselves=True)
    scales_M = _distances(cosines_MJ[:, -1])
    weights_MJ = _weights(cosines_MJ, scales_M, scales_M[nearest_MJ], gamma, local=local)
    rows = np.repeat(np.arange(size), num_nearest)
    entries = weights_MJ.flatten().numpy(), (rows, nearest_MJ.flatten().numpy())
    half_MM = sparse.coo_array(entries, shape=(size, size)).tocsr()
    return half_MM.maximum(half_MM.T).tocsr(), scales_M


def _nearest(
    queries_BD: Tensor, directions_MD: Tensor, count: int, *, themselves: bool = False
) -> tuple[Tensor, Tensor]:
    """Cosines (B, J), float64, of the nearest, descending, and their indices; `themselves` leaves out each own."""
    found = []
    for start in range(0, len(queries_BD), _CHUNK):
        cosines_BM = queries_BD[start : start + _CHUNK] @ directions_MD.T
        if themselves:
            cosines_BM.diagonal(start).fill_(-torch.inf)
        found.append(cosines_BM.topk(count, dim=1))
    if not found:
        return torch.zeros(0, count, dtype=torch.float64), torch.zeros(0, count, dtype=torch.long)
    return torch.cat([each.values for each in found]).double(), torch.cat([each.indices for each in found])


def _distances(cosines: Tensor) -> Tensor:
    """Distances between directions of such cosines."""
    return (2 - 2 * cosines).clamp_min(0.0).sqrt()


def _weights(cosines_BJ: Tensor, scales_B: Tensor, scales_BJ: Tensor, gamma: float, *, local: bool) -> Tensor:
    """Weights (B, J) of edges; two images without a distance have weight 1."""
    if not local:
        return cosines_BJ.clamp_min(0.0) ** gamma
    products_BJ = (scales_B[:, None] * scales_BJ).clamp_min(torch.finfo(torch.float32).eps)
    return torch.exp((2 * cosines_BJ - 2).clamp_max(0.0) * gamma / products_BJ)
