"""Batches as indices: images stay on the device, only indices travel."""

from math import ceil

import torch
from torch import Tensor

MAX_EPOCH_IMAGES = 320
"""Most images of an epoch that is so many steps long: so that evaluations come at equal images whatever the batch."""


def epoch_steps(wanted: int, step_images: int) -> int:
    """Steps of an epoch, of so many images each: as many as are wanted, but of no more than `MAX_EPOCH_IMAGES`."""
    return max(1, min(wanted, MAX_EPOCH_IMAGES // step_images))


def even_batches(
    num_items: int, batch_size: int, *, share: float = 1.0, classes_N: Tensor | None = None
) -> list[Tensor]:
    """A random order of the items, or of a random share of them, in batches of equal size, give or take one.

    Nothing is dropped and no small rest remains: 25 items at batch size 24 become 13 + 12, and a batch of
    one, which BatchNorm cannot take, occurs only where there is one item. To that end a batch may hold one
    item more than a batch size of 2 allows. (Dropping the rest, as SPARSE's code does, leaves no batch at all
    when there are fewer labels than the batch size.) With `classes_N` every batch holds its fair share of each class.
    """
    if num_items == 0:
        return []
    used = num_used(num_items, share)
    num_batches = max(1, min(ceil(used / batch_size), used // 2))
    order_N = torch.randperm(num_items)
    if classes_N is not None:
        order_N = order_N[_turns(classes_N[order_N]).argsort(stable=True)]
    return list(order_N[:used].tensor_split(num_batches))


def num_used(num_items: int, share: float) -> int:
    """Items in a random share: at least two, where there are as many."""
    return min(num_items, max(2, round(share * num_items)))


def _turns(classes_N: Tensor) -> Tensor:
    """Number of items of the same class before each item."""
    same_NN = classes_N[:, None] == classes_N
    return same_NN.tril(-1).sum(1)
