"""Losses of masks: BCE-Dice, and t-vMF Dice with its adaptive κ.

A pixel of weight 0 does not count, as if it were not there: not in a mean, not in a sum of Dice, not in a cosine.

Shapes: B batch, H W pixels, K classes, the background among them. Logits are unnormalised; targets may be soft.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMOOTHING = 1.0  # of Dice: makes an empty mask that is rightly found empty a loss of 0
_ALL_BUT_CLASSES = (0, 2, 3)

KappaSource = Literal["val", "train_ema"]


def bce_dice(
    logits_BHW: Tensor,
    targets_BHW: Tensor,
    *,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    pixel_weights_BHW: Tensor | None = None,
    image_weights_B: Tensor | None = None,
) -> Tensor:
    """Mean over the images of `bce_weight` × binary cross-entropy + `dice_weight` × (1 - smoothed Dice).

    Args:
        logits_BHW: of the foreground.
        targets_BHW: how much of it there is, in [0, 1].
        bce_weight: of the first term.
        dice_weight: of the second term.
        pixel_weights_BHW: in [0, 1]; both terms of an image are those of its pixels that count, and 0 without any.
        image_weights_B: by which the images' losses are multiplied; the mean stays that over all images.

    Source: Ruan et al., arXiv:2402.02491, with a smoothing of 1.
    """
    logits_BP = _exact(logits_BHW).flatten(1)
    targets_BP = targets_BHW.to(logits_BP).flatten(1)
    weights_BP = torch.ones_like(logits_BP) if pixel_weights_BHW is None else pixel_weights_BHW.to(logits_BP).flatten(1)
    entropies_BP = F.binary_cross_entropy_with_logits(logits_BP, targets_BP, weights_BP, reduction="none")
    counted_B = weights_BP.sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    probs_BP = logits_BP.sigmoid()
    overlap_B = (weights_BP * probs_BP * targets_BP).sum(1)
    sizes_B = (weights_BP * (probs_BP + targets_BP)).sum(1)
    dice_B = (2 * overlap_B + _SMOOTHING) / (sizes_B + _SMOOTHING)
    losses_B = bce_weight * entropies_BP.sum(1) / counted_B + dice_weight * (1 - dice_B)
    return (losses_B if image_weights_B is None else losses_B * image_weights_B).mean()


def tvmf_similarity(cosines: Tensor, kappa: Tensor) -> Tensor:
    """φ = (1 + cos) / (1 + κ (1 - cos)) - 1: 1 where cos is 1, and steeper there the greater κ; cos where κ is 0.

    Source: Kobayashi, CVPR 2021, "T-vMF Similarity for Regularizing Intra-Class Feature Distribution".
    """
    return (1 + cosines) / (1 + kappa * (1 - cosines)) - 1


def tvmf_dice(
    logits_BKHW: Tensor, targets_BKHW: Tensor, kappa_K: Tensor, pixel_weights_BHW: Tensor | None = None
) -> Tensor:
    """Mean over the classes of (1 - φ)², φ the t-vMF similarity of prediction and target over the whole batch.

    A class without a pixel in the batch has cosine 0 and gives no gradient.

    Args:
        logits_BKHW: of all classes.
        targets_BKHW: shares of the classes, as of `one_hot_masks`.
        kappa_K: not negative; 0 for the square of 1 - cosine.
        pixel_weights_BHW: how much each pixel counts in products and lengths. To weigh an image, weigh all its pixels;
            a factor common to the whole batch makes no difference.

    Source: Kato & Hotta, arXiv:2207.07842.
    """
    probs_BKHW, targets_BKHW = _exact(logits_BKHW).softmax(1), _exact(targets_BKHW)
    weighted_BKHW = targets_BKHW if pixel_weights_BHW is None else targets_BKHW * pixel_weights_BHW[:, None]
    counted_BKHW = probs_BKHW if pixel_weights_BHW is None else probs_BKHW * pixel_weights_BHW[:, None]
    products_K = (weighted_BKHW * probs_BKHW).sum(_ALL_BUT_CLASSES)
    squares_K = (weighted_BKHW * targets_BKHW).sum(_ALL_BUT_CLASSES)
    squares_K = squares_K * (counted_BKHW * probs_BKHW).sum(_ALL_BUT_CLASSES)
    cosines_K = products_K / squares_K.clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    return (1 - tvmf_similarity(cosines_K, kappa_K)).square().mean()


def one_hot_masks(masks_BHW: Tensor, num_classes: int) -> Tensor:
    """Shares (B, K, H, W) of the classes that masks name; of two, a mask may hold the share of class 1 instead."""
    if num_classes == 2:
        shares_BHW = masks_BHW.float()
        return torch.stack([1 - shares_BHW, shares_BHW], 1)
    shape = (len(masks_BHW), num_classes, *masks_BHW.shape[1:])
    return torch.zeros(shape, device=masks_BHW.device).scatter_(1, masks_BHW.long()[:, None], 1.0)


class AdaptiveKappa(nn.Module):
    """κ of each class, λ × how well the class is found: 0 at first, as a great κ teaches nothing while it is not.

    With the source `val` it follows the Dice of the validation images, as published, which makes validation scores
    optimistic. With `train_ema` it follows that of the training batches: the averages of their overlaps and sizes
    decay, and Dice is their ratio, so that a batch without a class leaves that class as it is.

    Source: Kato & Hotta, arXiv:2207.07842; `train_ema` is ours.
    """

    kappa_K: Tensor
    overlaps_K: Tensor
    sizes_K: Tensor

    def __init__(
        self, num_classes: int, *, scale: float = 32.0, source: KappaSource = "val", decay: float = 0.99
    ) -> None:
        super().__init__()
        self.scale, self.source, self.decay = scale, source, decay
        for name in ("kappa_K", "overlaps_K", "sizes_K"):
            self.register_buffer(name, torch.zeros(num_classes))

    @torch.no_grad()
    def see(self, logits_BKHW: Tensor, targets_BKHW: Tensor, pixel_weights_BHW: Tensor | None = None) -> None:
        """Take in a training batch; for the source `val` it does nothing. Never waits for the device."""
        if self.source == "val":
            return
        named_BHW = logits_BKHW.argmax(1)
        named_BKHW, true_BKHW = (one_hot_masks(each, len(self.kappa_K)) for each in (named_BHW, targets_BKHW.argmax(1)))
        weights_B1HW = torch.ones_like(named_BKHW[:, :1]) if pixel_weights_BHW is None else pixel_weights_BHW[:, None]
        self.overlaps_K.lerp_((named_BKHW * true_BKHW * weights_B1HW).sum(_ALL_BUT_CLASSES), 1 - self.decay)
        self.sizes_K.lerp_(((named_BKHW + true_BKHW) * weights_B1HW).sum(_ALL_BUT_CLASSES), 1 - self.decay)

    def end_epoch(self, validation_dice_K: Tensor | None = None) -> None:
        """Set κ for the next epoch.

        Args:
            validation_dice_K: pooled over the validation images; needed for the source `val`, and no other.
        """
        if (validation_dice_K is not None) != (self.source == "val"):
            raise ValueError(f"κ follows '{self.source}': validation Dice is given for 'val' and for no other source")
        dice_K = self._training_dice() if validation_dice_K is None else validation_dice_K
        self.kappa_K.copy_(self.scale * dice_K)

    def _training_dice(self) -> Tensor:
        return 2 * self.overlaps_K / self.sizes_K.clamp(min=torch.finfo(torch.float32).tiny)


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
