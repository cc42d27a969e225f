"""Datasets to learn masks from: what a task holds, and what stays sealed."""

import numpy as np
import pytest
import torch
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError
from trainables.data import tasks
from trainables.data.description import describe, kinds_of
from trainables.data.draw import draw_few_shot
from trainables.data.readers.mask_reader import MaskReader
from trainables.data.readers.shapes import shapes
from trainables.data.source import open_source, prepare
from trainables.data.summary import line_of
from trainables.data.tasks import few_shot_task, hidden_labels

KIND = "segmentation"


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures of 40 px with masks."""
    images, masks = shapes(20, 40, seed=5)
    for part, arrays in (("images", images), ("masks", masks * 255)):
        (tmp_path / "own" / part).mkdir(parents=True)
        for index, pixels in enumerate(arrays):
            Image.fromarray(pixels).save(tmp_path / "own" / part / f"{index:02}.png")
    return tmp_path / "own"


def keys(images):
    return [image.tobytes() for image in images.numpy()]


@pytest.mark.parametrize(
    ("validation", "counts"), [("realistic", (6, 6)), ("official", (6, 60)), ("labelled-cv", (4, 2))]
)
def test_a_task_of_shapes(validation, counts):
    task = few_shot_task("shapes@32", 6, 0, validation, kind=KIND)
    assert (task.kind, task.num_classes, task.channels, task.dataset) == (KIND, 2, 3, "shapes@32")
    assert (len(task.labelled), len(task.validation)) == counts
    images, masks = shapes(240, 32, seed=0)
    mask_of = {image.transpose(2, 0, 1).tobytes(): mask for image, mask in zip(images, masks, strict=True)}
    for part in (task.labelled, task.validation):
        assert part.masks_IHW.dtype == torch.bool
        assert not part.labels_N.any()
        for key, mask_HW in zip(keys(part.images_NCHW), part.masks_IHW.numpy(), strict=True):
            assert np.array_equal(mask_of[key], mask_HW)
    drawn = [keys(each) for each in (task.labelled.images_NCHW, task.validation.images_NCHW, task.unlabelled_NCHW)]
    assert len({key for part in drawn for key in part}) == sum(map(len, drawn)), "no picture plays two parts"
    told = task.provenance
    assert (told.shots, told.shots_in_all, told.patch_labels) == (6, True, "")
    assert told.label_budget == {"realistic": 12, "official": 66, "labelled-cv": 6}[validation]


def test_the_test_set_is_none_of_the_others():
    unseen = tasks.test_set("shapes@32", kind=KIND)
    assert len(unseen) == len(unseen.masks_IHW) == 100
    task = few_shot_task("shapes@32", 6, 0, "official", kind=KIND)
    seen = {*keys(task.labelled.images_NCHW), *keys(task.validation.images_NCHW), *keys(task.unlabelled_NCHW)}
    assert not seen & set(keys(unseen.images_NCHW))


def test_few_lie_inside_many_and_label_sets_differ():
    few, many, other = (few_shot_task("shapes@32", *asked, kind=KIND) for asked in ((5, 0), (20, 0), (5, 1)))
    assert set(keys(few.labelled.images_NCHW)) <= set(keys(many.labelled.images_NCHW))
    assert few.provenance.label_set_hash != other.provenance.label_set_hash


def test_no_diagnosis_looks_at_hidden_masks():
    assert hidden_labels("shapes@32", 6, 0, kind=KIND) is None


def test_an_own_folder(folder):
    told = []
    prepare(str(folder), None, lambda *numbers: told.append(numbers), KIND)
    assert told[-1] == (16, 16), "the test part is not prepared"
    source = open_source(f"{folder}@40", kind=KIND)
    assert (source.name, source.kind, source.side, source.class_names) == ("own@40", KIND, 40, ("foreground",))
    assert [source.check_images(split) for split in source.splits] == [16, 4]
    images, masks = shapes(20, 40, seed=5)
    mask_of = {image.transpose(2, 0, 1).tobytes(): mask for image, mask in zip(images, masks, strict=True)}
    for split in source.splits:
        chosen = np.arange(len(source.images(split)))
        for image, mask_HW in zip(source.images(split), source.masks(split, chosen), strict=True):
            assert np.array_equal(mask_of[image.tobytes()], mask_HW)
    assert few_shot_task(f"{folder}@40", 4, 0, kind=KIND).labelled.images_NCHW.shape == (4, 3, 40, 40)


def test_optic_discs_are_sealed(write_idrid):
    """Masks of test pictures that cannot be read trouble nobody but who evaluates."""
    root = write_idrid()
    sealed = sorted(root.glob("idrid/segmentation/test/masks/OD/*"))
    for path in sealed:
        path.write_bytes(b"sealed")
    task = few_shot_task("idrid-disc@32", 4, 0, root=root, kind=KIND)
    assert (len(task.labelled), len(task.unlabelled_NCHW)) == (4, 10 - 2 - 4)
    assert task.provenance.content_hash == open_source("idrid-disc@64", root, kind=KIND).content_hash
    with pytest.raises(DataError, match=sealed[0].name):
        tasks.test_set("idrid-disc@32", root, KIND)


@pytest.mark.parametrize("validation", ["realistic", "labelled-cv", "official"])
def test_a_task_never_touches_the_test_split(monkeypatch, validation):
    read = MaskReader.masks

    def guarded(self, split, chosen):
        assert split != "test", "the test masks were opened"
        return read(self, split, chosen)

    monkeypatch.setattr(MaskReader, "masks", guarded)
    few_shot_task("shapes@16", 6, 0, validation, kind=KIND)
    with pytest.raises(AssertionError):
        tasks.test_set("shapes@16", kind=KIND)


@pytest.mark.parametrize(
    ("dataset", "kind", "words"),
    [
        ("digits", KIND, "'digits' has no masks of pictures, which segmentation needs; use one of idrid-disc, shapes"),
        ("shapes", "classification", "'shapes' has no classes of images, which classification needs; use one of path"),
        ("shapes:2x2", KIND, "segmentation takes whole pictures; leave out :2x2"),
        (".", KIND, "has no masks, which segmentation needs: expected labels.csv with the columns path and mask, or"),
    ],
)
def test_what_a_dataset_does_not_have(dataset, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words) as caught:
        few_shot_task(dataset, 5, 0, kind=kind)
    assert "\n" not in str(caught.value)


def test_too_many_shots():
    with pytest.raises(DataError, match=r"counts labelled pictures in all and has 180 to train on: expected 1\.\.180"):
        few_shot_task("shapes@16", 181, 0, kind=KIND)


@pytest.fixture
def few(folder):
    """Seven of the twenty pictures have masks."""
    for index in range(20):
        if index % 3:
            (folder / f"masks/{index:02}.png").unlink()
    return folder


def test_pictures_without_a_mask_are_the_pool_and_nothing_is_kept_for_a_test(few):
    source = open_source(f"{few}@40", kind=KIND)
    assert (source.splits, source.check_images("train")) == (("train",), 20)
    assert source.labels("train").tolist() == [0] * 7 + [-1] * 13
    assert source.reader.notes == ("13 pictures without a mask are of the pool, not empty",)
    assert line_of("own", source.reader, source.class_names, ()) == (
        "dataset 'own': 7 train and 13 unlabelled pictures read (masks of foreground, 3x40x40)"
    )


def test_a_folder_of_its_own_is_the_pool_as_well(few):
    (few / "unlabelled").mkdir()
    for path in sorted(few.glob("images/*"))[1:3]:
        path.rename(few / "unlabelled" / path.name)
    source = open_source(f"{few}@40", kind=KIND)
    assert source.labels("train").tolist() == [0] * 7 + [-1] * 13


@pytest.mark.parametrize(
    ("shots", "validation"), [(4, "realistic"), (4, "official"), (4, "labelled-cv"), (0, "labelled-cv")]
)
def test_the_pool_has_no_masks_to_learn_from(few, shots, validation):
    images, masks = shapes(20, 40, seed=5)
    mask_of = {image.transpose(2, 0, 1).tobytes(): mask for image, mask in zip(images[::3], masks[::3], strict=True)}
    pool = {image.transpose(2, 0, 1).tobytes() for index, image in enumerate(images) if index % 3}
    task = few_shot_task(f"{few}@40", shots, 0, validation, kind=KIND)
    assert pool <= set(keys(task.unlabelled_NCHW))
    for part in (task.labelled, task.validation):
        for image, mask_HW in zip(keys(part.images_NCHW), part.masks_IHW.numpy(), strict=True):
            assert np.array_equal(mask_of[image], mask_HW)


def test_all_masks_are_learned_and_each_validates_once(few):
    drawn = [draw_few_shot(f"{few}@40", 0, 0, "labelled-cv", fold=fold, kind=KIND).split for fold in range(5)]
    assert {split.num_folds for split in drawn} == {5}
    assert sorted(np.concatenate([split.validation_indices for split in drawn])) == list(range(7))
    for split in drawn:
        assert sorted([*split.labelled_indices, *split.validation_indices]) == list(range(7))
        assert split.unlabelled_indices.tolist() == list(range(7, 20))


def test_a_copy_in_the_pool_takes_no_mask_away(few):
    (few / "images/99.png").write_bytes((few / "images/00.png").read_bytes())
    split = draw_few_shot(f"{few}@40", 0, 0, "labelled-cv", kind=KIND).split
    assert (split.label_budget, len(split.unlabelled_indices)) == (7, 13)


def test_both_kinds_of_a_folder_with_masks_are_described(few):
    assert kinds_of(str(few)) == ("classification", KIND)
    found = describe(f"{few}@40", kind=KIND)
    assert (found.sizes, found.num_unlabelled, found.num_folds) == ({"train": 7}, 13, 5)
