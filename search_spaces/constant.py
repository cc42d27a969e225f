"""The majority class of the labelled images: the floor that every method must clear."""

from dataclasses import dataclass

from search_spaces.core.config import MethodConfig


@dataclass(frozen=True, kw_only=True)
class ConstantConfig(MethodConfig):
    """Nothing to set and nothing to search."""
