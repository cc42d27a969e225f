"""The replay benchmark: the recorded table, the simulated searches, and that recording works."""

import json
import math
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "bench/data/replay.parquet"


def load(name):
    spec = spec_from_file_location(f"bench.{name}", ROOT / f"bench/{name}.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


quality, recorder = load("search_quality"), load("record_replay")


@pytest.fixture(scope="module")
def cells():
    return quality.read_cells()


# The table


def test_the_table_is_complete():
    assert TABLE.stat().st_size < 300_000
    table = pq.read_table(TABLE)
    assert set(json.loads(table.schema.metadata[b"protocol"])["cells"]) == {cell.name for cell in recorder.CELLS}
    frame = table.to_pandas()
    per_config = frame.groupby(["cell", "config"], observed=True)
    assert len(per_config) >= 150
    assert (per_config["label_set"].nunique() >= 5).all()
    assert not frame.duplicated(["cell", "config", "label_set", "budget"]).any()
    assert (frame.groupby(["cell", "config", "label_set"], observed=True)["budget"].nunique() == 4).all()
    assert frame[["validation", "test"]].stack().between(0, 1).all()
    assert (per_config["config_json"].nunique() == 1).all()


def test_the_best_configurations_beat_chance_by_far(cells):
    for cell in cells:
        assert np.quantile(cell.worth_C, 0.9) > (0.7 if cell.name.endswith("pneumoniamnist") else 0.5)


def test_cells_have_the_label_sets_that_all_configurations_have(tmp_path):
    frame = pd.read_parquet(TABLE)
    dropped = (frame["cell"] == "sparse/digits") & (frame["config"] == 1) & (frame["label_set"] == 2)
    frame[~dropped].to_parquet(tmp_path / "less.parquet")
    whole, less = (
        {cell.name: cell for cell in quality.read_cells(file)} for file in (TABLE, tmp_path / "less.parquet")
    )
    before, after = whole["sparse/digits"].validation_CSR, less["sparse/digits"].validation_CSR
    np.testing.assert_array_equal(after, np.delete(before, 2, axis=1))
    assert less["all/digits"].validation_CSR.shape[1] <= after.shape[1]


# A search


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_configurations_end_where_optuna_stops_them(reduction):
    values_NR = np.random.default_rng(reduction).integers(10, size=(60, 4)) / 10  # with ties
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=reduction)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    reached = []
    for values in values_NR:
        trial = study.ask()
        for rung, value in enumerate(values):
            trial.report(value, reduction**rung)
            if rung == 3 or trial.should_prune():
                break
        study.tell(trial, values[rung])
        reached.append(rung)
    assert quality.climb(values_NR.tolist(), reduction) == reached
    assert set(reached) == {0, 1, 2, 3}


def test_the_first_to_reach_a_rung_may_be_spared():
    falling = [[value, value] for value in (0.9, 0.8, 0.7, 0.6, 0.5)]
    assert quality.climb(falling) == [1, 0, 0, 0, 0]
    assert quality.climb(falling, spared=3) == [1, 1, 1, 0, 0]


def test_halving_together_takes_the_best_third_of_each_rung():
    values_NR = np.array([[n, -n, 0] for n in range(9)])
    assert quality.climb_together(values_NR, 3) == [0, 0, 0, 0, 0, 0, 2, 1, 1]


def test_what_a_search_pays_and_selects():
    values_NSR = np.zeros((2, 3, 4))
    values_NSR[:, 0, :] = [[0.5, 0.5, 0.5, 0.5], [0.4, 0.4, 0.4, 0.4]]
    values_NSR[1, 1:, -1] = 0.9
    worth_N = np.array([0.6, 0.7])
    # One at a time, one label set: the second is stopped at its first rung.
    compute, worth = quality.simulate(quality.Search("", (1, 1, 1, 1)), values_NSR, worth_N)
    np.testing.assert_allclose(compute, [1, 1 + 1 / 27])
    np.testing.assert_allclose(worth, [0.6, 0.6])
    # At the full budget alone, then both on the two other label sets.
    compute, worth = quality.simulate(quality.Search("", (0, 0, 0, 1), confirm=4), values_NSR, worth_N)
    np.testing.assert_allclose(compute, [1 + 2, 2 + 4])
    np.testing.assert_allclose(worth, [0.6, 0.7])


