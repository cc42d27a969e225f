import json
import random
import threading

import pyarrow.parquet as pq
import pytest

from search_spaces.core.errors import ResultsError
from sparse_search.rows import CURVE_SCHEMA, RUN_SCHEMA, SCHEMA_VERSION
from sparse_search.store import MOST_PARTS, Store

from .conftest import scores


def ids(table):
    return sorted(table["record_id"].to_pylist())


def parts(store):
    return sorted((store.folder / "tables").rglob("*.parquet"))


def test_an_empty_store_has_empty_tables(store):
    assert store.runs().schema.names == RUN_SCHEMA.names
    assert len(store.curves()) == 0


def test_records_become_rows(store, make_record):
    store.write(make_record(0))
    store.write(make_record(1, method="constant"))
    runs, curves = store.runs(), store.curves()
    assert len(runs) == 2
    assert len(curves) == 4
    row = runs.to_pylist()[0]
    assert row["train_seconds"] == 15.0
    assert row["epochs_done"] == 10
    assert row["config.lr"] == 1e-3
    assert row["schema_version"] == SCHEMA_VERSION
    assert json.loads(row["config_json"])["classifier"] == "test_resnet"
    assert set(CURVE_SCHEMA.names) == set(curves.column_names)


def test_scores_are_the_selected_ones_and_curves_the_raw_ones(store, make_record):
    record = make_record(0, selection="mean3")
    record["curve"][-1]["selected"] = {"supervised": scores(((4.5, 0.5), (1, 4)))}
    store.write(record)
    (row,) = store.runs().to_pylist()
    assert (row["selection"], row["balanced_accuracy"]) == ("mean3", pytest.approx(0.85))
    assert json.loads(row["confusion_json"])["confusion"] == [[4.5, 0.5], [1, 4]]
    assert store.curves()["balanced_accuracy"].to_pylist() == [pytest.approx(0.7)] * 2


def test_how_it_was_trained_is_in_the_row(store, make_record):
    store.write(make_record(0, accumulate=4, compile=True))
    (row,) = store.runs().to_pylist()
    assert (row["accumulate"], row["compile"]) == (4, True)


def test_filters_read_only_their_partition(store, make_record):
    store.write(make_record(0))
    store.write(make_record(1, shots=10))
    store.write(make_record(2, dataset="my scans/v1"))
    store.compact()
    assert len(store.runs(shots=10)) == 1
    assert len(store.runs(dataset="my scans/v1")) == 1
    assert len(store.runs(dataset="digits", shots=5, method="supervised")) == 1
    assert len(store.runs(method="none")) == 0


def test_compaction_is_idempotent_and_keeps_few_files(store, make_record):
    for number in range(3 * MOST_PARTS):
        store.write(make_record(number))
        assert store.compact() == 1
        assert store.compact() == 0
    assert len(store.runs()) == 3 * MOST_PARTS
    assert len(parts(store)) <= 2 * (MOST_PARTS + 1)


def test_the_order_of_arrival_does_not_matter(tmp_path, make_record):
    records = [make_record(number) for number in range(12)]
    tables = []
    for seed in (0, 1):
        store = Store(tmp_path / str(seed))
        store.prepare()
        for record in random.Random(seed).sample(records, len(records)):
            store.write(record)
            if random.Random(record["number"] + seed).random() < 0.5:
                store.compact()
        tables.append(store.runs().sort_by("record_id"))
    assert tables[0].equals(tables[1])


def test_the_tables_are_rebuilt_from_the_records(store, make_record):
    for number in range(5):
        store.write(make_record(number))
    before = store.runs().sort_by("record_id")
    for part in parts(store):
        part.unlink()
    assert store.runs().sort_by("record_id").equals(before)


def test_a_kill_in_the_middle_of_a_merge_doubles_nothing(store, make_record):
    store.write(make_record(0))
    store.compact()
    part = next(p for p in parts(store) if "runs" in p.parts)
    part.with_name("part-again.parquet").write_bytes(part.read_bytes())
    assert len(store.runs()) == 1


