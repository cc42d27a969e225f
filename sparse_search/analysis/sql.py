"""SQL over the tables, with DuckDB: read-only, and without any other file."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from search_spaces.core.errors import ConfigError
from sparse_search.results.ledger import LEDGER_SCHEMA, look_rows
from sparse_search.results.mirror import read_store
from sparse_search.results.predictions import PREDICTION_SCHEMA, all_predictions
from sparse_search.results.rows import CURVE_SCHEMA, RUN_SCHEMA, SEARCHED
from sparse_search.results.store import Store

_TABLES: Mapping[str, tuple[pa.Schema, Callable[[Store], pa.Table]]] = {
    "runs": (RUN_SCHEMA, lambda store: store.runs()),
    "curves": (CURVE_SCHEMA, lambda store: store.curves()),
    "predictions": (PREDICTION_SCHEMA, lambda store: all_predictions(store.address)),
    "ledger": (LEDGER_SCHEMA, lambda store: look_rows(store.folder)),
}


def sql(results: Path | str, query: str) -> pa.Table:
    """Answer a query over the tables, those that `schema_text` lists.

    The database is in memory and holds nothing else. Before the query runs, access to files and networks is switched
    off and the configuration is locked, so that a query can neither read nor write anything outside the tables.

    Raises:
        ConfigError: DuckDB is missing, or refuses the query.
        ResultsError: the results cannot be read.
    """
    try:
        import duckdb
    except ImportError:
        raise ConfigError("SQL needs DuckDB; install it with: pip install 'sparse-search[sql]'") from None
    store = read_store(results)
    with duckdb.connect(":memory:") as database:
        try:
            words = {token.lower() for token in _words(query)}
            for name, (_, read) in _TABLES.items():
                if name in words:  # the others are not even read
                    database.register(name, read(store))
            database.execute("SET enable_external_access = false")
            database.execute("SET lock_configuration = true")
            return database.sql(_selecting(query)).to_arrow_table()
        except duckdb.Error as problem:
            text = " ".join(str(problem).split())
            raise ConfigError(f"the query cannot be answered: {text}; --schema lists tables and columns") from problem


def schema_text() -> str:
    """The columns of each table and their types, as DuckDB names them; `?` where a value may be missing."""
    lines = []
    for name, (schema, _) in _TABLES.items():
        lines.append(name)
        lines += [f"  {field.name:20s} {_TYPES[str(field.type)]}{' ?' * field.nullable}" for field in schema]
    lines.append(f'  "{SEARCHED}NAME"{" " * 8} one for each setting of the methods that ran, in runs; quote it')
    return "\n".join(lines)


_TYPES = {
    "string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "list<item: double>": "DOUBLE[]",
}  # fmt: skip


def _words(query: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in query).split()


def _selecting(query: str) -> str:
    """The one query given.

    Raises:
        ConfigError: it is none, several, or a statement that changes something.
    """
    import duckdb

    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ConfigError("expected one SELECT (or WITH … SELECT) over the tables that --schema lists")
    return statements[0].query
