"""Settings of a network that first learns from the training images without labels: a pretext task, and what follows.

Sources: Chen et al., "SimCLR", arXiv:2002.05709; Chen et al., "MoCo v2", arXiv:2003.04297; Grill et al., "BYOL",
arXiv:2006.07733.
"""

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

from search_spaces.core.config import MethodConfig, require
from search_spaces.core.ranges import Choice, Float, When

MAX_PRETEXT_EPOCHS = 64
"""Most parts that a pretext task is trained in: as many entries has its curve, and between two it can be stopped."""

_ANY = When("pretext", among=("simclr", "moco", "byol"))
_CONTRASTIVE = When("pretext", among=("simclr", "moco"))
_SLOW = When("pretext", among=("moco", "byol"))


@dataclass(frozen=True, kw_only=True)
class PretextConfig(MethodConfig):
    """Defaults are ours, measured on small images; all of it is searched only where there is a pretext task."""

    pretext: Literal["none", "simclr", "moco", "byol"] = "none"
    """Task by which a network learns from all training images, labelled or not, without their labels: two views of an
    image are told from those of others by the batch (SimCLR) or by a queue (MoCo v2), or foretell each other (BYOL)."""

    pretext_images: int = 16_000
    """Images that it sees, two views of an image being two; they count in the budget, also where it is found. Ours."""

    pretext_side: int = 32
    """Side in pixels of the views. Ours."""

    pretext_batch: Annotated[int, Choice(64, 128, 256), _ANY] = 64
    """Images per step, two views of each, or all where there are fewer. Source: ours; SimCLR 4096, MoCo 256."""

    pretext_lr: Annotated[float, Float(3e-5, 3e-2, log=True), _ANY] = 1e-3
    """AdamW step size, which rises in a twentieth of the training and falls to 0 in half a cosine. Ours."""

    pretext_weight_decay: Annotated[float, Float(1e-6, 1e-1, log=True), _ANY] = 1e-4
    """AdamW decoupled decay. Ours."""

    pretext_temperature: Annotated[float, Float(0.05, 0.5, log=True), _CONTRASTIVE] = 0.2
    """Divisor of cosines. Source: MoCo v2 0.2, SimCLR 0.1."""

    pretext_momentum: Annotated[float, Float(0.9, 0.9999), _SLOW] = 0.99
    """Share of itself that the slow network keeps at a step; BYOL's rises to 1. Source: MoCo 0.999, BYOL 0.99."""

    pretext_queue: Annotated[int, Choice(512, 2048, 8192), When("pretext", equals="moco")] = 2048
    """Views of earlier steps to be told from, at most half as many as there are images. Source: MoCo v2 65536."""

    pretext_projector: Annotated[int, Choice(64, 128, 256), _ANY] = 128
    """Outputs of the layers that a view is compared after, and that are thrown away. Source: SimCLR."""

    pretext_crop: Annotated[float, Float(0.05, 0.9), _ANY] = 0.3
    """Least share of an image's area that a view shows. Source: ours; SimCLR 0.08, MoCo v2 0.2."""

    pretext_light: Annotated[float, Float(0.0, 0.5), _ANY] = 0.45
    """Most that brightness and contrast of a view change, as shares, and of colour images most that colour fades."""

    pretext_blur: Annotated[float, Float(0.0, 0.06), _ANY] = 0.03
    """Largest spread of the blur of every second view, as a share of its side. Source: SimCLR 0.009."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "pretext_images", 1)
        require(self, "pretext_side", 8, 1024)
        require(self, "pretext_batch", 2, 65_536)
        require(self, "pretext_lr", 1e-8, 1.0)
        require(self, "pretext_weight_decay", 0.0, 1.0)
        require(self, "pretext_temperature", 1e-3, 100.0)
        require(self, "pretext_momentum", 0.0, 1.0)
        require(self, "pretext_queue", 1, 2**24)
        require(self, "pretext_projector", 1, 65_536)
        require(self, "pretext_crop", 0.01, 1.0)
        require(self, "pretext_light", 0.0, 1.0)
        require(self, "pretext_blur", 0.0, 0.25)

    @property
    def has_pretext(self) -> bool:
        """Return True if a network learns without labels first."""
        return self.pretext != "none"

    @property
    def num_pretext_epochs(self) -> int:
        """Parts that its training has; 0 without one."""
        return min(MAX_PRETEXT_EPOCHS, ceil(self.pretext_images / (2 * self.pretext_batch))) if self.has_pretext else 0