def test_the_same_record_again_changes_nothing(store, make_record):
    store.write(make_record(0))
    store.compact()
    store.write(make_record(0))
    assert len(store.runs()) == 1


def test_methods_with_different_settings_share_a_scan(store, make_record):
    store.write(make_record(0))
    store.write(make_record(1, method="sparse", config={"image_size": 32, "mu": 5, "lr": 1, "mask_scope": "all"}))
    rows = {row["method"]: row for row in store.runs().to_pylist()}
    assert rows["sparse"]["config.mu"] == 5
    assert rows["supervised"]["config.mu"] is None


def test_settings_of_one_name_and_two_types_share_a_scan(store, make_record):
    store.write(make_record(0))
    store.write(make_record(1, method="sparse", config={"image_size": 32, "lr": "auto"}))
    assert len(store.runs()) == 2


def test_a_run_without_any_evaluation_has_nulls(store, make_record):
    store.write(make_record(0, status="failed", reason="no memory", curve=[]))
    row = store.runs().to_pylist()[0]
    assert (row["balanced_accuracy"], row["epochs_done"], row["status"]) == (None, 0, "failed")
    assert len(store.curves()) == 0


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_table_is_named(store, make_record, damage):
    store.write(make_record(0))
    store.compact()
    part = next(p for p in parts(store) if "runs" in p.parts)
    content = bytearray(part.read_bytes())
    content[40] ^= 255
    part.write_bytes(content[:-20] if damage == "truncate" else content)
    with pytest.raises(ResultsError, match=r"part-.*is damaged.*delete the folder 'tables'"):
        store.runs()


@pytest.mark.parametrize("content", [b"{", b"[]", b"", b'{"schema_version": 99}', b'{"schema_version": 1}',
                                     b'{"schema_version": null}', b"null"])  # fmt: skip
def test_a_damaged_or_newer_record_is_named(store, content):
    (store.folder / "records" / "ab").mkdir()
    (store.folder / "records" / "ab" / "abc.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"abc\.json"):
        store.runs()


@pytest.mark.parametrize("in_tables", [False, True])
def test_results_of_an_older_version_are_refused_before_anything_runs(store, make_record, monkeypatch, in_tables):
    with monkeypatch.context() as older:
        for module in ("rows", "store"):
            older.setattr(f"sparse_search.{module}.SCHEMA_VERSION", SCHEMA_VERSION - 1)
        store.write(make_record(0))
        if in_tables:
            store.compact()
    for look in (store.prepare, store.runs):
        with pytest.raises(ResultsError, match="written by an older version; run the sweep again in another results"):
            look()


def test_unfinished_files_are_not_read(store, make_record):
    store.write(make_record(0))
    store.compact()
    (parts(store)[0].parent / ".part-x.parquet.123").write_bytes(b"half")
    (store.folder / "records" / "00" / ".00.json.123").write_bytes(b"half")
    assert len(store.runs()) == 1


def test_writers_and_readers_at_once_lose_nothing(store, make_record):
    def write(first):
        for number in range(first, first + 10):
            store.write(make_record(number))

    writers = [threading.Thread(target=write, args=(first,)) for first in range(0, 40, 10)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        now = len(store.runs())
        assert now >= seen
        seen = now
    assert ids(store.runs()) == sorted(make_record(number)["record_id"] for number in range(40))


def test_an_unwritable_folder_is_told_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"cannot write results to .*file.*choose another folder with --results"):
        Store(tmp_path / "file").prepare()


def test_nothing_that_is_not_finite_is_kept(store, make_record):
    with pytest.raises(ValueError, match="JSON"):
        store.write(make_record(0, wall_seconds=float("nan")))
    assert not list((store.folder / "records").rglob("*.json*"))


def test_page_checksums_are_written(store, make_record):
    store.write(make_record(0))
    store.compact()
    assert pq.ParquetFile(parts(store)[0], page_checksum_verification=True).read().num_rows
