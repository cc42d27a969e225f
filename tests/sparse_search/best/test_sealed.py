"""Everything a user does works on a file whose test labels or masks cannot be read; only `evaluate` trips over them."""

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from sparse_search.analysis.comparison import compare, compare_all
from sparse_search.analysis.curves import best_so_far, learning_curves
from sparse_search.analysis.importance import importance
from sparse_search.analysis.leaderboard import leaderboard
from sparse_search.best.export import export, write_export
from sparse_search.best.retrain import evaluate, reproduce
from sparse_search.execution.run import run
from sparse_search.execution.status import status
from sparse_search.pages.page import report
from sparse_search.search.sweep_file import parse_sweep
from trainables.data.readers.shapes import shapes
from trainables.data.source import open_source

from ..conftest import TINY
from ..execution.test_segmentation import SWEEP

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("one_ray")]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """Data in which the labels of the test images are objects, which no reader unpacks."""
    path = tmp_path_factory.mktemp("data") / "sealed.npz"
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("val", 20), ("test", 20)):
        labels_N = np.arange(count) % 2
        arrays[f"{split}_images"] = (draw.integers(0, 128, (count, 16, 16)) + 100 * labels_N[:, None, None]).astype(
            "u1"
        )
        arrays[f"{split}_labels"] = labels_N
    arrays["test_labels"] = np.array([object()] * 20)
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def swept(sealed, one_ray, tmp_path_factory):
    """A finished sweep on them."""
    results = tmp_path_factory.mktemp("sealed") / "results"
    changes = {"label_sets": [0, 1], "confirm": 1, "confirm_label_sets": 1, "workers": 1}
    sweep = parse_sweep(TINY | changes | {"datasets": [str(sealed)]})
    assert run(sweep, results).ok
    return sweep, results


def test_the_labels_are_sealed(sealed):
    with pytest.raises(DataError, match="test_labels"):
        open_source(str(sealed)).labels("test")


def test_a_search_and_all_that_follows_never_opens_them(swept, sealed, tmp_path):
    sweep, results = swept
    assert all(study.is_over for study in status(sweep, results))
    assert set(leaderboard(results)["method"]) == {"average", "supervised", "constant"}
    assert compare(results, "supervised", "constant").cells
    assert compare_all(results).methods
    assert len(best_so_far(results))
    assert len(learning_curves(results))
    assert importance(results)
    assert "sealed" in report(results, tmp_path / "report.html").read_text()
    best = export(results, dataset="sealed", shots=2)
    write_export(best, tmp_path / "best.yaml")
    assert reproduce(tmp_path / "best.yaml").is_equal


def test_only_the_command_that_says_so_tries(swept, tmp_path):
    _, results = swept
    write_export(export(results, dataset="sealed", shots=2), tmp_path / "best.yaml")
    with pytest.raises(DataError, match="test_labels"):
        evaluate(tmp_path / "best.yaml", results, why="all is decided", unlock_test=True)
    assert not (results / "ledger").exists()


@pytest.fixture(scope="module")
def sealed_discs(tmp_path_factory):
    """Pictures with optic discs, in which the masks of the test pictures are no pictures."""
    root = tmp_path_factory.mktemp("discs")
    for split, count, seed in (("train", 16, 0), ("test", 4, 1)):
        images, masks = shapes(count, 32, seed)
        for part, arrays in (("images", images), ("masks/OD", masks * 255)):
            folder = root / "idrid/segmentation" / split / part
            folder.mkdir(parents=True)
            for index, pixels in enumerate(arrays):
                Image.fromarray(pixels).save(folder / f"IDRiD_{index:02}.png")
    for path in (root / "idrid/segmentation/test/masks/OD").iterdir():
        path.write_bytes(b"sealed")
    return root


@pytest.mark.long
def test_a_search_for_masks_never_opens_those_of_test_pictures(sealed_discs, tmp_path):
    results, root = tmp_path / "results", sealed_discs
    sweep = parse_sweep(SWEEP | {"datasets": ["idrid-disc@32"], "workers": 1})
    assert run(sweep, results, data_root=root).ok
    assert all(study.is_over for study in status(sweep, results, data_root=root))
    assert set(leaderboard(results)["method"]) == {"segmenter"}
    assert "idrid-disc@32" in report(results, tmp_path / "report.html").read_text()
    write_export(export(results, dataset="idrid-disc@32", shots=4), tmp_path / "best.yaml")
    assert reproduce(tmp_path / "best.yaml", data_root=root).is_equal
    with pytest.raises(DataError, match=r"masks/OD/IDRiD_00\.png cannot be read"):
        evaluate(tmp_path / "best.yaml", results, why="all is decided", unlock_test=True, data_root=root)
    assert not (results / "ledger").exists()
