"""The contract of scores: what those of every kind of task have in common. The kinds are in `trainables.metrics`."""

from dataclasses import asdict
from typing import Any, Self


class AnyScores:
    """Metrics of one predictor on one set of images, a frozen dataclass for each kind of task."""

    num_images: int

    confusion: tuple[tuple[float, ...], ...]
    """Counts, K × K: rows are true classes, columns predicted ones. Empty where nothing is named."""

    @property
    def threshold(self) -> float | None:
        """The score above which a picture is named class 1; None where none was chosen."""
        return None

    def metric(self, name: str) -> float | None:
        """The metric of that name; None for one of another kind."""
        value: float | None = self._values().get(name)
        return value

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = self._values()
        return values | {"confusion": [list(row) for row in values["confusion"]]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `as_dict` wrote."""
        return cls(**values | {"confusion": tuple(map(tuple, values["confusion"]))})

    def _values(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]
