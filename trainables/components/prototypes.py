"""Prototypes from more than a batch: the latest predictions of all labelled images.

Shapes: N labelled images, B batch, K classes.
"""

import torch
from torch import Tensor, nn

from trainables.components.losses import one_hot


class PrototypeBank(nn.Module):
    """The latest prediction of each labelled image. Nothing here waits for the device."""

    probs_NK: Tensor
    seen_N: Tensor

    def __init__(self, num_images: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("probs_NK", torch.zeros(num_images, num_classes))
        self.register_buffer("seen_N", torch.zeros(num_images))

    def others(self, index_B: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of predictions for images outside the batch, per class (K, K), a class a row, and their counts (K,).

        Args:
            index_B: the batch.
            labels_N: of all labelled images.
        """
        counted_N = self.seen_N.index_fill(0, index_B, 0.0)
        members_NK = one_hot(labels_N, self.probs_NK.shape[1]).to(self.probs_NK) * counted_N[:, None]
        return members_NK.T @ self.probs_NK, members_NK.sum(0)

    def update(self, index_B: Tensor, probs_BK: Tensor) -> None:
        """Take in the batch's predictions."""
        self.probs_NK[index_B] = probs_BK
        self.seen_N[index_B] = 1.0
