"""The fuzzer: a short form of it over every kind, and that it notices what it is for."""

from pathlib import Path
from random import Random

import pytest

from bench import fuzz
from bench.fuzz_kinds import KINDS, Kind
from search_spaces.core.errors import ConfigError, DataError, UserError
from trainables.core.method import find_method
from trainables.data.readers.picture_files import shared_format
from trainables.data.source import open_source
from trainables.training.checkpoint import Checkpoints, _digest, save_hashed

INPUTS_OF_EACH = 16
INPUTS_OF_STORES = 5
"""Of kinds for which a results folder is copied each time."""


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_odd_inputs_are_refused_or_read(kind):
    inputs = INPUTS_OF_STORES if kind.name in ("records", "catalogue") else INPUTS_OF_EACH
    tally = fuzz.run([kind], range(inputs))[kind.name]
    assert tally.finds == []
    assert tally.inputs == inputs


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_seed_makes_the_same_input_again(kind):
    one, again, other = (ascii(kind.make(Random(seed))) for seed in ("a 1", "a 1", "a 2"))
    assert one == again
    assert one != other


def refuses(given: int, folder: Path) -> bool:
    raise UserError("no")


def breaks(given: int, folder: Path) -> bool:
    return bool(1 / given)


def says_nothing(given: int, folder: Path) -> bool:
    raise UserError(" ")


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
        (says_nothing, (0, 0), "without a word"),
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


@pytest.mark.parametrize(
    "saved", [{"epoch": 3}, {"state": {}}, {"epoch": "3", "state": {}}, {"epoch": 3, "state": []}, 5]
)
def test_a_whole_checkpoint_file_that_holds_none_is_set_aside(saved, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, {"step": 7})
    checkpoints.wait()
    path = save_hashed(tmp_path, "epoch-000003", saved, _digest)
    assert checkpoints.load() == (2, {"step": 7})
    assert path.with_suffix(".damaged").exists()


@pytest.mark.parametrize("content", [b"q\x00.", b"s.", b"h\x00.", b"X\x01\x00."])
def test_bytes_that_torch_stumbles_over_are_set_aside(content, tmp_path):
    (made := tmp_path / "made").write_bytes(content)
    path = made.replace(tmp_path / f"epoch-000001-{_digest(made)}.pt")
    assert Checkpoints(tmp_path).load() is None
    assert path.with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    "name", ["trainables.nothing:METHOD", "trainables.heads.nothing.at_all:METHOD", "nothing.x.y:M"]
)
def test_a_module_that_is_missing_anywhere_is_told(name):
    with pytest.raises(ConfigError, match="no module"):
        find_method(name)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" + "x" * 300, "~nobody-of-that-name/x", "~\x00"])
def test_a_name_that_no_file_can_have_is_told(name, tmp_path):
    with pytest.raises(DataError):
        open_source(name, tmp_path)


def test_a_tiff_whose_next_page_has_no_size_is_told(tmp_path):
    from PIL import Image

    path = tmp_path / "picture.tif"
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    after = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[after : after + 4] = len(content).to_bytes(4, "little")
    path.write_bytes(bytes(content) + bytes(6))
    with pytest.raises(DataError, match="cannot be read as a picture"):
        shared_format([path])
