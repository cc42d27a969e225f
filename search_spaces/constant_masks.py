"""Marks nothing or everything, whichever suits the labelled masks better: the floor of segmentation."""

from dataclasses import dataclass

from search_spaces.core.config import MethodConfig


@dataclass(frozen=True, kw_only=True)
class ConstantMasksConfig(MethodConfig):
    """Nothing to set and nothing to search."""
