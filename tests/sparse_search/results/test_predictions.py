"""Predictions on disk, and rules for pictures that are compared on them."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.sql import sql
from sparse_search.best.picture_rules import compare_rules, with_rule
from sparse_search.results.catalog import SetAsideWarning
from sparse_search.results.predictions import all_predictions, artefact_folder, read_predictions, write_predictions
from trainables.core.grid import Grid
from trainables.core.method import Labelled
from trainables.metrics.classes import score_patches
from trainables.metrics.pictures import AGGREGATES, THRESHOLDS, PictureRule

GRID = Grid(2, 3)
RUN = {"dataset": "fundus:2x3", "shots": 10, "method": "convnet", "run_id": "abc"}


def some_patches(num_pictures=20, grid=GRID, seed=0):
    """Patches of pictures, half of them with a finding in one patch, and what a useful predictor says of them."""
    random, patches = np.random.default_rng(seed), grid.num_patches if grid else 1
    labels_IP = np.zeros((num_pictures, patches), np.int64)
    labels_IP[::2, 0] = 1
    finding_IP = np.clip(0.2 + 0.5 * labels_IP + random.normal(0, 0.15, labels_IP.shape), 0.01, 0.99)
    images = Labelled(
        torch.zeros(labels_IP.size, 1, 4, 4, dtype=torch.uint8),
        torch.from_numpy(labels_IP.ravel()),
        grid=grid,
        indices_I=torch.arange(num_pictures) * 3 + 1,
        groups_I=torch.arange(num_pictures) // 2,
    )
    return images, np.stack([1 - finding_IP, finding_IP], -1).reshape(-1, 2)


def exported(tmp_path, **changes):
    evidence = {
        "predictor": "convnet", "dataset": "fundus:2x3", "run_ids": ["abc", "def"], "content_hash": "c", "versions": {},
        "scores": {"balanced_accuracy": 0.5, "localisation": 0.7}, "over_label_sets": {"mean": 0.5},
        "interval_95": {"metric": "balanced_accuracy", "low": 0.4, "high": 0.6},
    }  # fmt: skip
    values = {"method": "convnet", "shots": 10, "validation": "official", "evidence": evidence | changes}
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_what_is_written_is_read_and_writing_again_changes_nothing(tmp_path):
    images, probs_NK = some_patches()
    for _ in range(2):
        predictions = {"convnet": probs_NK, "other": probs_NK[::-1]}
        write_predictions(tmp_path, RUN, images, predictions, {"convnet": np.array([0.7, 0.3])})
    table = read_predictions(tmp_path, [RUN])
    assert len(table) == 2 * len(images)
    own = table.slice(0, len(images))
    assert np.array_equal(np.array(own["probabilities"].to_pylist()), probs_NK)
    assert own["label"].to_pylist() == images.labels_N.tolist()
    assert own["pool_mean"].to_pylist() == [[0.7, 0.3]] * len(images)
    assert table.slice(len(images))["pool_mean"].to_pylist() == [None] * len(images)
    places = [own[name].to_pylist()[:7] for name in ("image", "row", "column")]
    assert places == [[0] * 6 + [1], [0, 0, 0, 1, 1, 1, 0], [0, 1, 2, 0, 1, 2, 0]]
    assert own["source_index"].to_pylist()[:7] == [1] * 6 + [4]
    assert own["source_group"].to_pylist()[:13] == [0] * 12 + [1]
    assert [path.name for path in artefact_folder(tmp_path, RUN).iterdir()] == ["predictions.parquet"]


def test_a_file_of_before_says_neither_of_unlabelled_images_nor_which_images_it_is_about(tmp_path):
    images, probs_NK = some_patches()
    write_predictions(tmp_path, RUN, images, {"convnet": probs_NK}, {"convnet": probs_NK.mean(0)})
    path = artefact_folder(tmp_path, RUN) / "predictions.parquet"
    with pq.ParquetFile(path) as file:
        before = file.read().drop_columns(["pool_mean", "source_index", "source_group"])
    path.unlink()
    pq.write_table(before, path, write_page_checksum=True)
    table = read_predictions(tmp_path, [RUN])
    for name in ("pool_mean", "source_index", "source_group"):
        assert table[name].to_pylist() == [None] * len(images)
    assert table["probabilities"].to_pylist() == probs_NK.tolist()


def test_images_that_are_of_no_data_set_have_no_index(tmp_path):
    images, probs_NK = some_patches()
    write_predictions(tmp_path, RUN, replace(images, indices_I=None), {"convnet": probs_NK}, {})
    assert read_predictions(tmp_path, [RUN])["source_index"].null_count == len(images)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ResultsError, match=r"no predictions at .*abc.*--results"):
        read_predictions(tmp_path, [RUN])
    images, probs_NK = some_patches()
    write_predictions(tmp_path, RUN, images, {"convnet": probs_NK}, {})
    path = artefact_folder(tmp_path, RUN) / "predictions.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="is damaged"):
        read_predictions(tmp_path, [RUN])


def test_a_damaged_file_is_left_out_of_all_and_named(tmp_path):
    images, probs_NK = some_patches()
    for name in ("abc", "def"):
        write_predictions(tmp_path, RUN | {"run_id": name}, images, {"convnet": probs_NK}, {})
    (artefact_folder(tmp_path, RUN) / "predictions.parquet").write_bytes(b"")
    with pytest.warns(SetAsideWarning, match=r"abc.*is damaged .*; left out"):
        table = all_predictions(tmp_path)
    assert set(table["run_id"].to_pylist()) == {"def"}


def test_sql_counts_them(tmp_path):
    pytest.importorskip("duckdb", reason="the [sql] extra is not installed")
    images, probs_NK = some_patches()
    write_predictions(tmp_path, RUN, images, {"convnet": probs_NK}, {})
    query = "select count(*) as n, max(probabilities[2]) as top from predictions where label = 1"
    assert sql(tmp_path, query).to_pylist() == [{"n": 10, "top": probs_NK[images.labels_N == 1, 1].max()}]
    assert sql(tmp_path, "select * from ledger").num_rows == 0


@pytest.fixture
def stored(tmp_path):
    for seed, run_id in enumerate(("abc", "def")):
        images, probs_NK = some_patches(seed=seed)
        write_predictions(tmp_path, RUN | {"run_id": run_id}, images, {"convnet": probs_NK}, {})
    return tmp_path


def test_rules_are_compared_on_what_is_stored(stored):
    judged = compare_rules(exported(stored), stored)
    assert len(judged) == len(AGGREGATES) * len(THRESHOLDS)
    scores = [each.scores["balanced_accuracy"] for each in judged]
    assert scores == sorted(scores, reverse=True)
    for each in judged[:3]:
        expected = []
        for seed in (0, 1):
            images, probs_NK = some_patches(seed=seed)
            expected.append(score_patches(probs_NK, images.labels_N.numpy(), GRID, each.rule).metric("auroc"))
        assert each.scores["auroc"] == np.mean(expected)
    means = {rule.rule.aggregate: rule.scores["auroc"] for rule in judged}
    assert means["max"] > means["mean"], "one finding in six patches"


def test_a_rule_changes_the_file_and_its_evidence(stored):
    rule = PictureRule("max", "f1")
    values = with_rule(exported(stored), rule, stored)
    judged = next(each for each in compare_rules(exported(stored), stored) if each.rule == rule)
    assert (values["aggregate"], values["threshold"]) == ("max", "f1")
    evidence = values["evidence"]
    assert evidence["scores"]["auroc"] == judged.scores["auroc"]
    assert evidence["scores"]["localisation"] == 0.7, "no rule moves it"
    assert evidence["interval_95"] == {"metric": "balanced_accuracy", "low": judged.low, "high": judged.high}
    assert "over_label_sets" not in evidence
    json.dumps(values)


def test_whole_images_have_no_rule(tmp_path):
    images, probs_NK = some_patches(grid=None)
    write_predictions(tmp_path, RUN, images, {"convnet": probs_NK}, {})
    with pytest.raises(ResultsError, match="whole images"):
        compare_rules(exported(tmp_path, run_ids=["abc"]), tmp_path)