def test_equal_seeds_give_equal_searches(cells):
    once, again = (quality.run_searches([quality.OURS], cells[0], 5)["ours"] for _ in range(2))
    np.testing.assert_array_equal(once.compute_BE, again.compute_BE)
    np.testing.assert_array_equal(once.worth_BE, again.worth_BE)
    assert len(np.unique(once.worth_BE[:, -1])) > 1 or once.compute_BE[:, -1].std() > 0


def test_resampled_draws_keep_the_mean_of_every_rung(cells):
    cell = cells[0]
    drawn_NSR, worth_N = quality.draw(cell, 0, 5000)
    np.testing.assert_allclose(drawn_NSR.mean((0, 1)), cell.validation_CSR.mean((0, 1)), atol=0.02)
    assert set(worth_N) <= set(cell.worth_C)


# What is reported


def test_compute_for_a_worth_is_read_between_the_ends_of_searches():
    compute, worth = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.7, 0.6])
    assert quality.compute_for(0.4, compute, worth) == 1
    assert quality.compute_for(0.6, compute, worth) == pytest.approx(1.5)
    assert quality.compute_for(0.8, compute, worth) == math.inf
    assert quality.worth_at(3, compute, worth) == pytest.approx(0.65)
    assert math.isnan(quality.worth_at(5, compute, worth))


def test_a_ratio_says_who_never_gets_there():
    both, never = np.array([4.0, 4.0]), np.array([math.inf, math.inf])
    assert quality.ratio(both, both / 2) == "2.00 [2.00, 2.00]"
    assert quality.ratio(never, both) == "inf [inf, inf]"
    assert quality.ratio(both, never) == "0.00 [0.00, 0.00]"
    assert quality.ratio(never, never) == "-"


def test_the_tables_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search_quality.py", "--searches", "20"])
    quality.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in rows} == {10}
    assert {row.split("|")[1].strip() for row in rows} >= {cell.name for cell in recorder.CELLS}


# Recording


def test_a_configuration_is_recorded_once(monkeypatch, tmp_path):
    threads = torch.get_num_threads()
    # An epoch must end before the first budget of 50 images.
    cell = replace(recorder.CELLS[0], num_configs=1, base={**recorder.CELLS[0].base, "steps_per_epoch": 1})
    monkeypatch.setattr(recorder, "CELLS", (cell,))
    monkeypatch.setattr(recorder, "MIN_LABEL_SETS", 1)
    monkeypatch.setattr(recorder, "IMAGES", 1350)
    try:
        for _ in range(2):
            recorder.record(tmp_path / "runs", range(1), minutes=1, part=0, parts=1)
    finally:
        torch.set_num_threads(threads)
    assert len(recorder.recorded(tmp_path / "runs")) == 1
    recorder.collect(tmp_path / "runs", tmp_path / "data/replay.parquet")
    frame = pd.read_parquet(tmp_path / "data/replay.parquet")
    assert frame["images"].tolist() == [50, 150, 450, 1350]
    assert frame[["validation", "test"]].stack().between(0, 1).all()
    assert frame["train_seconds"].is_monotonic_increasing
    assert recorder.recorded(tmp_path / "nothing") == []


def test_drawn_configurations_differ_and_are_always_the_same():
    for cell in recorder.CELLS:
        first = recorder.config_of(cell, 0)
        configs = [recorder.config_of(cell, number) for number in range(6)]
        assert len(set(configs)) == 6
        assert configs[0] == first
        assert all(config.classifier == "replay_cnn" for config in configs)
