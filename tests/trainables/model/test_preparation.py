"""A picture becomes what it became when the model was trained."""

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.yaml_files import dump_yaml, parse_yaml
from trainables.data.source import open_source
from trainables.model.inputs import unseen
from trainables.model.preparation import Preparation, reduction_of


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_with_lesions_are_reduced_as_they_were(tmp_path, suffix):
    rng, folder = np.random.default_rng(0), tmp_path / "lesions"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(12):
        size = (48, 40) if number % 2 else (96, 100)
        pixels = rng.integers(0, 200, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.{suffix}")
        if number % 3:
            marked = np.zeros(size[::-1], np.uint8)
            marked[5:9, 5:9] = 255
            Image.fromarray(marked).save(folder / "masks" / f"{number}.png")
    source = open_source(f"{folder}@32")
    reduction = reduction_of(source)
    assert (reduction["compression"] is None) == (suffix == "png")
    read_again = parse_yaml(dump_yaml({"reduction": reduction}), "it")["reduction"]
    preparation = Preparation(source.channels, source.side, read_again)
    for place, expected in zip(source.reader.prepared.places, source.images("train"), strict=False):
        np.testing.assert_array_equal(unseen([folder / place])[0].read(preparation).pixels_CSS, expected)


def test_classes_are_read_as_in_class_folders(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(12):
            Image.fromarray(rng.integers(0, 256, (30, 20, 4), dtype=np.uint8)).save(
                tmp_path / name / f"{number:02}.png"
            )
    source = open_source(f"{tmp_path}@16")
    assert reduction_of(source) is None
    preparation = Preparation(source.channels, source.side)
    read = {each.read(preparation).pixels_CSS.tobytes() for each in unseen([tmp_path])}
    assert all(image.tobytes() in read for image in source.images("train"))
