"""From masks to metrics: pixels are counted image by image.

Two conventions are in use, and papers compare numbers of one with numbers of the other: those of the foreground alone
(`iou_fg`, `dice_fg`) and means over foreground and background (`miou_2`, `mdice_2`). Both are here, pooled over all
pixels of a set of images, and as means over its images (`…_img`).

Shapes: B batch, N images, H W pixels, 4 the counts of true positives, false positives, false negatives, true negatives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.core.scores import AnyScores

MASK_METRICS = (
    "dice_fg", "iou_fg", "mdice_2", "miou_2", "pixel_accuracy", "sensitivity", "specificity",
    "dice_fg_img", "iou_fg_img", "mdice_2_img", "miou_2_img", "pixel_accuracy_img", "sensitivity_img",
    "specificity_img",
)  # fmt: skip
"""Metrics of a segmentation into foreground and background, the default objective first. Greater is better."""


@dataclass(frozen=True)
class MaskScores(AnyScores):
    """Metrics of masks on one set of images, in [0, 1]. One that is not defined there is None, never NaN.

    Of a class that is neither marked nor predicted IoU and Dice are 1. Sensitivity needs a foreground pixel and
    specificity a background one; their means are over the images that have some.
    """

    num_images: int
    dice_fg: float
    iou_fg: float
    mdice_2: float
    miou_2: float
    pixel_accuracy: float
    sensitivity: float | None
    specificity: float | None
    dice_fg_img: float
    iou_fg_img: float
    mdice_2_img: float
    miou_2_img: float
    pixel_accuracy_img: float
    sensitivity_img: float | None
    specificity_img: float | None
    confusion: tuple[tuple[float, ...], ...]
    """Pixels: rows are true classes, columns predicted ones, the background first. Whole numbers, or means over
    evaluations."""


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


def score_masks(counts_N4: NDArray[np.int64]) -> MaskScores:
    """All metrics of the counts of a set of images.

    Raises:
        ValueError: no image.
    """
    if len(counts_N4) == 0:
        raise ValueError("no masks to score")
    pooled_4, each_4N = counts_N4.sum(0), counts_N4.T
    tp, fp, fn, tn = (int(count) for count in pooled_4)
    pooled = {name: _mean(metric(*pooled_4[:, None])) for name, metric in _METRICS.items()}
    means = {f"{name}_img": _mean(metric(*each_4N)) for name, metric in _METRICS.items()}
    return MaskScores.from_dict({"num_images": len(counts_N4), "confusion": [[tn, fp], [fn, tp]]} | pooled | means)


Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def _iou_fg(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Values:
    return _ratio(tp, tp + fp + fn, empty=1.0)


def _dice_fg(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Values:
    return _ratio(2 * tp, 2 * tp + fp + fn, empty=1.0)


def _sensitivity(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Values:
    return _ratio(tp, tp + fn)


def _pixel_accuracy(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Values:
    return _ratio(tp + tn, tp + fp + fn + tn)


def _of_background(metric: Callable[..., Values]) -> Callable[..., Values]:
    return lambda tp, fp, fn, tn: metric(tn, fn, fp, tp)


def _of_both(metric: Callable[..., Values]) -> Callable[..., Values]:
    return lambda *counts: (metric(*counts) + _of_background(metric)(*counts)) / 2


_METRICS: dict[str, Callable[..., Values]] = {
    "dice_fg": _dice_fg,
    "iou_fg": _iou_fg,
    "mdice_2": _of_both(_dice_fg),
    "miou_2": _of_both(_iou_fg),
    "pixel_accuracy": _pixel_accuracy,
    "sensitivity": _sensitivity,
    "specificity": _of_background(_sensitivity),
}


def _ratio(part: Counts, whole: Counts, empty: float = np.nan) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), empty)


def _mean(values: Values) -> float | None:
    """Of those that are defined."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
