"""The ranking against its plain form, from records, from compacted files, from any order of arrival."""

import json
import random
from collections import defaultdict
from statistics import fmean

import pytest

from sparse_search.analysis.leaderboard import board, query, rank, shortlist, unranked_starts
from sparse_search.results.rows import RUN_SCHEMA, run_rows, table_of
from sparse_search.results.store import Store
from sparse_search.results.trials import RANKING, TRIAL, searched_settings, trials_of
from trainables.metrics.table import METRICS


def some_records(make_record, seed, count=40):
    """Trials of one to three label sets, in three cells, by two methods; some unfinished, failed, or trained twice."""
    draw = random.Random(seed)
    records = []
    for number in range(count):
        num_runs, about = draw.choice([1, 2, 3]), {"shots": draw.choice([5, 10]), "dataset": draw.choice("ab")}
        about |= {"method": draw.choice(["supervised", "constant"]), "start": draw.choice(["", "", "", "default"])}
        sets = ", ".join(map(str, range(num_runs)))
        for label_set in range(num_runs):
            status = draw.choice(["complete"] * 9 + ["pruned"])
            confusion = [[draw.randint(1, 9), draw.randint(0, 9)], [draw.randint(0, 9), draw.randint(1, 9)]]
            changes = {"label_set": label_set, "label_sets": sets, "num_runs": num_runs, "status": status, **about}
            record = make_record(number, confusion=confusion, lr=draw.uniform(1e-4, 1), **changes)
            records.append(record)
            if draw.random() < 0.1:
                records.append(record | {"record_id": record["record_id"] + "f", "sweep": "again", "wall_seconds": 1.0})
    return records


def plain_ranking(records, metric):
    """What `rank` promises, row by row."""
    trials = defaultdict(dict)
    for record in sorted(records, key=lambda record: record["record_id"]):
        for row in run_rows(record):
            if row["status"] == "complete":
                trials[tuple(row[name] for name in (*RANKING, *TRIAL))].setdefault(row["run_id"], row)
    ranked = []
    for key, runs in trials.items():
        rows = list(runs.values())
        if len(rows) == rows[0]["num_runs"]:
            columns = {name: [row[name] for row in rows] for name in METRICS}
            ranked.append((key, {name: None if None in each else fmean(each) for name, each in columns.items()}))
    sign = 1 if metric in ("log_loss", "calibration_error") else -1
    ranked.sort(key=lambda each: (each[0][:-3], sign * each[1][metric], -each[1]["auroc"], each[1]["log_loss"],
                                  each[0][-1], each[0][-2]))  # fmt: skip
    return ranked


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
@pytest.mark.parametrize("seed", range(4))
def test_ranks_as_its_plain_form(make_record, seed, metric):
    records = some_records(make_record, seed)
    rows = rank(table_of([row for record in records for row in run_rows(record)], RUN_SCHEMA), metric).to_pylist()
    expected = plain_ranking(records, metric)
    assert [tuple(row[name] for name in (*RANKING, *TRIAL)) for row in rows] == [key for key, _ in expected]
    assert [{name: row[name] for name in METRICS} for row in rows] == [means for _, means in expected]
    places = defaultdict(int)
    for row in rows:
        key = tuple(row[name] for name in RANKING)
        places[key] += 1
        assert row["rank"] == places[key]


@pytest.mark.parametrize("seed", range(3))
def test_the_leaderboard_is_the_same_from_records_from_files_and_in_any_order(tmp_path, make_record, seed):
    records = some_records(make_record, seed, count=14)
    from_records = rank(table_of([row for record in records for row in run_rows(record)], RUN_SCHEMA))
    draw = random.Random(seed)
    for way in range(3):
        store = Store(tmp_path / str(way))
        store.prepare()
        for record in draw.sample(records, len(records)):
            store.write(record)
            if way and draw.random() < 0.3:
                store.compact()
            if way == 2 and draw.random() < 0.1:
                store.rebuild()
        assert rank(store.runs()).equals(from_records)
        assert board(store).ranked.equals(shortlist(from_records))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "accuracy", "log_loss"])
