"""Results that were written before: by a version whose tables had other columns, or fewer conditions."""

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from sparse_search.analysis.leaderboard import board
from sparse_search.results.catalog import read_catalog, write_catalog
from sparse_search.results.files import read_batches, write_batches
from sparse_search.results.records import decode, encode
from sparse_search.results.rows import RUN_SCHEMA
from sparse_search.results.trials import RANKING
from trainables.core.conditions import CONDITIONS


@pytest.fixture
def filled(store, make_record):
    for number in range(4):
        store.write(make_record(number, images=540 if number % 2 else 1620, lr=1e-3 * (number + 1)))
    store.compact()
    return store


def as_of_before(folder):
    """Turns tables into those of a version that ranked by less and did not say what its tables look like."""
    catalog = read_catalog(folder)
    summaries = {}
    for name, (file, checksum) in catalog.summaries.items():
        batches = read_batches(folder / "tables" / file, checksum, range(len(catalog.partitions)))
        names = [column for column in batches[0].schema.names if column not in ("images", "seed", "accumulate")]
        old = [batch.select(names) for batch in batches]
        summaries[name] = (file, write_batches(folder / "tables" / file, old[0].schema, old))
    catalog.summaries = summaries
    write_catalog(folder, catalog)
    path = folder / "tables" / "catalog.json"
    content = decode(path.read_bytes(), path)
    del content["layout"]
    path.write_bytes(encode(content))


@pytest.mark.filterwarnings("error")
def test_tables_of_before_are_built_again_from_the_records(filled):
    expected, runs = filled.summary(), filled.runs()
    as_of_before(filled.folder)
    found = filled.summary()
    assert found.shown.equals(expected.shown)
    assert found.order.equals(expected.order)
    assert filled.runs().equals(runs)
    assert filled.num_records() == 4
    assert not (filled.folder / "set_aside").exists()
    assert board(filled).ranked["images"].to_pylist() == [540, 1620]


def test_tables_are_built_again_once(filled, monkeypatch):
    as_of_before(filled.folder)
    filled.summary()
    lying = sorted(filled.folder.rglob("part-*"))
    filled.summary()
    assert sorted(filled.folder.rglob("part-*")) == lying


def test_a_record_of_before_a_condition_has_its_default(store, make_record):
    record = make_record(0)
    later = {condition.column: condition.default for condition in CONDITIONS} | {"statistics": "running"}
    for column in later:
        del record[column]
    store.write(record)
    (row,) = store.runs().to_pylist()
    assert {column: row[column] for column in later} == later


@pytest.mark.filterwarnings("default")
def test_r6_other_readers_of_parquet_read_the_tables(filled, make_record):
    """Pandas, and Arrow with the names of folders as columns: every row with data set, shots and method, once."""
    for number, (dataset, shots) in enumerate([("my scans/v1", 5), ("digits", 10), ("100", 7)], 10):
        filled.write(
            make_record(number, dataset=dataset, shots=shots, method="constant" if number % 2 else "supervised")
        )
    for table, expected in (("runs", filled.runs()), ("curves", filled.curves())):
        place = filled.folder / "tables" / table
        frame = pd.read_parquet(place)
        plain = ds.dataset(place, partitioning="hive").to_table()
        keys = ["record_id", "dataset", "shots", "method"]
        wanted = sorted(zip(*(map(str, expected[name].to_pylist()) for name in keys), strict=True))
        assert sorted(zip(*(frame[name].astype(str) for name in keys), strict=True)) == wanted
        assert sorted(zip(*(map(str, plain[name].to_pylist()) for name in keys), strict=True)) == wanted
        assert len(pq.read_table(place)) == len(expected)
        assert frame["balanced_accuracy"].notna().all()


def test_r6_rows_that_are_read_have_all_columns_in_order(filled):
    assert filled.runs().column_names[: len(RUN_SCHEMA)] == RUN_SCHEMA.names
    assert filled.runs().schema.field("shots").type == pa.int64()
    assert filled.runs(columns=["shots", "run_id"]).column_names == ["run_id", "shots"]


def test_every_condition_is_a_column_of_its_type():
    types = {bool: pa.bool_(), int: pa.int64(), str: pa.string()}
    for condition in CONDITIONS:
        field = RUN_SCHEMA.field(condition.column)
        assert (field.type, field.nullable) == (types[condition.type], False)
        assert (condition.column in RANKING) == (condition.changes == "scores")
