"""How a picture is divided into patches: without torch, so that naming a dataset stays cheap."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """How a picture is divided into patches, which a method then takes for images."""

    rows: int
    columns: int
    overlap: int = 0
    """Pixels by which a patch is larger than its cell of the grid: neighbours share at least so many."""

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}" + (f"+{self.overlap}" if self.overlap else "")

    @property
    def num_patches(self) -> int:
        """P."""
        return self.rows * self.columns