@pytest.mark.parametrize("seed", range(3))
def test_a_board_is_what_all_runs_say(store, make_record, seed, metric):
    records = some_records(make_record, seed, count=12)
    for record in records:
        store.write(record)
    runs = store.runs()
    shown = board(store, metric=metric)
    assert shown.ranked.equals(shortlist(rank(runs, metric)))
    assert {name: set(each) for name, each in shown.searched.items()} == {
        name: set(each) for name, each in searched_settings(runs).items()
    }
    assert shown.unranked == unranked_starts(trials_of(runs))
    every = board(store, metric=metric, every=True)
    assert every.ranked.equals(rank(runs, metric))
    here = {name: next(r for r in records if r["status"] == "complete")[name] for name in ("dataset", "shots")}
    cell = rank(query(store, method=None, **here), metric)
    assert board(store, metric=metric, **here).ranked.equals(shortlist(cell))


def test_p1_a_run_is_a_small_record_and_parquet_is_written_by_compaction_only(store, make_record):
    store.write(make_record(0))
    assert not list(store.folder.rglob("*.parquet"))
    (path,) = store.folder.glob("records/??/*.json")
    assert path.stat().st_size < 4096


def test_p2_what_is_being_written_is_hidden(store, make_record, monkeypatch):
    import pyarrow.parquet as pq

    seen, write = [], pq.write_table
    monkeypatch.setattr(
        pq, "write_table", lambda table, path, **how: seen.append(path.name) or write(table, path, **how)
    )
    store.write(make_record(0))
    store.compact()
    assert len(seen) == 2
    assert all(name.startswith(".") for name in seen)
    assert [path.name for path in store.folder.rglob(".*")] == [".lock"]


def test_p3_a_later_column_and_a_number_of_another_type_are_kept(store, make_record):
    store.write(make_record(0, config={"image_size": 32, "lr": 1}))
    store.compact()
    store.write(make_record(1, config={"image_size": 32, "lr": 0.5, "new": 7}))
    rows = {row["number"]: row for row in store.runs().to_pylist()}
    assert [(rows[n]["config.lr"], rows[n]["config.new"]) for n in (0, 1)] == [(1.0, None), (0.5, 7)]


def test_p3_a_setting_of_two_types_in_one_file_stays_in_the_json(store, make_record):
    for number, value in enumerate(["auto", 0.5, None]):
        store.write(make_record(number, config={"image_size": 32, "lr": value}))
    runs = store.runs().sort_by("number")
    assert "config.lr" not in runs.column_names
    assert [json.loads(text)["lr"] for text in runs["config_json"].to_pylist()] == ["auto", 0.5, None]


def test_p5_keys_are_real_columns_of_their_own_type(store, make_record):
    store.write(make_record(0, dataset="5", shots=5))
    store.write(make_record(1, dataset="full", shots=10))
    runs = store.runs().sort_by("number")
    assert (runs["dataset"].to_pylist(), runs["shots"].to_pylist()) == (["5", "full"], [5, 10])
    assert runs.schema.field("shots").type == "int64"
    assert len(store.runs(dataset="5")) == 1


def test_p6_a_configuration_comes_back_exactly(store, make_record):
    config = {"image_size": 32, "b": None, "a": 0.1 + 0.2, "name": "ä\n", "flag": True, "tiny": 5e-324}
    store.write(make_record(0, config=config))
    (text,) = store.runs()["config_json"].to_pylist()
    assert json.loads(text) == config
    assert text == json.dumps(config, sort_keys=True, separators=(",", ":"))


def test_p7_null_and_never_nan_and_a_mean_over_all_runs_or_none(store, make_record):
    both = {"label_sets": "0, 1", "num_runs": 2}
    for label_set in (0, 1):
        record = make_record(0, label_set=label_set, **both)
        record["curve"][-1]["selected"]["supervised"]["auroc"] = 0.5 if label_set else None
        store.write(record)
    assert sorted(map(str, store.runs()["auroc"].to_pylist())) == ["0.5", "None"]
    (row,) = rank(store.runs()).to_pylist()
    assert (row["auroc"], row["run_id_count"], row["num_runs"]) == (None, 2, 2)
