"""Settings that methods share: how training images are changed at random, so that what stays the same is learned.

Sources: Cubuk et al., "RandAugment", arXiv:1909.13719; DeVries & Taylor, "Cutout", arXiv:1708.04552; Sohn et al.,
"FixMatch", arXiv:2001.07685, for the pool of operations and their magnitudes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Choice, Float, Int, When

NO_MOTION: Mapping[str, Any] = {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "brightness": 0.0, "contrast": 0.0}
"""Differences from the defaults that presets have in common: flips at most."""


@dataclass(frozen=True, kw_only=True)
class MovedConfig(MethodConfig):
    """Weak random changes of training images; defaults are ours. Data sets say which flips change what is seen."""

    flip: Annotated[bool, Choice(True, False)] = False
    """Mirror half of the training images left-right, unless the data set says that left and right differ in meaning.
    Off, as it costs on most radiographs what it gains elsewhere."""

    flip_vertical: bool = False
    """Mirror half of the training images upside down, unless the data set says that up and down differ."""

    quarter_turns: bool = False
    """Turn training images by 0, 90, 180 or 270 degrees, where the data set says that no direction is special."""

    rotation: Annotated[float, Float(0.0, 180.0)] = 15.0
    """Degrees by which training images turn at most, to either side."""

    shift: Annotated[float, Float(0.0, 0.3)] = 0.1
    """Share of their side by which training images move at most, left, right, up and down."""

    zoom: Annotated[float, Float(0.0, 0.4)] = 0.1
    """Share by which training images grow or shrink at most."""

    brightness: Annotated[float, Float(0.0, 0.4)] = 0.1
    """Most that is added to, or taken from, the pixels of a training image, whose range is 1."""

    contrast: Annotated[float, Float(0.0, 0.4)] = 0.1
    """Most by which a training image's distances from its mean grow or shrink, as a share."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "rotation", 0.0, 180.0)
        for name in ("shift", "zoom", "brightness", "contrast"):
            require(self, name, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class AugmentedConfig(MovedConfig):
    """Weak and strong random changes of training images, of which a class is known."""

    strong_ops: Annotated[int, Int(0, 3)] = 0
    """Operations of RandAugment on each training image, drawn anew for each; 0: none, and no cut-out."""

    strong_pool: Annotated[Literal["all", "no_colour"], Choice("all", "no_colour"), When("strong_ops", above=0)] = "all"
    """Operations that are drawn from: all, or without colour, posterise and solarise. Grey images have no colour."""

    cut_out: Annotated[float, Float(0.0, 0.5), When("strong_ops", above=0)] = 0.5
    """Largest side of the grey square that RandAugment ends with, as a share of the image's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "strong_ops", 0, 16)
        require(self, "cut_out", 0.0, 1.0)
