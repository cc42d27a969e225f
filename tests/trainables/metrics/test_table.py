"""The table of metrics: complete, at one with the functions that compute them, and loaded at once."""

import subprocess
import sys
from math import log

import pytest

from trainables.metrics.counts import COUNTED
from trainables.metrics.table import (
    CLASSES,
    FAMILIES,
    GENERATORS,
    LEAST_PROBABILITY,
    MASKS,
    METRICS,
    OBJECTIVES,
    TIE_BREAKERS,
    Origin,
    family_at,
    family_of,
    metric_for,
    sign_of,
)


def test_a_name_stands_for_one_metric_and_a_title_too():
    assert len(METRICS) == sum(len(family.metrics) for family in FAMILIES.values())
    assert len({each.title for each in METRICS.values()}) == len(METRICS)


def test_each_counted_metric_has_its_function():
    assert set(COUNTED) == {each.name for each in METRICS.values() if each.is_counted}


def test_every_mask_metric_is_had_over_pixels_and_over_images():
    pooled = MASKS.counted()
    assert MASKS.names == (*pooled, *(f"{name}_img" for name in pooled))
    assert METRICS["dice_fg_img"].title == "Dice of the foreground, image by image"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_defaults_come_first(family):
    assert OBJECTIVES[family.kind][0] == family.columns[0].name == family.default
    assert all(family_at(level) is family for level in family.levels)
    assert all(family_of(name) is family for name in family.names)


def test_what_can_be_searched_for():
    assert OBJECTIVES["classification"] == (
        "balanced_accuracy", "accuracy", "macro_f1", "auroc", "balanced_brier", "balanced_log_loss", "brier",
        "average_precision", "kappa", "sensitivity_at_95", "specificity_at_95",
    )  # fmt: skip
    assert OBJECTIVES["segmentation"] == MASKS.names
    assert OBJECTIVES["generation"] == ("kid", "fid", "manifold_precision", "manifold_recall")


def test_rows_are_ranked_by_what_they_have():
    assert (metric_for("mask", "accuracy"), metric_for("mask", "iou_fg")) == ("dice_fg", "iou_fg")
    assert (metric_for("image", "dice_fg"), metric_for("patch", "auroc")) == ("balanced_accuracy", "auroc")
    assert (metric_for("generator", "auroc"), metric_for("generator", "fid")) == ("kid", "fid")


def test_directions_and_ends():
    smaller = [each.name for each in METRICS.values() if each.sign < 0]
    losses = ["balanced_brier", "balanced_log_loss", "brier"]
    assert smaller == ["calibration_error", "log_loss", *losses, "kid", "fid"]
    assert all(sign_of(name) == -1 for name in smaller)
    assert {METRICS[name].worst for names in OBJECTIVES.values() for name in names if sign_of(name) > 0} == {0.0, -1.0}
    assert [METRICS[name].worst for name in smaller] == [1.0, None, 2.0, -log(LEAST_PROBABILITY), 2.0, None, None]


def test_naming_one_class_for_all_says_nothing_of_named_classes():
    named = [each.name for each in METRICS.values() if each.is_of_named]
    assert named == ["balanced_accuracy", "accuracy", "macro_f1", "kappa", *MASKS.names]
    assert not any(METRICS[name].is_of_named for name in GENERATORS.names)


def test_wilson_intervals_are_those_of_shares_of_images():
    shares = {each.name: each.share_of for each in METRICS.values() if each.share_of}
    assert shares == {"balanced_accuracy": "classes", "accuracy": "images"}
    assert all(METRICS[name].origin is Origin.COUNTS_OF_IMAGES for name in shares)
    assert METRICS["balanced_accuracy"].chance(4) == 0.25
    assert METRICS["accuracy"].chance(4) is None


def test_equal_scores_are_told_apart_by_metrics_of_classes():
    assert TIE_BREAKERS == ("auroc", "log_loss")
    assert set(TIE_BREAKERS) <= set(CLASSES.names)


def test_the_table_loads_neither_torch_nor_numpy():
    code = "import sys, trainables.metrics.table; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
