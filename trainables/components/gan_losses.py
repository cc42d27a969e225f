"""Losses of a classifier that also tells real images from generated ones, safe at any size of its logits.

K logits serve K + 1 classes: "generated" has the logit 0. With Z = logsumexp of the logits

    -log p(generated) = softplus(Z)        -log p(real) = softplus(-Z)        p(class | real) = softmax(logits)

so that neither exp(Z) nor log(1 - p) is ever formed. All in float32 at least.

Source: Salimans et al., arXiv:1606.03498, section 5; Lecouat et al., arXiv:1812.07832.
Shapes: B batch, K classes, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def realness(logits_BK: Tensor) -> Tensor:
    """Z (B,): the log-odds of being real; above 0 an image counts as real."""
    return logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32)).logsumexp(1)


def real_loss(realness_B: Tensor) -> Tensor:
    """Mean of -log p(real)."""
    return F.softplus(-realness_B).mean()


def generated_loss(realness_B: Tensor) -> Tensor:
    """Mean of -log p(generated)."""
    return F.softplus(realness_B).mean()


def feature_matching(real_BD: Tensor, generated_BD: Tensor) -> Tensor:
    """Mean distance between the mean features of real images, which get no gradient, and of generated ones.

    Source: Salimans et al., arXiv:1606.03498, section 3.1, with the absolute difference of its code.
    """
    exact = torch.promote_types(generated_BD.dtype, torch.float32)
    return (real_BD.detach().mean(0, dtype=exact) - generated_BD.mean(0, dtype=exact)).abs().mean()


def pull_away(features_BD: Tensor) -> Tensor:
    """Mean squared cosine between the features of different images.

    Source: Zhao et al., arXiv:1609.03126, section 2.4; for SSL Dai et al., arXiv:1705.09783.
    """
    exact_BD = F.normalize(features_BD.to(torch.promote_types(features_BD.dtype, torch.float32)), dim=1)
    squared_BB = (exact_BD @ exact_BD.T).square()
    batch = len(features_BD)
    return (squared_BB.sum() - squared_BB.trace()) / (batch * (batch - 1))
