"""Losses of pretext tasks, and measures of what they have done to the features.

Shapes: B images, of each of which there are two views; N labelled images; D features, P projection, Q queue, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(first_BP: Tensor, second_BP: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of naming a view's other view among all views of the batch but itself, by cosine.

    Source: Chen et al., arXiv:2002.05709, equation 1.
    """
    views = F.normalize(torch.cat([first_BP, second_BP]), dim=1)
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(views), device=views.device).roll(len(first_BP)))


def info_nce(query_BP: Tensor, key_BP: Tensor, queue_QP: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of naming a view's other view beside those of a queue, by cosine; 0 where that is empty.

    Source: He et al., arXiv:1911.05722, equation 1.
    """
    query_BP, key_BP, queue_QP = (F.normalize(each, dim=1) for each in (query_BP, key_BP, queue_QP))
    logits = torch.cat([(query_BP * key_BP).sum(1, keepdim=True), query_BP @ queue_QP.T], 1) / temperature
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def squared_distance(first_BP: Tensor, second_BP: Tensor) -> Tensor:
    """Mean squared distance of two views' directions, between 0 and 4.

    BYOL's loss (Grill et al., arXiv:2006.07733, equation 2), and alignment (Wang & Isola, arXiv:2005.10242).
    """
    return (F.normalize(first_BP, dim=1) - F.normalize(second_BP, dim=1)).square().sum(1).mean()


def uniformity(views_BP: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 d²) over pairs of images' directions: 0 where all are one, lower when spread out.

    0 for a single image. Source: Wang & Isola, arXiv:2005.10242.
    """
    distances = torch.pdist(F.normalize(views_BP, dim=1).float())
    return (-2 * distances.square()).exp().mean().log() if len(distances) else views_BP.new_zeros(())


def neighbour_accuracy(features_ND: Tensor, labels_N: Tensor, neighbours: int = 5) -> float:
    """Share of images of the class that most of their nearest other ones have, by cosine; nearer ones decide a tie."""
    directions_ND = F.normalize(features_ND.double(), dim=1)
    cosines_NN = (directions_ND @ directions_ND.T).fill_diagonal_(-torch.inf)
    nearest_Nk = cosines_NN.topk(min(neighbours, len(labels_N) - 1), dim=1).indices
    votes_NkK = F.one_hot(labels_N[nearest_Nk]).double()
    ranked_k1 = 1 - torch.arange(nearest_Nk.shape[1], dtype=torch.float64)[:, None] / (neighbours * neighbours)
    return float(((votes_NkK * ranked_k1).sum(1).argmax(1) == labels_N).double().mean())
