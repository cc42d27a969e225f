import shutil

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data import tasks
from trainables.data.draw import draw_few_shot
from trainables.data.source import open_source, prepare
from trainables.data.tasks import few_shot_task, hidden_labels

HEALTHY = "20 pictures of images/ have no mask: read as healthy; move them to unlabelled/ if nobody looked"


def test_what_no_mask_means_is_said_at_the_start(write_lesions, caplog):
    folder = f"{write_lesions()}@32"
    assert open_source(folder).reader.notes[0] == HEALTHY
    prepare(folder)
    assert caplog.text.count(HEALTHY) == 1


def test_an_own_folder(write_lesions):
    folder = write_lesions()
    source = open_source(str(folder))
    assert (source.name, source.title, source.class_names) == ("lesions", "lesions", ("healthy", "lesion"))
    assert (source.channels, source.side, source.splits) == (3, 1024, ("train", "test"))
    assert (source.class_counts("train"), source.class_counts("test")) == ((16, 8), (4, 2))
    assert source.shots_in_all
    assert not source.official
    whole = few_shot_task(f"{folder}@32", 18, 0, "official")
    assert whole.labelled.labels_N.bincount().tolist() == [12, 6]
    assert whole.validation.labels_N.bincount().tolist() == [4, 2]
    assert len(whole.unlabelled_NCHW) == 0


@pytest.mark.parametrize(
    ("size", "asked", "side", "name"),
    [((40, 40), "", 40, "lesions"), ((40, 32), "@48", 48, "lesions@48"), ((20, 20), "", 1024, "lesions")],
)
def test_side(write_lesions, size, asked, side, name):
    source = open_source(f"{write_lesions(size=size)}{asked}")
    assert (source.name, source.side) == (name, side)


@pytest.mark.parametrize("side", [31, 2049])
def test_side_out_of_range(write_lesions, side):
    with pytest.raises(DataError, match=f"made 32 to 2048 pixels wide, not {side}"):
        open_source(f"{write_lesions()}@{side}")


def test_no_picture_is_in_two_parts(write_lesions):
    folder = f"{write_lesions()}@32"
    unseen = {picture.tobytes() for picture in tasks.test_set(folder).images_NCHW.numpy()}
    for label_set in range(4):
        task = few_shot_task(folder, 10, label_set, "official")
        parts = [task.labelled.images_NCHW, task.unlabelled_NCHW, task.validation.images_NCHW]
        seen = [picture.tobytes() for part in parts for picture in part.numpy()]
        assert len(seen) == len(set(seen)) == 24
        assert not unseen & set(seen)
    assert len(unseen) == 6


def test_label_sets_differ_but_the_test_set_stays(write_lesions):
    folder = f"{write_lesions()}@32"
    draws = {few_shot_task(folder, 10, label_set).provenance.label_set_hash for label_set in range(4)}
    assert len(draws) == 4
    assert few_shot_task(folder, 10, 2).provenance == few_shot_task(folder, 10, 2).provenance


def test_the_place_of_a_folder_does_not_matter(write_lesions, tmp_path):
    folder = write_lesions()
    shutil.copytree(folder, tmp_path / "elsewhere/lesions")
    one, two = (few_shot_task(f"{place}@32", 10, 0) for place in (folder, tmp_path / "elsewhere/lesions"))
    assert one.provenance == two.provenance


def test_masks_of_all_kinds_are_joined(write_lesions):
    folder = write_lesions()
    for place, column in (("a", 0), ("b", 20), ("", 39)):
        mask = np.zeros((32, 40), dtype=np.uint8)
        mask[0, column] = 1
        (folder / "masks" / place).mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "masks" / place / "00.png")
    source = open_source(f"{folder}@40")
    row = source.reader.prepared.places.index("images/00.png")
    split, first = (
        ("train", 0) if row < source.reader.prepared.num_train else ("test", source.reader.prepared.num_train)
    )
    assert np.argwhere(source.masks(split, np.array([row - first]))[0]).tolist() == [
        [0, 0],
        [0, 20],
        [0, 39],
        [1, 0],
        [1, 20],
        [1, 39],
    ]


def test_messages(write_lesions):
    folder = write_lesions()
    shutil.copy(folder / "masks/a/00.png", folder / "masks/a/77.png")
    with pytest.raises(DataError, match=r"mask .*masks/a/77\.png is of no picture; expected one named 77: add it"):
        open_source(str(folder))
    (folder / "masks/a/77.png").unlink()
    shutil.copy(folder / "images/00.png", folder / "images/00.bmp")
    with pytest.raises(DataError, match=r"00\.bmp and .*00\.png have the same name before the dot: rename one"):
        open_source(str(folder))
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()
    with pytest.raises(DataError, match=r"lesions/images holds no picture \(\.bmp, .*\); add some"):
        open_source(str(folder))


@pytest.fixture
def few(write_lesions):
    """Ten pictures with a lesion, twenty without, and five that nobody has looked at, of which one is a copy."""
    folder = write_lesions()
    rng = np.random.default_rng(9)
    (folder / "unlabelled").mkdir()
    for index in range(4):
        pixels = rng.integers(0, 200, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"unlabelled/{index}.png")
    shutil.copy(folder / "images/01.png", folder / "unlabelled/copy.png")
    return folder


def test_a_pool_beside_pictures_with_lesions(few):
    source = open_source(f"{few}@40")
    assert (source.splits, source.check_images("train")) == (("train",), 34)
    assert source.class_counts("train") == (20, 10)
    assert source.reader.prepared.places[30:] == tuple(f"unlabelled/{index}.png" for index in range(4))
    assert source.reader.notes == (HEALTHY, "1 pictures left out as they repeat others")


@pytest.mark.parametrize(("shots", "validation"), [(10, "realistic"), (10, "official"), (0, "labelled-cv")])
@pytest.mark.parametrize("grid", ["", ":2x2"])
def test_the_pool_is_neither_healthy_nor_a_lesion(few, shots, validation, grid):
    asked = (f"{few}@40{grid}", shots, 0, validation)
    split = draw_few_shot(*asked).split
    assert set(range(30, 34)) <= set(split.unlabelled_indices)
    known = hidden_labels(*asked).reshape(len(split.unlabelled_indices), -1)
    assert ((known == -1).all(1).numpy() == (split.unlabelled_indices >= 30)).all()
    assert ((known >= 0).all(1).numpy() == (split.unlabelled_indices < 30)).all()
    if not shots:
        assert split.unlabelled_indices.tolist() == [30, 31, 32, 33]
        assert (split.label_budget, split.num_folds) == (30, 5)
