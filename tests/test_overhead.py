"""The benchmark of overheads itself: that its table can be made, and that what is written does not grow."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def rows():
    """The lines of the table below its header, as lists of cells."""
    command = [sys.executable, "bench/overhead.py", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line[2:-2].split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line] for line in lines[2:]]


def number(cell):
    return float(cell.split()[0].rstrip("x").replace(",", ""))


def test_what_ours_writes_for_a_trial_does_not_grow(rows):
    *states, growth = rows[:4]
    assert [row[0] for row in states] == [f"state for a trial, {count} known" for count in (15, 30, 60)]
    ours, stock = ([number(row[column]) for row in states] for column in (1, 2))
    assert max(ours) < 1.01 * min(ours)
    assert stock == sorted(stock)
    assert number(growth[1]) == pytest.approx(1, abs=0.01)
    assert number(growth[2]) > 1.5


def test_asks_and_searches_are_timed_beside_their_rivals(rows):
    ask, *searches = rows[4:]
    assert ask[0] == "ask, 12 parameters, 60 known"
    assert all(cell.endswith(" ms") for cell in ask[1:3])
    assert ask[4].endswith("x the cost")
    assert [row[3] for row in searches] == ["stock", "stock, reuse_actors=True"]
    for row in searches:
        assert row[0] == "2 trials of 0 s"
        assert all(cell.endswith(" trials/s") for cell in row[1:3])
        assert row[4].endswith(("x less", "x more"))
