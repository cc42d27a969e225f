"""Sizes of a generator and its discriminator, and the settings of their training.

Sources: Karras et al., arXiv:2106.12423 (2021) and arXiv:2006.06676 (2020), whose settings are the defaults; the small
profiles are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Shapes of both networks and how they are trained. Times are in kimg, thousands of real images seen."""

    resolution: int
    """Pixels of a side, a power of two from 8 up."""

    channels: int = 3
    num_layers: int = 14
    """Layers of the generator, the one to the image not counted."""

    channel_base: int = 32768
    channel_max: int = 512
    z_dim: int = 512
    margin: int = 10
    """Pixels around the image in the generator's maps."""

    mapping_layers: int = 2
    batch: int = 32
    group: int = 4
    """Images whose spread the discriminator sees together; the batch is a multiple of it."""

    gamma: float = 1.0
    """Weight of the gradient penalty, in units of resolution² / 32768."""

    penalty_interval: int = 16
    """Steps from one gradient penalty to the next."""

    g_lr: float = 0.0025
    d_lr: float = 0.002
    mirror: bool = False
    """Mirror half of the real images left to right."""

    augment: str = "ada"
    """`ada`, `fixed` or `none`."""

    augment_groups: str = "bgc"
    """Groups of operations, see `Augmentation`."""

    luma_flip: bool = True
    augment_p: float = 0.2
    """Probability where it is fixed."""

    ada_target: float = 0.6
    ada_kimg: float = 500.0
    """Thousands of images in which p would go from 0 to 1."""

    average_kimg: float | None = None
    """Half-life of the generator's average; None for batch · 10 / 32."""

    magnitude_kimg: float = 20.0
    """Half-life of the running sizes of the generator's maps."""

    frozen_convolutions: int = 0
    """Convolutions of the discriminator, from the image on, that keep the weights they got from `start_from`."""

    def __post_init__(self) -> None:
        if self.batch % min(self.group, self.batch):
            raise ConfigError(f"batch {self.batch}: it must be a multiple of the discriminator's group, {self.group}")

    def within(self, kimg: float) -> "GeneratorConfig":
        """Return the same with no time constant longer than suits a training of that length."""
        return replace(
            self,
            ada_kimg=min(self.ada_kimg, 0.1 * kimg),
            average_kimg=min(self.average_half_life, 0.05 * kimg),
            magnitude_kimg=min(self.magnitude_kimg, 0.1 * kimg),
        )

    @property
    def average_half_life(self) -> float:
        """In kimg."""
        return self.batch * 10 / 32 if self.average_kimg is None else self.average_kimg

    @property
    def penalty_weight(self) -> float:
        """γ."""
        return self.gamma * self.resolution**2 / 32768


def _small(
    resolution: int, num_layers: int, channel_base: int, channel_max: int, z_dim: int, batch: int
) -> GeneratorConfig:
    return GeneratorConfig(
        resolution=resolution,
        num_layers=num_layers,
        channel_base=channel_base,
        channel_max=channel_max,
        z_dim=z_dim,
        batch=batch,
    )


PROFILES: Mapping[str, GeneratorConfig] = {
    "tiny": _small(16, 4, 128, 16, 32, 8),
    "small": _small(32, 4, 256, 16, 32, 8),
    "small6": _small(32, 6, 256, 16, 32, 8),
    "cpu-demo": _small(32, 6, 512, 32, 64, 16),
    "cpu-max": _small(32, 6, 1024, 64, 64, 16),
    "gpu-64": GeneratorConfig(resolution=64, num_layers=8, channel_base=16384),
    "gpu-128": GeneratorConfig(resolution=128, channel_base=16384),
    "paper-256": GeneratorConfig(resolution=256),
}
"""From seconds on one CPU core to days on a GPU. Channels are 3; `replace` changes that."""
