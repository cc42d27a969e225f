"""Sweeps that are disturbed and typed again: a short run of bench/chaos.py, and whether it would see what is lost."""

import random
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPEC = spec_from_file_location("bench.chaos", ROOT / "bench/chaos.py")
chaos = sys.modules[SPEC.name] = module_from_spec(SPEC)
SPEC.loader.exec_module(chaos)


def epochs(*lines):
    return [chaos.Epoch(*line) for line in lines]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "names", [("driver+journal+checkpoint", "worker+report"), ("own gcs", "own raylet"), ("power cut", "several files")]
)
def test_disturbed_sweeps_end_as_if_nothing_had_happened(names):
    command = [
        sys.executable, "bench/chaos.py", "--rounds", "2", "--only", ",".join(names), "--trials", "3", "--seed", "0",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    found = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    assert set(found) == {"nothing", *names}
    for row in found.values():
        assert (row["runs repeated"], row["complete"], row["RUNNING left"], row["verdict"]) == ("0", "yes", "0", "ok")
    assert [found[name]["results equal"] for name in names] == ["yes", "yes"]
    assert int(found[names[0]]["typed"]) >= 2


def test_lost_epochs_are_those_trained_again():
    assert chaos.most_lost(epochs(("a", 1, 7), ("a", 2, 7), ("b", 1, 7), ("a", 3, 7))) == 0
    assert chaos.most_lost(epochs(("a", 1, 7), ("a", 2, 7), ("a", 3, 8))) == 0
    assert chaos.most_lost(epochs(("a", 1, 7), ("a", 2, 7), ("a", 3, 7), ("a", 3, 8), ("a", 2, 9))) == 2
    assert chaos.most_lost(epochs(("a", 1, 7), ("a", 2, 7), ("a", 1, 7))) == 2
    # A worker that outlives its driver goes on while the next one has begun already.
    assert chaos.most_lost(epochs(("a", 1, 7), ("a", 2, 7), ("a", 2, 8), ("a", 3, 7), ("a", 3, 8), ("a", 4, 7))) == 1


def test_finished_runs_that_are_trained_again_are_counted(tmp_path):
    scene = chaos.Scene(tmp_path, random.Random(0), trials=1, workers=1, usual_epochs=0)
    (tmp_path / "log").write_text("a 0 1 7\nb 0 1 7\nb 0 2 8\na 0 2 8\n")
    scene.notes = [(2, {"b 0"}), (4, {"a 0", "b 0"})]
    assert chaos.num_repeated(scene) == 1


def test_every_disturbance_has_its_turn():
    drawn = chaos.draw(list(chaos.DISTURBANCES), 20, seed=3)
    assert len(drawn) == 20
    assert set(drawn) == set(chaos.DISTURBANCES)
    assert drawn == chaos.draw(list(chaos.DISTURBANCES), 20, seed=3)
