import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_search.analysis.formats import FORMATS
from sparse_search.analysis.leaderboard import rank

NASTY = 'a_b|c&d%$#{}~^\\<x>\nline, "quoted"'


@pytest.fixture
def ranked(store, make_record):
    store.write(make_record(0, start="default", confusion=((5, 0), (0, 5))))
    store.write(make_record(1, dataset=NASTY, method=NASTY))
    store.write(make_record(2, shots=10))
    return rank(store.runs())


def test_csv_holds_every_scalar(ranked):
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](ranked).decode())))
    assert [row["dataset"] for row in rows] == ranked["dataset"].to_pylist()
    assert [float(row["low"]) for row in rows] == ranked["low"].to_pylist()


def test_json_and_parquet_give_back_the_table(ranked):
    assert json.loads(FORMATS["json"](ranked)) == ranked.to_pylist()
    assert pq.read_table(pa.BufferReader(FORMATS["parquet"](ranked))).equals(ranked)


def test_markdown(ranked):
    lines = FORMATS["markdown"](ranked).decode().splitlines()
    rows = [line for line in lines if line.startswith("| 1 ")]
    assert len(rows) == 3
    assert {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")} == {8}
    row = ranked.filter(pa.compute.field("start") == "default").to_pylist()[0]
    assert f"| 1.000 \\[{row['low']:.3f}–{row['high']:.3f}\\] |" in "\n".join(lines)
    assert r"a\_b\|c&d%$\#\{\}\~^\\\<x\> line" in "\n".join(lines)


def test_latex(ranked):
    text = FORMATS["latex"](ranked).decode()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert (
        r"a\_b|c\&d\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}x\textgreater{} line" in text
    )
    rows = [line for line in text.splitlines() if line.startswith("1 & ")]
    assert len(rows) == 3
    assert all(row.endswith(r" \\") and row.replace(r"\&", "").count("&") == 6 for row in rows)


def test_a_missing_score_is_said(store, make_record):
    record = make_record(0)
    record["curve"][-1]["selected"]["supervised"]["auroc"] = None
    store.write(record)
    for name in ("markdown", "latex"):
        from sparse_search.analysis import formats

        assert "n/a" in getattr(formats, f"to_{name}")(rank(store.runs(), "auroc"), "auroc").decode()


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_ranking_is_no_error(ranked, name):
    assert isinstance(FORMATS[name](ranked.slice(0, 0)), bytes)
