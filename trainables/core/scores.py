"""The contract of scores: what those of every kind of task have in common. The kinds are in `trainables.metrics`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class AnyScores:
    """Metrics of one predictor on one set of images; a class of its own for each kind of task."""

    names: ClassVar[tuple[str, ...]] = ()
    """Names of the metrics that scores of this kind have, in order."""

    num_images: int
    values: Mapping[str, float | None]
    """Metrics by name, one for each of `names`. A metric that is not defined on these images is None, never NaN."""

    confusion: tuple[tuple[float, ...], ...] = ()
    """Counts, K × K: rows are true classes, columns predicted ones. Whole numbers, or means over evaluations; empty
    where nothing is named."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", {name: self.values.get(name) for name in self.names})

    @property
    def threshold(self) -> float | None:
        """The score above which a picture is named class 1; None where none was chosen."""
        return None

    def metric(self, name: str) -> float | None:
        """The metric of that name; None for one of another kind."""
        return self.values.get(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        others = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "values"}
        return others | dict(self.values) | {"confusion": [list(row) for row in self.confusion]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `as_dict` wrote, by a program that knew other metrics too: of what it lacks is None."""
        others = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        confusion = tuple(map(tuple, values["confusion"]))
        return cls(**others | {"values": values, "confusion": confusion})
