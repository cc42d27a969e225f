import json
import threading

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.__main__ import main
from trainables.data.readers import mask_pixels
from trainables.data.readers import resize_cache as preparation
from trainables.data.readers.resize_cache import brightened, resized_mask
from trainables.data.source import open_source, prepare
from trainables.data.tasks import few_shot_task, hidden_labels


@pytest.fixture
def decoded(monkeypatch):
    """Count the pictures and masks that are decoded."""
    count, opened = [], preparation.opened

    def counting(path, **options):
        count.append(path.name)
        return opened(path, **options)

    for module in (preparation, mask_pixels):
        monkeypatch.setattr(module, "opened", counting)
    return count


@pytest.mark.parametrize("size", [(100, 100), (428, 284), (33, 70), (8, 8)])
def test_no_lesion_is_too_small(size):
    for row, column in [(0, 0), (0, size[1] - 1), (size[0] - 1, 0), (size[0] - 1, size[1] - 1), (3, 5)]:
        mask = np.zeros(size, dtype=bool)
        mask[row, column] = True
        found = resized_mask(mask, 32)
        assert found.shape == (32, 32)
        there = [((place + 1) * 32 - 1) // length for place, length in zip((row, column), size, strict=True)]
        assert found[*there]
        assert found.sum() == 1 or min(size) < 32


def test_pooling_keeps_and_enlarges():
    mask = np.random.default_rng(0).random((32, 32)) < 0.1
    assert np.array_equal(resized_mask(mask, 32), mask)
    assert np.array_equal(resized_mask(mask, 64), mask.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(resized_mask(mask, 16), mask.reshape(16, 2, 16, 2).any((1, 3)))


def test_division_by_the_own_maximum_of_all_channels():
    pixels = np.array([[10, 100], [50, 0]], dtype=np.uint8)
    assert brightened(pixels).tolist() == [[26, 255], [127, 0]]
    assert brightened(pixels).dtype == np.uint8
    assert brightened(np.zeros((2, 2), dtype=np.uint8)).max() == 0


def test_made_once_whoever_asks(write_lesions, decoded, cache):
    folder = write_lesions()
    told = []
    prepare(str(folder), tell=lambda *numbers: told.append(numbers))
    assert told == [(done, 30) for done in range(1, 31)]
    assert len(decoded) == 30 + 10
    told.clear()
    prepare(str(folder), tell=lambda *numbers: told.append(numbers))
    few_shot_task(f"{folder}@1024:8x8", 6, 1)
    assert (told, len(decoded)) == ([], 40)
    few_shot_task(f"{folder}@64", 6, 1)
    assert len(decoded) == 80, "another side is another preparation"
    assert sorted(path.suffix for path in cache.iterdir()) == ["", "", ".lock", ".lock"]


def test_changed_pictures_are_prepared_again(write_lesions, decoded):
    folder = write_lesions()
    before = open_source(f"{folder}@32").content_hash
    with (folder / "images/00.png").open("ab") as stream:
        stream.write(b"more")
    assert open_source(f"{folder}@32").content_hash != before
    assert len(decoded) == 80


def test_a_damaged_cache_is_made_again(write_lesions, cache, decoded):
    folder = write_lesions()
    expected = np.array(open_source(f"{folder}@32").images("train"))
    (images,) = cache.glob("*/images.npy")
    images.write_bytes(images.read_bytes()[:-100])
    assert np.array_equal(open_source(f"{folder}@32").images("train"), expected)
    assert len(decoded) == 80


def test_arrays_are_mapped_from_files(write_lesions):
    source = open_source(f"{write_lesions()}@40")
    images = source.images("train")
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert source.reader.prepared.masks_NSb.shape == (30, 40, 5)
    assert few_shot_task(f"{source.reader.listed.folder}@40", 6, 0).labelled.images_NCHW.numpy().flags.writeable


def test_sharpness_does_not_tell_where_a_picture_came_from(tmp_path):
    """Large pictures of the finest checks are as flat as small ones once all were reduced."""
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for index in range(12):
        size = 64 if index < 6 else 32
        pixels = checks[:size, :size].copy() if size == 64 else np.full((32, 32), 127, dtype=np.uint8)
        pixels[:8, :8] = 20 * index
        for place, array in (("images", pixels), ("masks", np.uint8(pixels * 0 + 255 * (size == 64)))):
            (tmp_path / "mixed" / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / f"mixed/{place}/{index}.png")
    images = open_source(f"{tmp_path / 'mixed'}@64").images("train").astype(int)
    assert abs(np.diff(images[:, 0, 40:, 40:])).max() <= 10


def test_what_was_reduced_is_compressed_as_the_smallest_is(tmp_path):
    """A coarse JPEG keeps none of the faint noise of a PNG."""
    rng = np.random.default_rng(0)
    for place in ("images", "masks"):
        (tmp_path / "mixed" / place).mkdir(parents=True)
    for index in range(12):
        size, suffix = (64, "png") if index < 6 else (32, "jpg")
        noise = Image.fromarray(rng.integers(100, 140, (size, size), dtype=np.uint8))
        noise.save(tmp_path / f"mixed/images/{index}.{suffix}", **({"quality": 5} if suffix == "jpg" else {}))
        if index < 6:
            Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(tmp_path / f"mixed/masks/{index}.png")
    images = open_source(f"{tmp_path / 'mixed'}@32").images("train")[:, 0].astype(int)
    blocks = images.reshape(-1, 4, 8, 4, 8)
    assert np.ptp(blocks, axis=(2, 4)).mean() < 12


def test_of_pictures_of_one_size_none_is_changed(write_lesions):
    folder = write_lesions(size=(40, 40))
    source = open_source(str(folder))
    for picture, place in zip(source.images("train"), source.reader.prepared.places, strict=False):
        with Image.open(folder / place) as original:
            assert np.array_equal(picture, brightened(np.asarray(original).transpose(2, 0, 1)))


def test_channels_follow_the_pictures(write_lesions):
    folder = write_lesions()
    assert open_source(f"{folder}@32").channels == 3
    for path in (folder / "images").iterdir():
        Image.open(path).convert("L").save(path)
    assert open_source(f"{folder}@32").channels == 1
    assert few_shot_task(f"{folder}@32:2x2", 6, 0).labelled.images_NCHW.shape == (24, 1, 16, 16)


def test_a_picture_under_two_names_counts_once(write_lesions):
    folder = write_lesions()
    for copy, original in (("97", "00"), ("98", "01"), ("99", "02")):
        (folder / f"images/{copy}.png").write_bytes((folder / f"images/{original}.png").read_bytes())
    Image.fromarray(np.full((32, 40), 255, dtype=np.uint8)).save(folder / "masks/99.png")
    source = open_source(f"{folder}@32")
    assert source.reader.prepared.left_out == {
        "images/97.png": "images/00.png",
        "images/98.png": "images/01.png",
        "images/02.png": "images/99.png",
    }
    assert sum(source.class_counts(split)[1] for split in source.splits) == 11


def test_an_unreadable_picture_is_named_and_nothing_is_kept(write_lesions, cache):
    folder = write_lesions()
    path = folder / "images/07.png"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"images/07\.png cannot be read as a picture"):
        open_source(f"{folder}@32")
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_mask_of_another_size_is_told_with_both_sizes(write_lesions):
    folder = write_lesions()
    Image.fromarray(np.zeros((32, 41), dtype=np.uint8)).save(folder / "masks/a/00.png")
    with pytest.raises(DataError, match=r"mask .*a/00\.png is 41x32 pixels, but its picture .*images/00\.png is 40x32"):
        open_source(f"{folder}@32")


@pytest.mark.parametrize(
    ("marked", "missing"), [(0, "lesion picture, that is one with a"), (30, "healthy picture, that is")]
)
def test_both_classes_must_be_there(write_lesions, marked, missing):
    folder = write_lesions()
    for index in range(30):
        for path in folder.glob(f"masks/*/{index:02}.png"):
            path.unlink()
        if index < marked:
            Image.fromarray(np.full((32, 40), 9, dtype=np.uint8)).save(folder / f"masks/{index:02}.png")
    with pytest.raises(DataError, match=f"holds no {missing}"):
        open_source(f"{folder}@32")


def test_lossy_and_coloured_masks(write_lesions):
    folder = write_lesions()
    smooth = np.zeros((32, 40), dtype=np.uint8)
    smooth[:16] = 255
    Image.fromarray(smooth).save(folder / "masks/01.jpg", quality=30)
    red = np.zeros((32, 40, 4), dtype=np.uint8)
    red[:16, :, 0] = red[:, :, 3] = 255
    Image.fromarray(red).save(folder / "masks/02.png")
    source = open_source(f"{folder}@32")
    places = source.reader.prepared.places
    for name in ("01", "02"):
        row = places.index(f"images/{name}.png")
        split, first = (
            ("train", 0) if row < source.reader.prepared.num_train else ("test", source.reader.prepared.num_train)
        )
        mask = source.masks(split, np.array([row - first]))[0]
        assert mask[:16].all()
        assert not mask[16:].any()


def test_two_at_once_prepare_once(write_lesions, decoded):
    folder = write_lesions()
    threads = [threading.Thread(target=prepare, args=(f"{folder}@32",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 40


def test_labels_masks_and_patches_agree(write_lesions):
    folder = write_lesions()
    source = open_source(f"{folder}@64")
    for split in source.splits:
        masks = source.masks(split, np.arange(len(source.labels(split))))
        assert masks.any(axis=(1, 2)).astype(int).tolist() == source.labels(split).tolist()
        assert masks.sum() >= source.class_counts(split)[1]
    task = few_shot_task(f"{folder}@64:4x4", 8, 0)
    marked = task.validation.labels_N.reshape(-1, 4, 4).numpy()
    assert np.array_equal(task.validation.masks_IHW.reshape(-1, 4, 16, 4, 16).numpy().any((2, 4)), marked)
    assert task.labelled.masks_IHW is None
    hidden = hidden_labels(f"{folder}@64:4x4", 8, 0)
    assert len(hidden) == len(task.unlabelled_NCHW)
    assert 0 < hidden.sum() < len(hidden)


def test_the_manifest_is_plain_json(write_lesions, cache):
    source = open_source(f"{write_lesions()}@32")
    (manifest,) = cache.glob("*/manifest.json")
    facts = json.loads(manifest.read_text())["facts"]
    assert facts["num_train"] == len(source.labels("train"))
    assert sorted(facts["places"]) == [f"images/{index:02}.png" for index in range(30)]


def test_a_training_from_the_command_line_tells(write_lesions, capsys):
    arguments = ["constant", "--dataset", f"{write_lesions()}@32:2x2", "--shots", "6", "--images", "24"]
    for expected in (1, 0):
        assert main([*arguments, "--device", "cpu", "--threads", "1"]) == 0
        out = capsys.readouterr().out
        assert out.count("30/30 pictures prepared") == expected
        assert "label set 0: 24 labelled, 48 unlabelled, 24 validation patches of 2x2 a picture" in out
