"""Pseudo-labelled masks of a round: from predictions to masks, weights of pixels, and the images that are kept.

A round replaces masks, it never adds to them: from the predictions for a bank of images come new targets and weights
for all of them, and the choice of those that take part in the next training. With the default `MaskRules` every image
takes part with its hard mask, as published; the rest is ours.

Shapes: B batch, M images of the bank, H W pixels, K classes. Predictions are probabilities of the foreground.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MaskRules:
    """Rules by which predictions become pseudo-labels."""

    threshold: float = 0.5
    """From this probability on a pixel is foreground."""

    soft: bool = False
    """Use the probabilities themselves as targets."""

    pixel_confidence: float = 0.5
    """Pixels below it have weight 0; 0.5 leaves none out."""

    min_foreground: float = 0.0
    """Least share of foreground pixels in a mask that is kept; any number above 0 leaves out empty masks."""

    max_foreground: float = 1.0
    """Greatest share; any number below 1 leaves out full masks."""

    margin: int = 3
    """Pixels around the foreground that its image's score looks at too."""


class PseudoMasks(NamedTuple):
    """A batch of pseudo-labels, and what the choice among images goes by."""

    targets_BHW: Tensor
    """Float: 0 and 1, or probabilities where they are soft."""

    weights_BHW: Tensor
    """Float: 0 where the prediction is not confident enough, else 1."""

    scores_B: Tensor
    """Mean confidence in and around the foreground, in [0.5, 1]."""

    plausible_B: Tensor
    """Bool: whether the mask is neither too empty nor too full."""


def pseudo_masks(probs_BHW: Tensor, rules: MaskRules) -> PseudoMasks:
    """The pseudo-labels of a batch of predictions; never waits for the device."""
    masks_BHW, confidences_BHW = hard_masks(probs_BHW, rules.threshold), confidences(probs_BHW)
    share_B = masks_BHW.float().mean((1, 2))
    return PseudoMasks(
        targets_BHW=probs_BHW.float() if rules.soft else masks_BHW.float(),
        weights_BHW=(confidences_BHW >= rules.pixel_confidence).float(),
        scores_B=image_scores(confidences_BHW, masks_BHW, rules.margin),
        plausible_B=(share_B >= rules.min_foreground) & (share_B <= rules.max_foreground),
    )


def foreground(logits_BKHW: Tensor) -> Tensor:
    """Probabilities (B, H, W) of the foreground: of one logit its sigmoid, of more what is not the background's."""
    exact_BKHW = logits_BKHW.float()
    if logits_BKHW.shape[1] == 1:
        return exact_BKHW[:, 0].sigmoid()
    return 1 - exact_BKHW.softmax(1)[:, 0]


def hard_masks(probs_BHW: Tensor, threshold: float = 0.5) -> Tensor:
    """Bool (B, H, W): where the foreground is at least so probable."""
    return probs_BHW >= threshold


def confidences(probs_BHW: Tensor) -> Tensor:
    """Probability of the likelier of both classes, in [0.5, 1]."""
    return torch.maximum(probs_BHW, 1 - probs_BHW)


def image_scores(confidences_BHW: Tensor, masks_BHW: Tensor, margin: int) -> Tensor:
    """Mean confidence (B,) over the foreground and the pixels up to `margin` rows and columns from it.

    Over all pixels it would tell of the background alone. Where there is no foreground it is over all of them.
    """
    marked_BHW = masks_BHW.to(confidences_BHW)
    near_BHW = F.max_pool2d(marked_BHW[:, None], 2 * margin + 1, stride=1, padding=margin)[:, 0]
    counted_BHW = torch.where(masks_BHW.any(2).any(1)[:, None, None], near_BHW, 1.0)
    return (confidences_BHW * counted_BHW).sum((1, 2)) / counted_BHW.sum((1, 2))


def select_images(scores_M: Tensor, plausible_M: Tensor, *, keep_fraction: float = 1.0) -> Tensor:
    """Positions of the images that take part, in the order of the bank.

    Args:
        scores_M: of `pseudo_masks`.
        plausible_M: those that are not are never kept.
        keep_fraction: of the plausible images the best, rounded up; ties go to the earlier image.
    """
    plausible = plausible_M.nonzero()[:, 0]
    count = ceil(keep_fraction * len(plausible) - 1e-9)  # 0.7 × 10 must count as 7
    return plausible[scores_M[plausible].argsort(descending=True, stable=True)[:count]].sort().values


def agreement(masks_BHW: Tensor, earlier_BHW: Tensor) -> Tensor:
    """Dice (B,) of this round's hard masks and the last one's; 1 where both are empty."""
    now_BP, before_BP = masks_BHW.bool().flatten(1), earlier_BHW.bool().flatten(1)
    both_B, sizes_B = (now_BP & before_BP).sum(1), now_BP.sum(1) + before_BP.sum(1)
    return torch.where(sizes_B > 0, 2 * both_B / sizes_B.clamp(min=1), 1.0)


def flip_averaged(predict: Callable[[Tensor], Tensor], images_BCHW: Tensor) -> Tensor:
    """The mean prediction (B, H, W) for images, for their mirrored, turned-over, and turned-around pictures.

    Args:
        predict: probabilities (B, H, W) of images (B, C, H, W).
    """
    flips: Sequence[tuple[int, ...]] = ((), (-1,), (-2,), (-2, -1))
    return torch.stack([predict(images_BCHW.flip(flip)).flip(flip) for flip in flips]).mean(0)
