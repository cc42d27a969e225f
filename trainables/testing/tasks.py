"""Synthetic few-shot tasks, made in a millisecond.

Shapes: N images, C channels, H W pixels.
"""

import torch
from torch import Tensor

from trainables.core.kind import Kind
from trainables.core.method import Labelled, Provenance, Task


def make_task(
    *,
    channels: int = 1,
    num_classes: int = 3,
    shots: int = 3,
    num_unlabelled: int = 24,
    side: int = 16,
    kind: Kind = "classification",
) -> Task:
    """Return a task of noise whose classes differ in brightness; in a segmentation a bright square is the foreground.

    There are `shots` labelled images per class and as many for validation; equal arguments give equal tasks.
    """
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(num_classes).repeat_interleave(shots)
    hidden_N = torch.randint(0, num_classes, (num_unlabelled,), generator=generator)
    segmentation = kind == "segmentation"

    def draw(labels_N: Tensor) -> Tensor:
        noise = torch.randint(0, 100, (len(labels_N), channels, side, side), generator=generator)
        return (noise + (labels_N * 150 // num_classes)[:, None, None, None]).to(torch.uint8)

    def labelled() -> Labelled:
        images_NCHW = draw(labels_N)
        return _with_squares(images_NCHW, generator) if segmentation else Labelled(images_NCHW, labels_N.clone())

    return Task(
        dataset="synthetic",
        kind=kind,
        num_classes=2 if segmentation else num_classes,
        channels=channels,
        labelled=labelled(),
        unlabelled_NCHW=draw(hidden_N),
        validation=labelled(),
        provenance=_provenance(shots, num_classes),
    )


def _with_squares(images_NCHW: Tensor, generator: torch.Generator) -> Labelled:
    """Return the images with a white square somewhere in each, which its mask marks. Changes the images."""
    num_images, _, side, _ = images_NCHW.shape
    corners_N = torch.randint(0, side // 2, (num_images, 2), generator=generator)
    masks_NHW = torch.zeros(num_images, side, side, dtype=torch.bool)
    for mask_HW, image_CHW, (row, column) in zip(masks_NHW, images_NCHW, corners_N.tolist(), strict=True):
        square = (slice(row, row + side // 2), slice(column, column + side // 2))
        mask_HW[square] = True
        image_CHW[(slice(None), *square)] = 255
    return Labelled(images_NCHW, torch.zeros(num_images, dtype=torch.long), masks_IHW=masks_NHW)


def _provenance(shots: int, num_classes: int) -> Provenance:
    return Provenance(
        content_hash="synthetic",
        official=False,
        shots=shots,
        label_set=0,
        fold=0,
        validation="realistic",
        label_set_hash="none",
        label_budget=2 * shots * num_classes,
    )
