"""What is said of generators: how far what they make is from real images, class by class.

How it is measured is a matter of the method (`trainables.core.method.Method.scorer`).
"""

from dataclasses import dataclass

from trainables.core.scores import AnyScores

GENERATOR_METRICS = ("kid", "fid", "manifold_precision", "manifold_recall")
"""The default objective first. Both distances are better when smaller."""


@dataclass(frozen=True)
class GeneratorScores(AnyScores):
    """Means over classes of distances to held-out images. Those of different feature networks do not compare."""

    num_images: int
    """Real ones."""

    kid: float
    """Kernel distance, unbiased: it may be below 0."""

    fid: float
    """Fréchet distance, biased upwards where images are few."""

    manifold_precision: float
    """Share of generated images within the manifold of the real ones."""

    manifold_recall: float
    """Share of real images within the manifold of the generated ones."""

    confusion: tuple[tuple[float, ...], ...] = ()
    """None: nothing is named."""
