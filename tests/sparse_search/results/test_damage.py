"""Damage of several files at once, and records that no table can hold: one item is set aside, the rest goes on."""

import json
import random
import shutil
import warnings
from itertools import combinations

import pyarrow.parquet as pq
import pytest

from search_spaces.core.errors import ConfigError
from sparse_search.analysis.leaderboard import board, write_leaderboards
from sparse_search.results import compaction
from sparse_search.results.catalog import SetAsideWarning, check_names, read_catalog
from sparse_search.results.files import write_atomically
from sparse_search.results.records import decode, encode
from sparse_search.results.rows import run_rows
from sparse_search.results.store import Store


@pytest.fixture
def filled(store, make_record):
    """Two partitions, one of them with two parts, each with rows in both tables; and two summaries."""
    for number in range(4):
        store.write(make_record(number, method="constant" if number == 3 else "supervised"))
        store.compact()
    return store


def derived(store):
    tables = store.folder / "tables"
    return sorted([*tables.rglob("*.parquet"), *tables.glob("*.arrow"), tables / "catalog.json"])


def answers(store):
    runs, curves = (table.sort_by("record_id") for table in (store.runs(), store.curves()))
    return runs, curves, board(store).ranked, store.num_records()


def quietly(act):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SetAsideWarning)
        return act()


@pytest.mark.parametrize("damage", ["empty", "gone"])
def test_s1_any_two_damaged_tables_are_built_again(filled, damage, tmp_path):
    before = answers(filled)
    pairs = list(combinations(derived(filled), 2))
    assert len(pairs) > 20
    for number, pair in enumerate(pairs):
        copy = Store(tmp_path / str(number))
        shutil.copytree(filled.folder, copy.folder)
        for path in (copy.folder / path.relative_to(filled.folder) for path in pair):
            path.write_bytes(b"") if damage == "empty" else path.unlink()
        assert all(now == then for now, then in zip(quietly(lambda: answers(copy)), before, strict=True))  # noqa: B023


def test_s1_whatever_a_power_cut_leaves_of_the_tables_the_answers_are_the_same(filled, make_record):
    before = answers(filled)
    coin = random.Random(0)
    for number in range(25):
        for path in derived(filled):
            match coin.randrange(4):
                case 0:
                    path.write_bytes(b"")
                case 1:
                    path.write_bytes(path.read_bytes()[:-9])
                case 2:
                    path.unlink()
        if number % 3 == 0:
            filled.write(make_record(0))  # known already: it is brought in while all this is mended
        assert all(now == then for now, then in zip(quietly(lambda: answers(filled)), before, strict=True))


def test_s1_every_damaged_file_is_named_once(filled):
    damaged = {path.name for path in derived(filled) if path.name != "catalog.json"}
    for path in derived(filled):
        if path.name in damaged:
            path.write_bytes(b"")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answers(filled)
    named = [str(each.message).split(": ")[0].rpartition("/")[2] for each in told]
    assert len(named) == len(set(named))
    assert set(named) <= damaged
    assert {path.name.rpartition(".")[0] for path in (filled.folder / "set_aside").iterdir()} == set(named)


def test_more_damaged_parts_than_are_mended_one_by_one(store, make_record):
    for number in range(14):
        store.write(make_record(number, method=f"method{number}"))
    before = answers(store)
    for path in derived(store):
        if path.suffix == ".parquet":
            path.write_bytes(b"")
    assert all(now == then for now, then in zip(quietly(lambda: answers(store)), before, strict=True))


def test_a_folder_in_the_place_of_a_file_is_set_aside(filled, make_record):
    before = answers(filled)
    for path in derived(filled)[:3]:
        path.unlink()
        path.mkdir()
    (filled.folder / "records" / "ab").mkdir()
    (filled.folder / "records" / "ab" / "abc.json").mkdir()
    assert all(now == then for now, then in zip(quietly(lambda: answers(filled)), before, strict=True))


def test_a_bundle_that_is_gone_or_emptied_costs_its_records_only(filled, make_record):
    first, second, third = sorted(filled.folder.glob("records/*/*/*/*.jsonl"))[:3]
    first.unlink()
    second.write_bytes(b"")
    third.unlink()
    third.mkdir()
    found = quietly(filled.records)
    assert len(found) == 1
    for number in range(4):
        quietly(lambda number=number: filled.find(make_record(number)["record_id"]))
    for number in range(10, 30):  # merged with what is left
        filled.write(make_record(number))
        quietly(filled.compact)
    quietly(filled.rebuild)
    assert len(filled.runs()) == 21


WRONG = (None, "x", 12345678901234567890, 10**400, 3.5, True, [], {}, [1], {"a": 1}, "\ud800", "a" * 300, -1)


