import math

import pyarrow.compute as pc
import pytest

from sparse_search.analysis.published import NOTES, PUBLISHED_SCHEMA, published
from trainables.data.catalog import CATALOG
from trainables.metrics.table import METRICS


def value(**cell):
    (row,) = [row for row in published().to_pylist() if all(row[name] == wanted for name, wanted in cell.items())]
    return row["value"]


def test_every_table_is_there():
    counts = {row["values"]: row["counts"] for row in pc.value_counts(published()["paper"]).to_pylist()}
    assert counts == {"sparse": 352, "ssl_gan": 40, "ssgnet": 346, "semantic_gan": 273}


def test_columns_and_their_ranges():
    table = published()
    assert table.schema == PUBLISHED_SCHEMA
    for row in table.to_pylist():
        assert row["method"]
        assert row["source"].startswith("arXiv ")
        assert row["note"] == NOTES[row["paper"]]
        assert 0 <= row["value"] <= (200 if row["metric"] == "fid" else 1)
        assert row["shots"] is None or row["labelled"] is None


def test_a_cell_is_printed_once():
    keys = ("method", "dataset", "shots", "labelled", "setting", "of_class", "metric", "source")
    table = published()
    assert len(table.group_by([*keys]).aggregate([])) == len(table)


def test_questions():
    table = published(dataset="dermamnist", shots=10)
    assert set(table["paper"].to_pylist()) == {"sparse"}
    assert len(table) == 8
    assert set(table["metric"].to_pylist()) <= set(METRICS)
    assert len(published(dataset="digits")) == 0


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({"paper": "sparse", "method": "SPARSE_ens", "dataset": "tissuemnist", "shots": 50}, 0.472),
        ({"method": "ResNet34", "labelled": 149, "metric": "patch_auroc"}, 0.851),
        ({"method": "ResNet50", "labelled": 20}, 0.65),
        ({"method": "SemanticGAN", "dataset": "metfaces", "labelled": 1500}, 0.6633),
        ({"method": "GCT", "dataset": "chaos-t1-in", "labelled": 20}, 0.3469),
        ({"method": "AdvSSL", "dataset": "nih-chest-xray", "labelled": 35}, 0.5298),
        ({"method": "SSGNet + VM-UNet", "dataset": "kvasir-seg", "setting": None, "metric": "sensitivity"}, 0.8703),
        ({"method": "StyleGAN3", "dataset": "cbis-ddsm", "of_class": "malignant"}, 53.09),
    ],
)
def test_cells_against_the_page(cell, expected):
    assert value(**cell) == expected


def test_the_datasets_of_sparse_are_ours():
    datasets = {row["dataset"] for row in published().to_pylist() if row["paper"] == "sparse"}
    assert len(datasets) == 11
    assert datasets <= set(CATALOG)


@pytest.mark.parametrize(("dataset", "images", "test_images"), [("breastmnist", 96, 156), ("pneumoniamnist", 480, 624)])
def test_sparse_was_measured_on_a_part_of_the_test_images(dataset, images, test_images):
    """Its note says so: every value is a number of hits among the part, and some value is none among all."""
    table = published(dataset=dataset).filter(pc.field("paper") == "sparse")
    values = table["value"].to_pylist()
    assert len(values) == 32

    def possible(value, count):
        return math.isclose(round(value * count) / count, value, abs_tol=0.00051)

    assert all(possible(value, images) for value in values)
    assert not all(possible(value, test_images) for value in values)


def test_foreground_dice_follows_from_iou():
    """Dice = 2 IoU / (1 + IoU): the pair of columns was transcribed in the right order."""
    rows = [row for row in published().to_pylist() if row["paper"] == "ssgnet"]
    cells = {
        (row["method"], row["dataset"], row["setting"], row["source"], row["metric"]): row["value"] for row in rows
    }
    pairs = [
        (iou, cells[*key, "dice_foreground"]) for (*key, metric), iou in cells.items() if metric == "iou_foreground"
    ]
    assert len(pairs) == (7 + 10 + 2 + 2) + 3 * 4
    for iou, dice in pairs:
        assert dice == pytest.approx(2 * iou / (1 + iou), abs=0.0008)
