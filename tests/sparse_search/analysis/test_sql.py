import sys

import pytest

from search_spaces.core.errors import ConfigError
from sparse_search.analysis.sql import schema_text, sql
from sparse_search.results.ledger import LEDGER_SCHEMA
from sparse_search.results.predictions import PREDICTION_SCHEMA
from sparse_search.results.rows import CURVE_SCHEMA, RUN_SCHEMA


@pytest.fixture
def filled(store, make_record):
    for number in range(4):
        store.write(make_record(number, method="constant" if number % 2 else "supervised"))
    return store.folder


def test_schema_text_names_every_column():
    text = schema_text()
    for schema in (RUN_SCHEMA, CURVE_SCHEMA, PREDICTION_SCHEMA, LEDGER_SCHEMA):
        for field in schema:
            assert f"  {field.name} " in text


def test_without_duckdb_the_error_says_what_to_install(filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'sparse-search\[sql\]'"):
        sql(filled, "select 1")


class TestWithDuckdb:
    @pytest.fixture(autouse=True)
    def _needed(self):
        pytest.importorskip("duckdb", reason="the [sql] extra is not installed")

    def test_a_query_over_both_tables(self, filled):
        table = sql(
            filled,
            'select r.method, count(*) as n, min("config.lr") as lr from Runs r join curves c using (record_id) '
            "group by r.method order by r.method",
        )
        assert table.to_pylist() == [{"method": "constant", "n": 4, "lr": 1e-3},
                                     {"method": "supervised", "n": 4, "lr": 1e-3}]  # fmt: skip

    @pytest.mark.parametrize(
        "query",
        [
            "selec 1", "select nothing from runs", "", "select 1; select 2", "drop view runs",
            "set enable_external_access = true", "install httpfs", "attach 'x.db'",
            "copy (select 1) to '{folder}/out.csv'", "create table t as select 1", "pragma database_list",
        ],
    )  # fmt: skip
    def test_what_is_no_query_is_one_clear_line(self, filled, query):
        with pytest.raises(ConfigError, match="--schema") as told:
            sql(filled, query.format(folder=filled))
        assert "\n" not in str(told.value)
        assert not (filled / "out.csv").exists()

    @pytest.mark.parametrize("function", ["read_csv", "read_text", "read_parquet", "read_blob", "glob"])
    def test_p9_no_file_beside_the_tables_and_no_network(self, filled, function):
        (filled / "secret.csv").write_text("a,b\n1,2\n")
        for place in (filled / "secret.csv", "https://localhost/secret.csv", "s3://bucket/secret.csv"):
            with pytest.raises(ConfigError, match="cannot be answered"):
                sql(filled, f"select * from {function}('{place}')")
        with pytest.raises(ConfigError, match="cannot be answered"):
            sql(filled, f"select * from '{filled}/secret.csv'")

    def test_python_variables_are_out_of_reach(self, filled):
        secret = sql(filled, "select 1 as a")
        assert len(secret) == 1
        with pytest.raises(ConfigError, match="secret"):
            sql(filled, "select * from secret")
        with pytest.raises(ConfigError, match="store"):
            sql(filled, "select * from store")
