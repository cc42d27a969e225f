"""What a method finds in images: without torch, so that naming a dataset stays cheap."""

from typing import Literal

Kind = Literal["classification", "segmentation"]
"""Of each image a class, or of each pixel whether it is foreground."""

MirrorAxis = Literal["horizontal", "vertical"]
"""Direction along which an image may be mirrored: left-right, or upside down."""