def wrong_records(make_record):
    """A record with a valid checksum for each key and value that may be wrong."""
    number = 1
    for key in make_record(0):
        if key not in ("record_id", "schema_version"):
            for value in WRONG:
                yield make_record(number) | {key: value, "record_id": f"wrong{number:07x}"}
                number += 1
    for key in make_record(0)["curve"][0]:
        for value in WRONG:
            record = json.loads(json.dumps(make_record(number)))
            record["curve"][-1][key] = value
            yield record | {"record_id": f"wrong{number:07x}"}
            number += 1
    for key in ("confusion", "num_images", "accuracy"):
        for value in (*WRONG, [[1]], [[1, 2], [3]], [[1, -2], [3, 4]], [["a", 1], [1, 1]]):
            record = json.loads(json.dumps(make_record(number)))
            record["curve"][-1]["selected"]["supervised"][key] = value
            yield record | {"record_id": f"wrong{number:07x}"}
            number += 1
    for value in WRONG:
        yield make_record(number) | {"config": {"image_size": 32, "lr": value}, "record_id": f"wrong{number:07x}"}
        number += 1


@pytest.mark.slow
def test_r1_no_record_stops_a_command_whatever_stands_in_it(store, make_record):
    good = make_record(0, method="constant", dataset="digits")
    store.write(good)
    num_wrong = 0
    for record in wrong_records(make_record):
        write_atomically(store.path_of(record["record_id"]), encode(record), on_disk=False)
        num_wrong += 1
    assert num_wrong > 600

    def look():
        return store.runs(), store.curves(), board(store).ranked, write_leaderboards(store)

    runs, *_ = quietly(look)
    assert good["record_id"] in runs["record_id"].to_pylist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look()
    aside = [path.name for path in (store.folder / "set_aside").iterdir()]
    assert len(aside) > 200
    quietly(store.rebuild)
    assert store.runs().num_rows == runs.num_rows


def test_r1_what_no_table_can_hold_is_refused_before_it_is_written(store, make_record):
    with pytest.raises(ValueError, match=r"no table can hold.*too large"):
        store.write(make_record(0, seed=12345678901234567890))
    assert not list(store.folder.glob("records/*/*.json"))


@pytest.mark.parametrize(
    "content",
    [
        {"partitions": []},
        {"partitions": {"dataset=a/shots=1/method=b": [[["part-1", "x", {}]], []]}},
        {"partitions": {"../../..": [[], []]}},
        {"partitions": {"dataset=a/shots=1/method=b": [[["../part", 1, {}]], []]}},
        {"partitions": {"dataset=a/shots=1/method=b": [[["part-1", 1, {"runs": "x"}]], []]}},
        {"partitions": {"dataset=a/shots=1/method=b": None}},
        {"partitions": None},
        {"summaries": {"shown": ["../../etc", 1]}},
        {"summaries": {"shown": None}},
        {"summaries": 1},
        {"summaries": {}},
    ],
)
def test_r1_a_catalogue_of_another_form_is_built_again(filled, content):
    before = answers(filled)
    path = filled.folder / "tables" / "catalog.json"
    path.write_bytes(encode(decode(path.read_bytes(), path) | content))
    assert all(now == then for now, then in zip(quietly(lambda: answers(filled)), before, strict=True))


def test_what_is_renamed_into_place_is_on_disk_before(store, make_record, monkeypatch):
    """Records and bundles: content before the name, the name before this returns; new folders too."""
    events = []
    fsync, replace = compaction.os.fsync, type(store.folder).replace
    monkeypatch.setattr("os.fsync", lambda file: (events.append("sync"), fsync(file))[1])
    monkeypatch.setattr(type(store.folder), "replace", lambda *paths: (events.append("name"), replace(*paths))[1])
    store.write(make_record(0))
    assert events in (["sync", "sync", "name", "sync"], ["sync", "name", "sync"])
    events.clear()
    store.compact()
    assert events[-3:] == ["sync", "name", "sync"]  # the catalogue
    assert read_catalog(store.folder)
    assert Store(store.folder).runs().num_rows == len(list(run_rows(make_record(0))))


def test_r2_data_sets_whose_names_look_alike_have_a_leaderboard_each(store, make_record):
    names = ("idrid@256:8x8", "idrid_256_8x8", "idrid:256:8x8", "\u5f71" * 27, "\u5f71" * 26 + "a")
    for number, name in enumerate(names):
        store.write(make_record(number, dataset=name))
    paths = write_leaderboards(store)
    assert len(set(paths)) == len(names)
    assert {len(pq.read_table(path)) for path in paths} == {1}
    assert "idrid_256_8x8-5shot.parquet" in {path.name for path in paths}


def test_r2_a_name_that_no_folder_can_have_is_refused_by_name():
    check_names({"dataset": "\u5f71" * 26})
    with pytest.raises(ConfigError, match=r"dataset '\w+': its name is too long for a folder of results"):
        check_names({"dataset": "\u5f71" * 28})
