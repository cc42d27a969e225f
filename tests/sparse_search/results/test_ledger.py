"""The ledger: every look once, what was altered or removed is noticed, and damage stops nothing else."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.core.errors import ResultsError
from sparse_search.cli.printing import console
from sparse_search.results.ledger import (
    count_looks,
    ledger_doubts,
    look_now,
    look_rows,
    looks,
    num_looks,
    readable_looks,
    write_look,
)

LOOK = look_now(
    why="all is decided", dataset="digits", content_hash="c0ffee", shots=5, validation="realistic", label_sets=[0],
    method="supervised", config_id="123456789abc", num_images=20, versions={},
    test={"supervised": {"balanced_accuracy": 0.8125, "accuracy": 0.75, "low": 0.7, "high": 0.9}},
    validated={"supervised": {"balanced_accuracy": 0.9}},
)  # fmt: skip

WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
from tests.sparse_search.results.test_ledger import LOOK
from sparse_search.results.ledger import write_look
for _ in range(5):
    write_look(Path(sys.argv[1]), LOOK)
"""


@pytest.fixture
def filled(tmp_path):
    """Three looks."""
    for number in range(3):
        write_look(tmp_path, replace(LOOK, why=f"look {number}"))
    return tmp_path


def lines(results):
    return sorted((results / "ledger").glob("*.json"), key=lambda path: path.name.split("-")[1])


def test_r4_equal_looks_at_once_leave_a_line_each(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(list(looks(tmp_path))) == 20
    assert ledger_doubts(tmp_path) == []
    assert count_looks(tmp_path) == num_looks(tmp_path)["c0ffee"] == 20


def test_r4_nothing_is_doubtful_in_a_whole_ledger(filled):
    assert [look.why for look in looks(filled)] == ["look 0", "look 1", "look 2"]
    assert ledger_doubts(filled) == []
    assert look_rows(filled).num_rows == 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_r4_an_edited_score_is_noticed(filled, number):
    path = lines(filled)[number]
    path.write_text(path.read_text().replace("0.8125", "0.9125"))
    assert len(readable_looks(filled)) == 2
    assert count_looks(filled) == 3
    assert any(str(path) in line and "altered" in line for line in ledger_doubts(filled))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_r4_an_edit_with_a_new_hash_is_noticed(filled, number):
    from sparse_search.results.ledger import _sealed

    path = lines(filled)[number]
    values = json.loads(path.read_text())
    values["test"]["supervised"]["balanced_accuracy"] = 0.99
    del values["sha256"]
    path.write_bytes(_sealed(values))
    assert ledger_doubts(filled)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_r4_a_removed_line_is_noticed_and_counts(filled, number):
    lines(filled)[number].unlink()
    assert any(f"line {number + 1} of the test ledger" in line and "removed" in line for line in ledger_doubts(filled))
    assert count_looks(filled) == 3


def test_r4_a_removed_line_and_its_witness_are_missed_by_the_next(filled):
    lines(filled)[1].unlink()
    next((filled / "ledger" / "witness").glob("00002-*")).unlink()
    (line,) = ledger_doubts(filled)
    assert "the line before it was altered or removed" in line


WRONG = [
    None, 5, "x", [], {}, [1], True, 1.5, 10**30, {"supervised": None}, {"supervised": {"low": "x"}},
    {"supervised": {}}, {"supervised": {"low": 10**30}}, {"supervised": {"accuracy": 2**63 - 1}},
]  # fmt: skip


def test_r4_wrong_types_are_no_tracebacks(tmp_path):
    from sparse_search.cli.findings import look_table

    for key in LOOK.__dataclass_fields__:
        for number, value in enumerate(WRONG):
            folder = tmp_path / f"{key}-{number}"
            (folder / "ledger").mkdir(parents=True)
            values = {name: getattr(LOOK, name) for name in LOOK.__dataclass_fields__} | {key: value}
            (folder / "ledger" / "20260101T000000Z-abcdefabcdef.json").write_text(json.dumps(values))
            console().print(look_table(readable_looks(folder)))
            assert len(readable_looks(folder)) + len(ledger_doubts(folder)) == 1
            look_rows(folder)
            num_looks(folder)
            count_looks(folder, "digits")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\x00", b"[" * 100_000, b"5"])
def test_r4_damage_stops_nothing_else(filled, content):
    (filled / "ledger" / "20260101T000000Z-00002-abcdefabcdef.json").write_bytes(content)
    assert len(readable_looks(filled)) == 3
    assert (num_looks(filled), count_looks(filled)) == ({"c0ffee": 3}, 4)
    assert len(ledger_doubts(filled)) == 1
    write_look(filled, LOOK)
    assert len(readable_looks(filled)) == 4
    with pytest.raises(ResultsError, match="no readable line"):
        list(looks(filled))


def test_lines_of_before_are_read_and_go_on(tmp_path):
    (tmp_path / "ledger").mkdir()
    old = {name: getattr(LOOK, name) for name in LOOK.__dataclass_fields__}
    (tmp_path / "ledger" / "20250101T000000Z-abcdefabcdef.json").write_text(json.dumps(old, indent=1))
    write_look(tmp_path, replace(LOOK, why="later"))
    assert [look.why for look in looks(tmp_path)] == ["all is decided", "later"]
    assert ledger_doubts(tmp_path) == []


def test_r3_foreign_text_is_shown_as_it_is(filled, capsys):
    from sparse_search.cli.findings import look_table

    for why in ("see [/issue 5]", "scans [v2]", ":smile:", "\x1b[31mred\x1b[0m"):
        write_look(filled, replace(LOOK, why=why))
    console().print(look_table(readable_looks(filled)))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[/issue", "[v2]", ":smile:"))
    assert "\x1b[31m" not in shown
