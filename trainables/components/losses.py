"""Losses as small pure functions, safe at hard probabilities.

Shapes: B batch, C channels, H W pixels, K classes. Logits are unnormalised; labels are int64 in 0..K-1.
"""

from collections.abc import Callable, Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(labels_B: Tensor, num_classes: int) -> Tensor:
    """Labels as float rows (B, K). Unlike torch's own it never waits for the device to check the labels."""
    return torch.zeros(len(labels_B), num_classes, device=labels_B.device).scatter_(1, labels_B[:, None], 1.0)


def prototype_loss(
    logits_BK: Tensor,
    labels_B: Tensor,
    num_classes: int,
    temperature: float,
    others: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Cross-entropy of the distances between softened predictions and the mean prediction of each class.

    Gradients flow through the means too; the mean of a class without members is the zero vector.

    Args:
        others: members of the means beside the batch, without gradient: per class the sum of their softened
            predictions (K, K), a class a row, and their number (K,).

    Source: SPARSE, arXiv:2508.06429, prototype loss, with the sign of its code (the printed one repels); mean
    over the batch.
    """
    probs_BK = (logits_BK / temperature).softmax(1)
    members_BK = one_hot(labels_B, num_classes).to(probs_BK)
    sums_KK, counts_K = members_BK.T @ probs_BK, members_BK.sum(0)
    if others is not None:
        sums_KK, counts_K = sums_KK + others[0], counts_K + others[1]
    prototypes_KK = sums_KK / counts_K.clamp(min=1.0)[:, None]
    distances_BK = (probs_BK[:, None] - prototypes_KK).square().sum(2)
    return F.cross_entropy(-distances_BK, labels_B)


def entropy_loss(logits_BK: Tensor) -> Tensor:
    """Mean entropy of the predictions, in nats."""
    return entropy(logits_BK).mean()


def entropy(logits_BK: Tensor) -> Tensor:
    """Entropy (B,) of softmax(logits), in nats."""
    log_probs_BK = logits_BK.log_softmax(1)
    return -(log_probs_BK.exp() * log_probs_BK).sum(1)


def soft_cross_entropy(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Mean cross-entropy against probabilities."""
    return -(targets_BK * logits_BK.log_softmax(1)).sum(1).mean()


def balanced_weights(labels_N: Tensor, num_classes: int) -> Tensor:
    """Weights (K,) with which every class counts alike: N / (K · images of that class); N / K where there are none."""
    counts_K = labels_N.bincount(minlength=num_classes)
    return len(labels_N) / (num_classes * counts_K.clamp(min=1)).float()


def weighted_cross_entropy(logits_BK: Tensor, labels_B: Tensor, weights_K: Tensor | None) -> Tensor:
    """Mean over the batch of each image's cross-entropy times the weight of its class; 1 where no weights are given.

    torch's own weighted mean divides by the weights of the batch instead: in one of a single class they would be lost.
    """
    losses_B = F.cross_entropy(logits_BK, labels_B, weight=weights_K, reduction="none")
    return losses_B.mean()


def peer_divergence(logits_BK: Tensor, peers_BK: Sequence[Tensor]) -> Tensor:
    """Mean KL(p ‖ q), where q is the mean prediction of the peers, who get no gradient.

    Source: deep mutual learning (Zhang et al., arXiv:1706.00384) with SPARSE's mean of the others.
    """
    log_probs_BK = logits_BK.log_softmax(1)
    others_PBK = torch.stack([peer.detach().log_softmax(1) for peer in peers_BK])
    log_others_BK = others_PBK.logsumexp(0) - log(len(peers_BK))
    return (log_probs_BK.exp() * (log_probs_BK - log_others_BK)).sum(1).mean()


def mutual_loss(logits_BK: Tensor, peers_BK: Sequence[Tensor], labels_B: Tensor, lambda_kl: float) -> Tensor:
    """Cross-entropy plus `lambda_kl` × divergence from the peers: one network's share of mutual learning.

    Source: SPARSE, arXiv:2508.06429, mutual learning loss.
    """
    return F.cross_entropy(logits_BK, labels_B) + lambda_kl * peer_divergence(logits_BK, peers_BK)


def bce_sum(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Binary cross-entropy summed over the classes, mean over the batch. Source: SPARSE's published code."""
    return F.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="sum") / len(logits_BK)


def mixup(images_BCHW: Tensor, labels_B: Tensor, num_classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Convex mixtures of images (B, C, H, W) and of labels (B, K), with one share ~ Beta(α, α) for the batch.

    Source: Zhang et al., arXiv:1710.09412.
    """
    # In double precision: for a small α a share in float32 may be 0/0.
    # It stays a tensor of the CPU, which a device takes as a plain number, without waiting.
    share = torch.distributions.Beta(torch.tensor(alpha, dtype=torch.float64), alpha).sample()
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device, non_blocking=True)
    targets_BK = one_hot(labels_B, num_classes)
    mixed_BCHW = share * images_BCHW + (1 - share) * images_BCHW[partner_B]
    return mixed_BCHW, share * targets_BK + (1 - share) * targets_BK[partner_B]


def slope_norms(discriminator: Callable[[Tensor], Tensor], images_BCHW: Tensor) -> Tensor:
    """Norm (B,) of the discriminator's gradient at each image, differentiable once more.

    The discriminator's patches are summed. Belongs in float32: pass a discriminator without autocast.
    """
    at_BCHW = images_BCHW.detach().requires_grad_()
    (slope_BCHW,) = torch.autograd.grad(discriminator(at_BCHW).sum(), at_BCHW, create_graph=True)
    norms_B: Tensor = torch.linalg.vector_norm(slope_BCHW.flatten(1), dim=1)
    return norms_B


def gradient_penalty(norms: Callable[[Tensor], Tensor], real_BCHW: Tensor, fake_BCHW: Tensor) -> Tensor:
    """Mean of (‖∇ discriminator‖₂ - 1)² at a random point between each real image and its fake one.

    Args:
        norms: of the discriminator's gradient (B,) at images, see `slope_norms`. As it sums the patches, the slope that
            is asked for is 1 of the sum, not of the mean.

    Source: Gulrajani et al., arXiv:1704.00028, eq. 3.
    """
    share_B111 = torch.rand(len(real_BCHW), 1, 1, 1).to(real_BCHW, non_blocking=True)
    return (norms(share_B111 * real_BCHW + (1 - share_B111) * fake_BCHW) - 1).square().mean()
