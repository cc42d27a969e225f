"""Masks from a sweep's file to the leaderboard, the export and the test set."""

import numpy as np
import pytest
from typer.testing import CliRunner

from search_spaces.core.errors import ConfigError
from sparse_search.analysis.comparison import compare_all
from sparse_search.analysis.curves import best_so_far
from sparse_search.analysis.leaderboard import board, leaderboard, rankings
from sparse_search.best.export import export, write_export
from sparse_search.best.retrain import evaluate, reproduce
from sparse_search.cli.app import app
from sparse_search.cli.findings import look_table
from sparse_search.execution.run import plan_studies, run
from sparse_search.pages.page import report
from sparse_search.results.ledger import looks
from sparse_search.results.mirror import read_store
from sparse_search.search.sweep_file import parse_sweep
from trainables.metrics.counts import score_of
from trainables.metrics.masks import score_masks
from trainables.metrics.table import CLASSES, MASKS

SEGMENTER = {
    "segmenter": {
        "trials": 3, "presets": [], "search": ["dice_weight"],
        "settings": {
            "features": 8, "d_state": 2, "stages": 2, "batch_size": 4, "steps_per_epoch": 4, "lr": 1e-2,
            "rotation": 0.0,
        },
    }
}  # fmt: skip
SWEEP = {
    "name": "masks", "datasets": ["shapes@16"], "shots": [4], "image_size": 16, "images": 80, "evaluate_every": 40,
    "label_sets": [0, 1], "confirm": 0, "pruner": "none", "methods": SEGMENTER,
}  # fmt: skip


def masks(dice, confusion=((80, 5), (5, 10))):
    values = dict.fromkeys(MASKS.names, 0.5) | {"dice_fg": dice, "num_images": 4, "confusion": confusion}
    return values | {"confusion": [list(row) for row in confusion]}


@pytest.fixture
def make_mask_record(make_record):
    """A maker of records of a segmentation."""

    def make(number, dice, **changes):
        found = {"segmenter": masks(dice)}
        point = {"epoch": 1, "images": 32, "seconds": 1.0, "losses": [], "scores": found, "selected": found}
        return make_record(number, method="segmenter", kind="segmentation", curve=[point], **changes)

    return make


def test_scores_from_tables_of_pixels():
    counts_N4 = np.random.default_rng(0).integers(1, 50, (3, 4))
    scores = score_masks(counts_N4)
    for metric in MASKS.counted():
        assert float(score_of(scores.confusion, metric)) == pytest.approx(scores.metric(metric))
    empty = score_masks(np.array([[0, 0, 0, 9]]))
    for metric in ("dice_fg", "iou_fg", "mdice_2", "miou_2"):
        assert float(score_of(empty.confusion, metric)) == empty.metric(metric) == 1.0


def test_masks_and_classes_never_share_a_ranking(store, make_record, make_mask_record):
    records = [make_record(0), make_mask_record(1, 0.4), make_mask_record(2, 0.6), make_mask_record(3, 0.6)]
    for record in records:
        store.write(record)
    for metric, by in (("balanced_accuracy", [0.6, 0.6, 0.4]), ("dice_fg", [0.6, 0.6, 0.4])):
        found = {shared["level"]: rows for shared, rows in rankings(board(store, metric=metric, every=True).ranked)}
        assert set(found) == {"image", "mask"}
        assert [row["dice_fg"] for row in found["mask"]] == by
        assert [row["trial_id"] for row in found["mask"]] == [
            "trial-segmenter-2",
            "trial-segmenter-3",
            "trial-segmenter-1",
        ]
        assert {row[name] for row in found["mask"] for name in CLASSES.names} == {None}
        assert {row[name] for row in found["image"] for name in MASKS.names} == {None}
    shown = {shared["level"]: rows[0] for shared, rows in rankings(board(store).ranked)}
    assert shown["mask"]["low"] is None, "pixels of an image are alike: their number says nothing"
    assert shown["image"]["low"] is not None
    (predictor,) = {row["predictor"] for row in found["mask"]}
    assert predictor == "segmenter"


