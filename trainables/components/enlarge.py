"""Numbers of synthetic images that join the real ones of each class, and which.

Source: SSGNet's published code, with its rounding; where it fills up silently, by repetition or with nothing, when
there are too few synthetic images, here is an error.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_ROUNDING = 1e-9
"""0.2 · 5 is a little less than 1."""


def num_synthetic(counts_K: Sequence[int], extra_ratio: float, target: int = 0) -> list[int]:
    """Synthetic images of each class: those that fill it up to the target, and as many extra ones as of any other.

    Args:
        counts_K: Real images of each class.
        extra_ratio: Extra ones, relative to the target (ρ): 0 only balances.
        target: Images to which every class is filled up; 0: those of the largest class.
    """
    target = target or max(counts_K)
    extra = int(extra_ratio * target + _ROUNDING)
    return [max(0, target - count) + extra for count in counts_K]


def enlarging(banks: Sequence[Tensor | None], wanted_K: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The first so many synthetic images (M, C, H, W) of each class, and their labels (M,), class after class.

    Args:
        banks: Images (n, C, H, W) of each class; None where it has none.
        wanted_K: How many to take of each.

    Raises:
        ValueError: a bank holds fewer, or none is there at all.
    """
    images, labels = [], []
    for label, (bank, wanted) in enumerate(zip(banks, wanted_K, strict=True)):
        held = 0 if bank is None else len(bank)
        if held < wanted:
            raise ValueError(f"{wanted} synthetic images of class {label} are needed, but its bank holds {held}")
        if bank is not None:
            images.append(bank[:wanted])
            labels.append(torch.full((wanted,), label, device=bank.device))
    if not images:
        raise ValueError("there is no bank of synthetic images")
    return torch.cat(images), torch.cat(labels)
