"""What is printed where a terminal is narrow: cut at no word, and told what it leaves out."""

import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sparse_search.cli import datasets, findings, printing
from sparse_search.cli.app import app
from tests.sparse_search.command import call

CUT = "…"


@pytest.fixture
def columns(monkeypatch):
    """A setter of the width that tables are printed at."""

    def set_width(width):
        for module in (printing, datasets, findings):
            monkeypatch.setattr(module, "console", lambda: Console(width=width, markup=False, emoji=False))

    return set_width


def test_the_list_of_commands_is_read_whole():
    told = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    assert "leaderboard" in told
    assert "..." not in told.partition("Commands:")[2]


@pytest.mark.parametrize("arguments", [["datasets"], ["methods"], ["methods", "probe"]])
def test_tables_of_80_columns_cut_no_name(columns, tmp_path, arguments):
    columns(80)
    told = call(*arguments, cwd=tmp_path).stdout
    assert CUT not in told.replace(" … ", " to "), "of ranges"
    assert max(map(len, told.splitlines())) <= 80


def test_a_narrow_leaderboard_drops_columns_and_says_which(columns, tmp_path, store, make_record):
    store.write(make_record(1))
    wide = call("leaderboard", "--results", store.folder, cwd=tmp_path).stdout
    assert "seconds" in wide
    assert "a wider terminal" not in wide
    columns(80)
    narrow = call("leaderboard", "--results", store.folder, cwd=tmp_path).stdout
    assert CUT not in narrow
    words = " ".join(narrow.split())
    assert "a wider terminal has accuracy, AUROC, " in words
    assert "balanced acc." in words
    assert re.search(r"│ 0.700 │ 0.\d\d–0.\d\d │", words)
