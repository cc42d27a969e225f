"""Pseudo-labels: a confidence-weighted vote, the votes of earlier passes, the most confident of a batch.

Shapes: B batch, M unlabelled images in all, K classes, P voters. Nothing here waits for the device.
"""

from collections.abc import Sequence
from math import floor, log

import torch
from torch import Tensor, nn

from trainables.components.losses import entropy

# Far below any confidence that matters; makes two voters without any confidence a plain mean instead of 0/0.
_TINY_CONFIDENCE = 1e-6


def weighted_vote(logits_PBK: Sequence[Tensor], temperature: float, *, normalise: bool) -> Tensor:
    """The voters' predictions, each weighted per image by its confidence 1 - entropy / ln K.

    Returns:
        (B, K) probabilities; without `normalise` the mean of weighted predictions, whose rows sum to the mean
        confidence.

    Source: SPARSE, arXiv:2508.06429, ensemble of discriminator and classifier; un-normalised in its code.
    """
    softened = [logits_BK / temperature for logits_BK in logits_PBK]
    ceiling = log(softened[0].shape[1])
    weights = [(1 - entropy(s) / ceiling).clamp(min=0.0)[:, None] + _TINY_CONFIDENCE for s in softened]
    votes_BK = torch.stack([w * s.softmax(1) for w, s in zip(weights, softened, strict=True)]).sum(0)
    return votes_BK / (torch.stack(weights).sum(0) if normalise else len(weights))


def num_kept(batch: int, percentile: float, *, min_keep: int = 2) -> int:
    """Number of a batch that is kept: all but the share `percentile`, rounded down, and never below `min_keep`.

    By rank, as whole numbers of images, so it is known without looking at the device: of 24 images 0.75 keeps
    6, and 0 keeps every one (a strict comparison with the 0-quantile would drop the lowest).
    """
    dropped = floor(percentile * batch + 1e-9)  # 0.95 × 20 must count as 19
    return min(batch, max(min_keep, batch - dropped))


def most_confident(votes_BK: Tensor, count: int, *, by_class: bool = False) -> Tensor:
    """Positions (count,) of the images with the highest vote for their best class, in batch order.

    Ties go to the earlier image.

    Args:
        by_class: keep about the same share of the images that are named each class, instead of the surest of all: where
            a class is rare, or named with less certainty, it would go without.
    """
    votes_B, named_B = votes_BK.max(1)
    ranked_B = votes_B.argsort(descending=True, stable=True)
    if by_class:
        same_BB = named_B[ranked_B][:, None] == named_B[ranked_B]
        place_B = same_BB.tril().sum(1) / same_BB.sum(1)  # among those of its class, from the surest on
        ranked_B = ranked_B[place_B.argsort(stable=True)]
    return ranked_B[:count].sort().values


def vote_health(votes_BK: Tensor, logits_PBK: Sequence[Tensor]) -> dict[str, Tensor]:
    """Share of images whose voters all name the same class, and mean entropy of the vote in nats."""
    named_PB = torch.stack([logits_BK.argmax(1) for logits_BK in logits_PBK])
    shares_BK = votes_BK / votes_BK.sum(1, keepdim=True)
    return {
        "agreement": (named_PB == named_PB[0]).all(0).float().mean(),
        "pseudo_entropy": -shares_BK.xlogy(shares_BK).sum(1).mean(),
    }


def class_balance(counts_K: Tensor) -> Tensor:
    """Entropy of the classes' shares over ln K: 1 where all are equally frequent, 0 where one is alone."""
    shares_K = counts_K / counts_K.sum()
    return shares_K.xlogy(shares_K).sum() / -log(len(counts_K))


class TemporalEnsemble(nn.Module):
    """An exponential average of each unlabelled image's votes over the passes.

    Keyed by the image's index, so the order of a pass does not matter; corrected for its start at zero.

    Source: SPARSE, arXiv:2508.06429, temporal ensemble; Laine & Aila, arXiv:1610.02242.
    """

    average_MK: Tensor
    num_updates_M: Tensor

    def __init__(self, num_images: int, num_classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("average_MK", torch.zeros(num_images, num_classes))
        self.register_buffer("num_updates_M", torch.zeros(num_images))

    def blend(self, index_B: Tensor, votes_BK: Tensor, share: float) -> Tensor:
        """`share` of the votes and the rest of what is remembered; the votes alone where nothing is yet."""
        num_updates_B1 = self.num_updates_M[index_B][:, None]
        correction_B1 = 1 - self.momentum ** num_updates_B1.clamp(min=1.0)
        remembered_BK = self.average_MK[index_B] / correction_B1
        blended_BK = share * votes_BK + (1 - share) * remembered_BK
        return torch.where(num_updates_B1 > 0, blended_BK, votes_BK)

    def update(self, index_B: Tensor, votes_BK: Tensor) -> None:
        """Take in this pass's votes of some images; each image at most once a pass."""
        self.average_MK[index_B] = self.momentum * self.average_MK[index_B] + (1 - self.momentum) * votes_BK
        self.num_updates_M[index_B] += 1
