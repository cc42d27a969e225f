"""A catalogue with a valid checksum that is not right: the records are the truth."""

import warnings

import pytest

from sparse_search.analysis.leaderboard import board
from sparse_search.results.catalog import SetAsideWarning, read_catalog
from sparse_search.results.omissions import omission
from sparse_search.results.records import decode, encode


@pytest.fixture
def filled(store, make_record):
    """Three partitions, the second with two parts."""
    for number, method in enumerate(("constant", "pixels", "pixels", "supervised")):
        store.write(make_record(number, method=method))
        store.compact()
    return store


def answers(store):
    runs, curves = (table.sort_by("record_id") for table in (store.runs(), store.curves()))
    return runs, curves, board(store).ranked, sorted(record["record_id"] for record in store.records())


def write(store, content):
    path = store.folder / "tables/catalog.json"
    path.write_bytes(encode(content))


def content_of(store):
    path = store.folder / "tables/catalog.json"
    return decode(path.read_bytes(), path) | {"schema_version": 7}


def without_partition(content, number):
    kept = list(content["partitions"].items())
    del kept[number]
    return content | {"partitions": dict(kept)}


def changed_part(content, number, change):
    partitions = {name: [list(map(list, parts)), searched] for name, (parts, searched) in content["partitions"].items()}
    parts = list(partitions.values())[number][0]
    change(parts)
    return content | {"partitions": partitions}


def without_rows_of(table):
    def change(parts):
        parts[0][2] = {name: checksum for name, checksum in parts[0][2].items() if name != table}

    return change


FORGED = {
    "nothing": lambda content: content | {"partitions": {}, "summaries": {}},
    "no first": lambda content: without_partition(content, 0),
    "no second": lambda content: without_partition(content, 1),
    "no last": lambda content: without_partition(content, 2),
    "a part less": lambda content: changed_part(content, 1, lambda parts: parts.pop(0)),
    "no parts": lambda content: changed_part(content, 1, lambda parts: parts.clear()),
    "no runs": lambda content: changed_part(content, 1, without_rows_of("runs")),
    "no curves": lambda content: changed_part(content, 2, without_rows_of("curves")),
}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("also_new", [False, True])
def test_no_record_is_hidden(filled, make_record, forged, also_new):
    if also_new:  # which would be brought in beside, and what does not count removed
        before = None
        filled.write(make_record(9, method="pixels"))
    else:
        before = answers(filled)
    write(filled, FORGED[forged](content_of(filled)))
    with pytest.warns(SetAsideWarning, match="catalog.json: it leaves out .*; built again from the records"):
        after = answers(filled)
    assert len(after[3]) == 4 + also_new
    assert sorted(after[0]["record_id"].to_pylist()) == after[3]
    if before:
        assert all(now == then for now, then in zip(after, before, strict=True))
    assert not omission(filled.folder, read_catalog(filled.folder))


def test_one_from_a_backup_hides_nothing_that_came_later(filled, make_record):
    path = filled.folder / "tables/catalog.json"
    backup = path.read_bytes()
    for number in range(5, 30):
        filled.write(make_record(number, method="pixels"))
        filled.compact()
    before = answers(filled)
    path.write_bytes(backup)
    # the two that it knows are in a bundle that was merged since, whose name it does not know
    with pytest.warns(SetAsideWarning, match="it leaves out 27 records of .*pixels"):
        after = answers(filled)
    assert all(now == then for now, then in zip(after, before, strict=True))


def test_what_a_kill_left_is_no_omission(filled, make_record):
    (bundle, *_) = sorted((filled.folder / "records").glob("*/*/method=pixels/*.jsonl"))
    twice = bundle.with_name("part-00000000deadbeef.jsonl")  # merged, and killed before the catalogue named it
    twice.write_bytes(bundle.read_bytes())
    record = make_record(9, method="pixels")
    filled.write(record)
    fresh = bundle.with_name("part-00000000deadbee0.jsonl")  # brought in, and killed before
    fresh.write_bytes(filled.path_of(record["record_id"]).read_bytes() + b"\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(answers(filled)[3]) == 5
    assert not twice.exists()
    assert not fresh.exists()
