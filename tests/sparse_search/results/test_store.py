import errno
import json
import random
import shutil
import threading
import warnings

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.leaderboard import board
from sparse_search.results.catalog import SetAsideWarning
from sparse_search.results.compaction import MAX_PARTS
from sparse_search.results.records import DamagedError, decode, encode
from sparse_search.results.rows import CURVE_SCHEMA, RUN_SCHEMA, SCHEMA_VERSION
from sparse_search.results.store import Store

from ..conftest import scores


def ids(table):
    return sorted(table["record_id"].to_pylist())


def parts(store):
    return sorted((store.folder / "tables").rglob("*.parquet"))


def last_byte_of_a_page(part):
    column = pq.ParquetFile(part).metadata.row_group(0).column(1)
    return (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1


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
    for number in range(3 * MAX_PARTS):
        store.write(make_record(number))
        assert store.compact() == 1
        assert store.compact() == 0
    assert len(store.runs()) == 3 * MAX_PARTS
    assert len(parts(store)) <= 2 * (MAX_PARTS + 1)


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


@pytest.mark.parametrize("table", ["runs", "curves"])
@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "gone"])
def test_p4_a_damaged_table_is_set_aside_and_built_again(store, make_record, damage, table):
    for number in range(3):
        store.write(make_record(number))
    before = getattr(store, table)()
    (part,) = (p for p in parts(store) if table in p.parts)
    content = bytearray(part.read_bytes())
    content[last_byte_of_a_page(part)] ^= 1
    part.write_bytes({"cut": content[:-20], "empty": b"", "flip": content, "gone": b""}[damage])
    if damage == "gone":
        part.unlink()
        assert getattr(store, table)().equals(before)
    else:
        with pytest.warns(SetAsideWarning, match=rf"{part.name}: .*built again.*; set aside as ") as told:
            assert getattr(store, table)().equals(before)
        assert len(told) == 1
        assert len(list((store.folder / "set_aside").iterdir())) == 1
    assert getattr(store, table)().equals(before)
    assert store.runs().num_rows == 3


