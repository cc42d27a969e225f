"""The table of metrics: all there is to know of each, in one row. Everything that names a metric reads it.

It loads at once, without numpy or torch. The functions are in `trainables.metrics.counts` (what a table of counts
determines) and `trainables.metrics.classes` (what follows from probabilities).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from math import log

LEAST_PROBABILITY = 1e-4
"""Probability of the true class below which it counts as this in the balanced log-loss, which so has an upper end."""


class Origin(Enum):
    """Data that a metric is computed from, and so whether it can be had again from a record."""

    COUNTS_OF_IMAGES = auto()
    """The stored confusion table of images. Images are independent, so an interval may draw them again."""

    COUNTS_OF_PIXELS = auto()
    """The stored confusion table of pixels. Those of an image are alike: no interval comes from their number."""

    EACH_IMAGE = auto()
    """The tables of single images, which are not stored."""

    PREDICTIONS = auto()
    """Probabilities and labels."""

    PATCHES = auto()
    """Probabilities of a picture's patches and where its findings lie, whatever rule judges the picture."""

    SCORER = auto()
    """Images that a method makes, judged by its own scorer."""


_COUNTS = (Origin.COUNTS_OF_IMAGES, Origin.COUNTS_OF_PIXELS)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table."""

    name: str
    """Name in scores, tables, sweep files and on the command line."""

    title: str
    """Name on pages, inside a sentence."""

    short: str = ""
    """Head of a column; the title where it is empty."""

    origin: Origin
    sign: int = 1
    """1 where larger is better, -1 where smaller is."""

    low: float | None = 0.0
    """Least possible value; None where there is none."""

    high: float | None = 1.0
    """Greatest possible value; None where there is none."""

    unit: str = ""
    share_of: str = ""
    """`images` of a share of all images, `classes` of a mean over classes of such shares: these have Wilson's interval.
    Empty for all else."""

    guessing: bool = False
    """Tells that guessing among K classes scores 1 / K."""

    is_objective: bool = True
    """Tells that a sweep may search for it."""

    is_column: bool = False
    """Tells that tables on a terminal show it without being asked."""

    @property
    def words(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")

    @property
    def head(self) -> str:
        """Head of a column."""
        return self.short or self.title

    @property
    def is_counted(self) -> bool:
        """True where the stored confusion table determines it."""
        return self.origin in _COUNTS

    @property
    def is_of_named(self) -> bool:
        """True where it depends on the named classes alone, so that naming one class for all makes it worthless."""
        return self.is_counted or self.origin is Origin.EACH_IMAGE

    @property
    def worst(self) -> float | None:
        """The end of its domain that no predictor wants to be at; None where there is none."""
        return self.low if self.sign > 0 else self.high

    def chance(self, num_classes: int) -> float | None:
        """Score of guessing; None where it is not known."""
        return 1 / num_classes if self.guessing else None


@dataclass(frozen=True)
class Family:
    """Metrics of one kind of task. Scores have all of one family and none of another."""

    kind: str
    """Name of what methods are judged as (`trainables.core.method.Method.judged_as`)."""

    levels: tuple[str, ...]
    """Names of what is scored, in the column `level`; the main one first."""

    metrics: tuple[Metric, ...]
    """In the order of columns; the first is the default objective."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def default(self) -> str:
        """Name of what is searched for and ranked by, unless another metric is asked for."""
        return self.metrics[0].name

    @property
    def columns(self) -> tuple[Metric, ...]:
        """Metrics that tables on a terminal show; the first is the default objective."""
        return tuple(metric for metric in self.metrics if metric.is_column)

    def counted(self) -> tuple[str, ...]:
        """Names of the metrics that a confusion table determines."""
        return tuple(metric.name for metric in self.metrics if metric.is_counted)


def _of_images(metric: Metric) -> Metric:
    """The metric of each image, as the mean over images."""
    name, title = f"{metric.name}_img", f"{metric.title}, image by image"
    return replace(metric, name=name, title=title, short="", origin=Origin.EACH_IMAGE, is_column=False)


def _mask_metrics(*metrics: Metric) -> tuple[Metric, ...]:
    """Metrics over all pixels, then the same image by image."""
    return (*metrics, *map(_of_images, metrics))


