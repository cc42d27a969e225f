"""What a run does before its first trial: pictures with masks are prepared, and counted in patches."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from search_spaces.core.errors import DataError
from sparse_search.execution.run import plan_studies, run


@pytest.fixture
def lesions(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for place in ("images", "masks"):
        (tmp_path / "lesions" / place).mkdir(parents=True)
    for index in range(20):
        pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"lesions/images/{index}.png")
        if index % 2:
            Image.fromarray(pixels).save(tmp_path / f"lesions/masks/{index}.png")
    return str(tmp_path / "lesions")


def test_preparation_is_told_once_and_before_anything_is_planned(lesions, tiny, tmp_path):
    sweep = tiny(datasets=[lesions], shots=[1])
    for expected in ("lesions: 20/20 pictures prepared", ""):
        console = Console(file=io.StringIO(), width=200)
        with pytest.raises(DataError, match=r"shots is 1; this dataset counts labelled pictures in all"):
            run(sweep, tmp_path / "results", console=console)
        assert expected in console.file.getvalue()
    assert console.file.getvalue() == ""
    assert not (tmp_path / "results").exists()


def test_a_plan_counts_patches(lesions, tiny):
    for grid, num_patches in (("", 1), (":4x4", 16)):
        (study, *_) = plan_studies(tiny(datasets=[lesions + grid], shots=[4]), None)
        assert (study.facts.num_labelled, study.facts.num_unlabelled) == (4 * num_patches, 8 * num_patches)
