"""The page of columns beside the schemas, and its examples on real tables."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sparse_search.analysis.leaderboard import rank, write_leaderboards
from sparse_search.results.catalog import TABLES
from sparse_search.results.ledger import LEDGER_SCHEMA
from sparse_search.results.predictions import PREDICTION_SCHEMA
from sparse_search.results.rows import RUN_SCHEMA, SEARCHED
from trainables.metrics.table import METRICS

PAGE = (Path(__file__).parents[3] / "docs/columns.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
SCHEMAS = {name: schema for name, (schema, _) in TABLES.items()} | {
    "leaderboards": rank(RUN_SCHEMA.empty_table()).schema
}
OTHERS = {"predictions": PREDICTION_SCHEMA, "ledger": LEDGER_SCHEMA}
MAY_LACK = {"predictions": ("source_index", "source_group", "pool_mean")}
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def told():
    """Each row of the page for each table that it is about: table, column, type, unit and meaning."""
    for name, kind, unit, where, meaning in ROW.findall(PAGE):
        for table in SCHEMAS if where == "all" else where.split(", "):
            yield table, name, kind.replace("`", "").strip(), unit.strip(), meaning.strip()


def type_of(field, table):
    may_lack = field.nullable if table in TABLES else field.name in MAY_LACK.get(table, (*METRICS, "low", "high"))
    return re.sub("(item|element): ", "", str(field.type)) + " ?" * may_lack


def test_every_column_is_on_the_page_once_with_its_type_and_no_other_is():
    fields = [(table, field) for table, schema in {**SCHEMAS, **OTHERS}.items() for field in schema]
    there = [(table, field.name, type_of(field, table)) for table, field in fields
             if table != "ledger" or field.name not in METRICS]  # fmt: skip
    assert sorted(row[:3] for row in told()) == sorted(there)


def test_every_column_has_a_meaning_and_every_measured_one_a_unit():
    rows = list(told())
    assert all(meaning for *_, meaning in rows)
    for _, name, _, unit, _ in rows:
        if name.endswith("_seconds"):
            assert unit == "s"
        if name.endswith("_bytes"):
            assert unit == "bytes"


def domain(metric):
    ends = "any" if metric.low is None else "from" if metric.high is None else ""
    numbers = " to ".join(f"{end:g}" for end in (metric.low, metric.high) if end is not None)
    ends = " ".join(filter(None, [ends, numbers]))
    return ", ".join(filter(None, [metric.unit, ends, "high is good" if metric.sign > 0 else "low is good"]))


def test_the_unit_of_a_metric_is_that_of_the_code():
    assert {name: unit for _, name, _, unit, _ in told() if name in METRICS} == {
        name: domain(metric) for name, metric in METRICS.items()
    }


@pytest.fixture
def written(store, make_record, tmp_path, monkeypatch):
    """Results of two methods, with a leaderboard, below the folder that we are in."""
    for number in range(2):
        store.write(make_record(number))
    record = make_record(2, method="other", dataset="digits", shots=5, config={"image_size": 32, "depth": 3})
    store.write(record)
    store.write(make_record(3, dataset="my/scans", shots=7))
    write_leaderboards(store)
    monkeypatch.chdir(tmp_path)
    return store


def test_files_have_the_columns_of_the_page(written):
    keys = {"dataset", "shots", "method"}
    for table, pattern in {"runs": "tables/runs", "curves": "tables/curves", "leaderboards": "leaderboards"}.items():
        names = {name for of, name, *_ in told() if of == table}
        for path in (written.folder / pattern).rglob("*.parquet"):
            found = set(pq.read_schema(path).names)
            own = {name for name in found if name.startswith(SEARCHED)}
            assert found - own == names - (keys if table in TABLES else set())
            assert bool(own) == (table == "runs")


def run(example):
    """Run an example that its libraries are there for; its names and values."""
    for library in re.findall(r"^import (\w+)", example, re.MULTILINE):
        pytest.importorskip(library)
    names = {}
    exec(example, names)
    return names


def test_a_leaderboard_says_which_metric_and_what_its_interval_covers(written):
    (example,) = (text for text in EXAMPLES if "metadata" in text)
    assert f"\n> {run(example)['about']}\n" in PAGE


def test_pandas_reads_leaderboards_and_curves(written):
    (example,) = (text for text in EXAMPLES if "import pandas" in text)
    names = run(example)
    assert len(names["winners"]) == 1
    curves = names["curves"]
    assert sorted(set(zip(curves["dataset"], curves["shots"], curves["method"], strict=True))) == [
        ("digits", 5, "other"), ("digits", 5, "supervised"), ("my/scans", 7, "supervised"),
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["pyarrow.dataset", "polars", "duckdb"])
def test_runs_of_all_methods_are_read_with_all_settings(written, library):
    (example,) = (text for text in EXAMPLES if f"import {library}" in text)
    runs = run(example)["runs"]
    rows = runs.to_dicts() if library == "polars" else runs.to_pylist()
    seen = [(row["dataset"], row["shots"], row["method"], row["config.lr"], row["config.depth"]) for row in rows]
    assert sorted(seen, key=str) == [
        ("digits", 5, "other", None, 3),
        *2 * [("digits", 5, "supervised", 1e-3, None)],
    ]
    assert {name for row in rows for name in row} >= {*RUN_SCHEMA.names}