CLASSES = Family(
    "classification",
    ("image", "patch"),
    (
        Metric(
            name="balanced_accuracy", title="balanced accuracy", short="balanced acc.", origin=Origin.COUNTS_OF_IMAGES,
            share_of="classes", guessing=True, is_column=True,
        ),
        Metric(
            name="accuracy", title="accuracy", origin=Origin.COUNTS_OF_IMAGES, share_of="images", is_column=True,
        ),
        Metric(name="macro_f1", title="macro F1", origin=Origin.COUNTS_OF_IMAGES),
        Metric(name="auroc", title="AUROC", origin=Origin.PREDICTIONS, is_column=True),
        Metric(
            name="calibration_error", title="calibration error", origin=Origin.PREDICTIONS, sign=-1, is_objective=False,
        ),
        Metric(
            name="log_loss", title="log-loss", origin=Origin.PREDICTIONS, sign=-1, high=None, unit="nats",
            is_objective=False,
        ),
        Metric(
            name="balanced_brier", title="class-balanced Brier score", short="balanced Brier",
            origin=Origin.PREDICTIONS, sign=-1, high=2.0,
        ),
        Metric(
            name="balanced_log_loss", title="class-balanced log-loss", short="balanced log-loss",
            origin=Origin.PREDICTIONS, sign=-1, high=-log(LEAST_PROBABILITY), unit="nats",
        ),
        Metric(name="brier", title="Brier score", origin=Origin.PREDICTIONS, sign=-1, high=2.0),
        Metric(name="average_precision", title="average precision", origin=Origin.PREDICTIONS),
        Metric(
            name="kappa", title="quadratic weighted kappa", short="kappa", origin=Origin.COUNTS_OF_IMAGES, low=-1.0,
        ),
        Metric(
            name="sensitivity_at_95", title="sensitivity at 95 % specificity", short="sens. at 95 %",
            origin=Origin.PREDICTIONS,
        ),
        Metric(
            name="specificity_at_95", title="specificity at 95 % sensitivity", short="spec. at 95 %",
            origin=Origin.PREDICTIONS,
        ),
        Metric(
            name="localisation", title="localisation AUROC", short="localisation", origin=Origin.PATCHES,
            is_objective=False, is_column=True,
        ),
        Metric(
            name="patch_localisation", title="localisation AUROC of patches", origin=Origin.PATCHES, is_objective=False,
        ),
    ),
)  # fmt: skip
"""Metrics of named classes: of images, of pictures that are judged by their patches, and of these patches."""

MASKS = Family(
    "segmentation",
    ("mask",),
    _mask_metrics(
        Metric(
            name="dice_fg", title="Dice of the foreground", short="dice fg", origin=Origin.COUNTS_OF_PIXELS,
            is_column=True,
        ),
        Metric(
            name="iou_fg", title="IoU of the foreground", short="iou fg", origin=Origin.COUNTS_OF_PIXELS,
            is_column=True,
        ),
        Metric(
            name="mdice_2", title="Dice of both classes", short="mdice 2", origin=Origin.COUNTS_OF_PIXELS,
            is_column=True,
        ),
        Metric(
            name="miou_2", title="IoU of both classes", short="miou 2", origin=Origin.COUNTS_OF_PIXELS, is_column=True,
        ),
        Metric(name="pixel_accuracy", title="pixel accuracy", origin=Origin.COUNTS_OF_PIXELS),
        Metric(name="sensitivity", title="sensitivity", origin=Origin.COUNTS_OF_PIXELS),
        Metric(name="specificity", title="specificity", origin=Origin.COUNTS_OF_PIXELS),
    ),
)  # fmt: skip
"""Metrics of masks of foreground and background: over all pixels of a set, and as means over its images (`…_img`)."""

GENERATORS = Family(
    "generation",
    ("generator",),
    (
        Metric(
            name="kid", title="kernel distance (KID)", short="kernel distance", origin=Origin.SCORER, sign=-1,
            low=None, high=None, is_column=True,
        ),
        Metric(
            name="fid", title="Fréchet distance (FID)", short="Fréchet distance", origin=Origin.SCORER, sign=-1,
            high=None, is_column=True,
        ),
        Metric(
            name="manifold_precision", title="precision of generators", short="precision", origin=Origin.SCORER,
            is_column=True,
        ),
        Metric(
            name="manifold_recall", title="recall of generators", short="recall", origin=Origin.SCORER, is_column=True,
        ),
    ),
)  # fmt: skip
"""Metrics of generators, means over classes against held-out images. Those of different feature networks do not
compare. KID, unbiased, may be below 0; FID is biased upwards where images are few."""

FAMILIES: Mapping[str, Family] = {family.kind: family for family in (CLASSES, MASKS, GENERATORS)}
"""Families by kind."""

METRICS: Mapping[str, Metric] = {metric.name: metric for family in FAMILIES.values() for metric in family.metrics}
"""Metrics of every family, by name."""

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    kind: tuple(metric.name for metric in family.metrics if metric.is_objective) for kind, family in FAMILIES.items()
}
"""Names of what can be searched for, by kind; the first is meant when none is named."""

DEFAULT_METRIC = CLASSES.default
"""Name of the metric that a question is about which names none; rows of other families answer by their own default."""

TIE_BREAKERS = ("auroc", "log_loss")
"""Names of the metrics by which equal scores are ranked, one after the other."""


def family_of(metric: str) -> Family:
    """The family of a metric."""
    return next(family for family in FAMILIES.values() if metric in family.names)


def family_at(level: str) -> Family:
    """The family of what is scored at a level."""
    return next(family for family in FAMILIES.values() if level in family.levels)


def metric_for(level: str, metric: str) -> str:
    """Name of what rows of a level are ranked by: the metric that is asked for, or the level's default."""
    own = family_at(level)
    return metric if metric in own.names else own.default


def sign_of(metric: str) -> int:
    """Times this, a metric is better when it is larger."""
    return METRICS[metric].sign
