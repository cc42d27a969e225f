"""Logistic regression on the pixels: what a careful person tries first, and the floor of every board."""

from dataclasses import dataclass
from typing import Annotated

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Float


@dataclass(frozen=True, kw_only=True)
class PixelsConfig(MethodConfig):
    """Defaults are scikit-learn's."""

    image_size: int = 32
    """Side in pixels of the images whose pixels are the features; others are resized. Ours."""

    c: Annotated[float, Float(1e-3, 1e3, log=True)] = 1.0
    """Inverse of the strength of the L2 penalty. Source: scikit-learn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "c", 1e-9, 1e9)
