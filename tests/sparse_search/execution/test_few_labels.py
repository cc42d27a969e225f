"""Few labels for real, as a new user has them: described, searched, ranked, exported, in one go."""

import re

import numpy as np
import pytest
import yaml
from PIL import Image

from sparse_search.results.mirror import read_store

from ..command import call

SWEEP = """
name: few
datasets: [scans/]
shots: [all]
image_size: 8
images: 400
evaluate_every: 200
confirm: 1
confirm_label_sets: 1
methods:
  pixels: {trials: 2}
  constant: {}
"""


@pytest.fixture
def scans(tmp_path):
    """A folder of pictures with a table: 16 labelled of 8 patients, 20 without a label; class 1 is brighter."""
    rng = np.random.default_rng(0)
    lines = ["path,label,patient"]
    (tmp_path / "scans").mkdir()
    for index in range(36):
        brightness = 120 * (index % 2)
        pixels_HW = rng.integers(brightness, brightness + 130, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels_HW).save(tmp_path / f"scans/{index:02}.png")
        if index < 16:
            lines.append(f"{index:02}.png,{('calm', 'ill')[index % 2]},p{index // 4 * 2 + index % 2}")
    (tmp_path / "scans/labels.csv").write_text("\n".join(lines))
    (tmp_path / "few.yaml").write_text(SWEEP)
    return tmp_path


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_table_with_patients_from_description_to_export(scans):
    told = call("datasets", "scans/", cwd=scans).stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    assert rows == [["train", "8", "8", "16", "8"], ["unlabelled", "", "", "20", ""]]
    assert "20 pictures that labels.csv does not name are of the pool" in told
    assert "labelled-cv deals the labelled images out to 4 folds" in told
    done = call("run", "few.yaml", "--data-root", scans, cwd=scans)
    assert done.returncode == 0, done.stderr
    assert "all labels are in use: scores are of cross-validation among them" in " ".join(done.stdout.split())
    told = "expected on new images of the same kind"
    assert told in " ".join(done.stdout.split())
    assert "estimated from 16 labels of 8 groups without a test set; its own cross-validated score is 1.00" in " ".join(
        done.stdout.split()
    )
    runs = read_store(scans / "results").runs().to_pylist()
    assert {(row["folds"], row["fold"], row["label_budget"]) for row in runs} == {(4, fold, 16) for fold in range(4)}
    assert {row["num_images"] for row in runs} == {4}, "two patients of two images each"
    board = call("leaderboard", "--shots", "all", cwd=scans).stdout
    assert re.search(r"pixels .* 1\.000", board)
    assert told in " ".join(board.split())
    exported = call("export", "--dataset", "scans", "--shots", "all", "-o", "best.yaml", cwd=scans)
    assert exported.returncode == 0, exported.stderr
    best = yaml.safe_load((scans / "best.yaml").read_text())
    assert (best["dataset"], best["shots"], best["folds"], best["validation"]) == ("scans/", "all", 4, "labelled-cv")


def test_the_example_can_be_looked_at(tmp_path):
    done = call("datasets", "--example", "scans", "--sheet", "sheet.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "39 labelled digits of 3 classes, and 270 without a label, are in scans" in done.stdout
    assert "31 pictures of train are in sheet.png" in done.stdout
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    again = call("datasets", "--example", "scans", cwd=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