def test_intervals_over_label_sets(store, make_mask_record):
    tables = {0: ((80, 5), (5, 10)), 1: ((80, 2), (3, 15))}
    for label_set, table in tables.items():
        dice = float(score_of(table, "dice_fg"))
        record = make_mask_record(1, dice, label_set=label_set, label_sets="0, 1", num_runs=2)
        record["curve"][0]["selected"]["segmenter"] = masks(dice, table)
        store.write(record)
    (row,) = board(store, covers="label-sets").ranked.to_pylist()
    dices = [float(score_of(table, "dice_fg")) for table in tables.values()]
    assert row["dice_fg"] == pytest.approx(np.mean(dices))
    assert row["low"] < row["dice_fg"] < row["high"]
    (row,) = board(store, metric="dice_fg_img", covers="label-sets").ranked.to_pylist()
    assert row["low"] is None, "a mean over images does not follow from a table"


def test_objectives_follow_the_kind():
    assert parse_sweep(SWEEP).objective == "dice_fg"
    assert parse_sweep(SWEEP | {"objective": "miou_2_img"}).objective == "miou_2_img"
    assert parse_sweep(SWEEP).kind == "segmentation"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"objective": "auroc"},
            "objective 'auroc' is none of segmentation, which segmenter does; choose one of dice_fg",
        ),
        ({"objective": "dice"}, "objective 'dice' is unknown"),
        ({"methods": {"constant": {}}, "objective": "dice_fg"}, "'dice_fg' is none of classification, which constant"),
        (
            {"methods": SEGMENTER | {"constant": {}}},
            "segmenter is segmentation, constant is classification; a sweep is of one kind",
        ),
    ],
)
def test_kinds_are_not_mixed(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_sweep(SWEEP | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "words"), [("digits", "'digits' has no masks of pictures"), ("shapes:2x2", "takes whole pictures")]
)
def test_data_without_masks_is_refused_before_anything_starts(dataset, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        run(parse_sweep(SWEEP | {"datasets": [dataset]}), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_classifier_is_refused_shapes(tiny, tmp_path):
    with pytest.raises(ConfigError, match="'shapes' has no classes of images, which classification needs"):
        run(tiny(datasets=["shapes"]), tmp_path / "results")


def test_draws_of_a_study():
    (study,) = plan_studies(parse_sweep(SWEEP), None)
    assert (study.facts.num_labelled, study.facts.num_unlabelled) == (4, 176)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_a_real_sweep(tmp_path):
    results = tmp_path / "results"
    sweep = parse_sweep(SWEEP | {"confirm": 1, "confirm_label_sets": 1, "workers": 1})
    assert run(sweep, results).ok
    assert run(sweep, results).ok, "the same again does nothing"
    frame = leaderboard(results)
    assert set(frame["level"]) == {"mask"}
    assert frame["dice_fg"].between(0, 1).all()
    assert compare_all(results, methods=["segmenter", frame["config_id"][0]]).metric == "dice_fg"
    assert best_so_far(results)["score"].notna().any()
    page = report(results, tmp_path / "report.html").read_text()
    assert "Dice of the foreground" in page
    assert "outlined in yellow" in page
    assert "AUROC" not in page
    best = tmp_path / "best.yaml"
    write_export(export(results, dataset="shapes@16", shots=4), best)
    assert "4 labelled images.\n" in best.read_text()
    assert reproduce(best).is_equal
    look = evaluate(best, results, why="decided", unlock_test=True)
    assert look.num_images == 100
    assert 0 <= look.test["segmenter"]["dice_fg"] <= 1
    assert (look.test["segmenter"]["low"], look.test["segmenter"]["accuracy"]) == (None, None)
    assert look_table(list(looks(read_store(results).folder))).row_count == 1
    printed = CliRunner().invoke(app, ["leaderboard", "--results", str(results)]).output
    assert "dice fg" in printed
    assert "images, pixel by pixel" in printed
