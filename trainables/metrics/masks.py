"""From masks to scores: pixels are counted image by image, then pooled over a set of images or averaged over it.

Shapes: B batch, N images, H W pixels, 4 the counts of true positives, false positives, false negatives, true negatives.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.core.scores import AnyScores
from trainables.metrics.counts import score_known, score_of
from trainables.metrics.table import MASKS

FOREGROUND = 0.5
"""Probability from which on a pixel is foreground."""


@dataclass(frozen=True)
class MaskScores(AnyScores):
    """Scores of masks on one set of images, in [0, 1].

    IoU and Dice of a class that is neither marked nor predicted are 1. Sensitivity needs a foreground pixel and
    specificity a background one; their means are over the images that have some. The confusion counts pixels, the
    background first.
    """

    names: ClassVar[tuple[str, ...]] = MASKS.names


def count_pixels(predicted_BHW: Tensor, true_BHW: Tensor) -> Tensor:
    """True positives, false positives, false negatives, true negatives of each image: (B, 4), int64.

    Raises:
        ValueError: masks of different shapes.
    """
    if predicted_BHW.shape != true_BHW.shape:
        raise ValueError(f"predicted masks have shape {(*predicted_BHW.shape,)}, true ones {(*true_BHW.shape,)}")
    named_BP, true_BP = predicted_BHW.bool().flatten(1), true_BHW.bool().flatten(1)
    both_B, named_B, true_B = (named_BP & true_BP).sum(1), named_BP.sum(1), true_BP.sum(1)
    either_B = named_B + true_B - both_B
    return torch.stack([both_B, named_B - both_B, true_B - both_B, true_BP.shape[1] - either_B], 1)


def score_foreground(probs_NHW: NDArray[np.float64], masks_NHW: NDArray[np.bool_]) -> MaskScores:
    """All metrics of probabilities of the foreground against masks; from 0.5 on a pixel is named foreground.

    Raises:
        ValueError: no image, or other shapes.
    """
    counts_N4 = count_pixels(torch.from_numpy(probs_NHW >= FOREGROUND), torch.from_numpy(masks_NHW))
    return score_masks(counts_N4.numpy())


def score_masks(counts_N4: NDArray[np.int64]) -> MaskScores:
    """All metrics of the counts of a set of images.

    Raises:
        ValueError: no image.
    """
    if len(counts_N4) == 0:
        raise ValueError("no masks to score")
    tables_N22 = counts_N4[:, [3, 1, 2, 0]].reshape(-1, 2, 2)
    pooled_22 = tables_N22.sum(0)
    pooled = {name: score_known(pooled_22, name) for name in MASKS.counted()}
    means = {f"{name}_img": _mean(score_of(tables_N22, name)) for name in MASKS.counted()}
    return MaskScores(len(counts_N4), pooled | means, tuple(map(tuple, pooled_22.tolist())))


def _mean(values_N: NDArray[np.float64]) -> float | None:
    """Mean of those that are defined."""
    known = values_N[~np.isnan(values_N)]
    return float(known.mean()) if len(known) else None
