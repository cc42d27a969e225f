"""The fuzzer: a short form of it over every kind, and that it notices what it is for."""

from pathlib import Path
from random import Random

import pytest

from bench import fuzz
from bench.fuzz_kinds import KINDS, Kind
from search_spaces.core.errors import UserError

INPUTS_OF_EACH = 16


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_odd_inputs_are_refused_or_read(kind):
    tally = fuzz.run([kind], range(INPUTS_OF_EACH))[kind.name]
    assert tally.finds == []
    assert tally.inputs == INPUTS_OF_EACH


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_seed_makes_the_same_input_again(kind):
    one, again, other = (ascii(kind.make(Random(seed))) for seed in ("a 1", "a 1", "a 2"))
    assert one == again
    assert one != other


def refuses(given: int, folder: Path) -> bool:
    raise UserError("no")


def breaks(given: int, folder: Path) -> bool:
    return bool(1 / given)


def says_two_lines(given: int, folder: Path) -> bool:
    raise UserError("one\ntwo")


def never_ends(given: int, folder: Path) -> bool:
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "counts", "found"),
    [
        (lambda given, folder: True, (0, 1), None),
        (lambda given, folder: False, (1, 0), None),
        (refuses, (1, 0), None),
        (breaks, (0, 0), "ZeroDivisionError"),
        (says_two_lines, (0, 0), "not one line"),
        (never_ends, (0, 0), "s of CPU"),
    ],
)
def test_what_is_no_error_of_ours_is_a_find(read, counts, found, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.05)
    tally = fuzz.fuzz(Kind("odd", lambda rng: 0, read), [4], tmp_path)
    assert (tally.refused, tally.accepted) == counts
    assert bool(tally.finds) == bool(found)
    if found:
        assert found in tally.finds[0]
        assert tally.finds[0].startswith("python bench/fuzz.py --kind odd --seed 4\n0\n")


def test_the_table_and_the_exit_code(capsys, monkeypatch):
    kinds = [Kind("good", lambda rng: 1, lambda given, folder: True), Kind("bad", lambda rng: 0, breaks)]
    monkeypatch.setattr(fuzz, "KINDS", kinds)
    assert fuzz.main(["--kind", "good", "--inputs", "3"]) == 0
    assert fuzz.main(["--inputs", "4"]) == 1
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in lines if line.startswith("| ")]
    assert rows[2] == ["good", "3", "0", "3", "0"]
    assert rows[-2:] == [["bad", "2", "0", "0", "2"], ["all", "4", "0", "2", "2"]]
