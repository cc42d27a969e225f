"""Scores of generators: how far what they make is from real images, class by class.

The method says how it is measured (`trainables.core.method.Method.scorer`).
"""

from dataclasses import dataclass
from typing import ClassVar

from trainables.core.scores import AnyScores
from trainables.metrics.table import GENERATORS


@dataclass(frozen=True)
class GeneratorScores(AnyScores):
    """Means over classes of distances to held-out images; `num_images` are the real ones, and nothing is named.

    Distances of different feature networks do not compare.
    """

    names: ClassVar[tuple[str, ...]] = GENERATORS.names