@pytest.mark.parametrize("summary", ["shown", "order"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_p4_a_damaged_summary_is_built_again(store, make_record, damage, summary):
    for number in range(3):
        store.write(make_record(number, method="constant" if number else "supervised"))
    before = board(store).ranked
    (path,) = (store.folder / "tables").glob(f"{summary}-*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-20])
    if damage == "gone":
        path.unlink()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert board(store).ranked.equals(before)
        store.write(make_record(3))
        assert len(store.runs()) == 4
    assert len(told) == (damage != "gone")


def test_p4_a_flipped_bit_anywhere_in_a_part_changes_no_answer(store, make_record):
    for number in range(3):
        store.write(make_record(number))
    before = store.runs()
    (part,) = (p for p in parts(store) if "runs" in p.parts)
    whole = part.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    noticed = 0
    for position in [*range(4, footer, 1 + footer // 30), *range(footer, len(whole), 1 + (len(whole) - footer) // 10)]:
        (part,) = (p for p in parts(store) if "runs" in p.parts)
        content = bytearray(part.read_bytes())
        position = min(position, len(content) - 1)
        content[position] ^= 1 << position % 8
        part.write_bytes(content)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert store.runs().equals(before)
        assert told or position < footer  # only what says nothing of the rows, in a page's header
        noticed += bool(told)
    assert noticed > 20


def test_p4_a_part_cut_anywhere_is_noticed(store, make_record):
    store.write(make_record(0))
    before = store.runs()
    for share in range(0, 100, 7):
        (part,) = (p for p in parts(store) if "runs" in p.parts)
        content = part.read_bytes()
        part.write_bytes(content[: len(content) * share // 100])
        with pytest.warns(SetAsideWarning):
            assert store.runs().equals(before)


def test_a_record_cut_at_any_byte_or_with_any_flipped_bit_is_noticed(make_record):
    line = encode(make_record(0))
    assert decode(line, "here") == {"schema_version": SCHEMA_VERSION, **make_record(0)} | json.loads(
        json.dumps({"curve": make_record(0)["curve"]})
    )
    for length in range(len(line)):
        with pytest.raises(DamagedError):
            decode(line[:length], "here")
    for position in range(len(line)):
        flipped = bytearray(line)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(DamagedError):
            decode(bytes(flipped), "here")


FOREIGN = (b"{", b"[]", b"", b'{"schema_version": 99}', b'{"schema_version": null}', b"null", b"\xff\x00")


@pytest.mark.parametrize("content", FOREIGN)
def test_a_damaged_or_foreign_record_is_named_and_set_aside(store, make_record, content):
    store.write(make_record(0))
    (store.folder / "records" / "ab").mkdir()
    (store.folder / "records" / "ab" / "abc.json").write_bytes(content)
    with pytest.warns(SetAsideWarning, match=r"abc\.json.*set aside"):
        assert len(store.runs()) == 1
    (kept,) = (store.folder / "set_aside").iterdir()
    assert kept.read_bytes() == content
    assert len(store.runs()) == 1


def test_a_record_under_a_foreign_name_is_set_aside(store, make_record):
    (store.folder / "records" / "ab").mkdir()
    (store.folder / "records" / "ab" / "abc.json").write_bytes(encode(make_record(0)))
    with pytest.warns(SetAsideWarning, match="its name is not its record_id"):
        assert len(store.runs()) == 0


def test_a_record_that_is_asked_for_and_damaged_is_none(store, make_record):
    store.write(make_record(0))
    (path,) = store.folder.glob("records/*/*.json")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(SetAsideWarning, match="it is no record"):
        assert store.find(make_record(0)["record_id"]) is None


def test_a_damaged_line_costs_its_record_only(store, make_record):
    for number in range(5):
        store.write(make_record(number))
    before = store.runs()
    (path,) = (store.folder / "records").rglob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"number":2,', b'"number":3,'))
    assert store.runs().equals(before)  # the tables do not need it
    assert len(list(store.records())) == 4
    with pytest.warns(SetAsideWarning, match="line 3: its checksum differs"):
        store.rebuild()
    assert sorted(store.runs()["number"].to_pylist()) == [0, 1, 3, 4]
    assert len(list((store.folder / "set_aside").iterdir())) == 1


def test_every_record_is_found_before_and_after_compaction(store, make_record):
    records = [make_record(number, method="constant" if number % 3 else "supervised") for number in range(40)]
    for record in records:
        store.write(record)
        if record["number"] % 4 == 0:
            store.compact()
    for record in records:
        assert store.find(record["record_id"])["number"] == record["number"]
    assert store.find("no such record") is None
    assert sorted(record["number"] for record in store.records()) == list(range(40))


@pytest.mark.parametrize("in_tables", [False, True])
def test_results_of_another_version_are_refused_before_anything_runs(store, make_record, monkeypatch, in_tables):
    for version, words in ((SCHEMA_VERSION - 1, "older version"), (SCHEMA_VERSION + 1, "upgrade it")):
        another = Store(store.folder / str(version))
        with monkeypatch.context() as then:
            for module in ("rows", "records"):
                then.setattr(f"sparse_search.results.{module}.SCHEMA_VERSION", version)
            another.prepare()
            another.write(make_record(0))
            if in_tables:
                another.compact()
        for look in (another.prepare, another.runs):
            with pytest.raises(ResultsError, match=rf"version.*\b{version}\b.*{words}|{words}.*\b{version}\b"):
                look()


def test_records_from_before_the_checksum_are_refused_as_old(store):
    (store.folder / "records" / "ab").mkdir()
    (store.folder / "records" / "ab" / "abc.json").write_bytes(b'{"schema_version": 3, "record_id": "abc"}')
    with pytest.raises(ResultsError, match=r"abc\.json was written by an older version \(schema 3"):
        store.runs()


def test_a_catalog_that_is_damaged_or_gone_is_built_again(store, make_record):
    for number in range(MAX_PARTS + 3):
        store.write(make_record(number))
        store.compact()
    before = store.runs().sort_by("record_id")
    catalog = store.folder / "tables" / "catalog.json"
    catalog.write_bytes(catalog.read_bytes().replace(b"supervised", b"supervisef"))
    with pytest.warns(SetAsideWarning, match=r"catalog\.json: its checksum differs; built again"):
        assert store.runs().sort_by("record_id").equals(before)
    assert store.runs().sort_by("record_id").equals(before)
    shutil.rmtree(store.folder / "tables")
    assert store.runs().sort_by("record_id").equals(before)


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


def test_a_file_system_without_locks_has_a_remedy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(ResultsError, match=r"knows no locks.*keep results on another disk with --results"):
        Store(tmp_path).compact()
