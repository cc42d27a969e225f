"""Data sets that a table describes: labels, pool, patients, splits."""

import random

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError
from trainables.core.shots import ALL_SHOTS
from trainables.data.draw import draw_few_shot
from trainables.data.source import open_source
from trainables.data.summary import line_of
from trainables.data.tasks import few_shot_task, final_task

PATIENTS = {f"{name}/{n}.png": (name, f"{name[0]}{n // 2}") for name in ("benign", "ill") for n in range(8)}
POOL = {f"more/{n}.png": ("", "b1" if n < 2 else "") for n in range(5)}
COLUMNS = ("label", "patient")


def pixels(folder, place):
    return np.asarray(Image.open(folder / place))[None]


def places_of(folder, images_NCHW, places):
    """Places of images by their pixels."""
    known = {pixels(folder, place).tobytes(): place for place in places}
    return {known[np.ascontiguousarray(image_CHW).tobytes()] for image_CHW in images_NCHW.numpy()}


def sizes_of(source):
    return {split: source.check_images(split) for split in source.splits}


@pytest.fixture
def folder(write_table):
    return write_table({**PATIENTS, **POOL}, columns=COLUMNS)


@pytest.mark.parametrize("name", ["", "labels.csv"])
def test_a_table_is_named_or_found(folder, name):
    source = open_source(str(folder / name))
    assert (source.name, source.class_names, sizes_of(source)) == ("scans", ("benign", "ill"), {"train": 21})
    assert source.class_counts("train") == (8, 8)
    assert len(set(source.groups("train")[:16])) == 8
    assert np.array_equal(source.images("train")[0], pixels(folder, "benign/0.png"))


def test_what_was_read_is_said(folder):
    source = open_source(str(folder))
    assert line_of("scans", source.reader, source.class_names, source.reader.notes) == (
        "dataset 'scans': 16 train and 5 unlabelled pictures read (2 classes, 1x10x10)"
    )


def test_pictures_that_it_does_not_name_are_of_the_pool(write_table):
    unnamed = ("d.png", "deep/e.png", "masks/x.png", "benign/0_mask.png")
    folder = write_table(PATIENTS, columns=COLUMNS, unnamed=unnamed)
    source = open_source(str(folder))
    assert (source.labels("train") == -1).sum() == 2
    assert source.reader.notes[0] == "2 pictures that labels.csv does not name are of the pool"


def test_with_splits_pictures_that_it_does_not_name_are_passed_over(write_table):
    rows = {f"{n}.png": ("xy"[n % 2], split) for n, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2)}
    source = open_source(str(write_table(rows, columns=("label", "split"), unnamed=("other.png",))))
    assert sizes_of(source) == {"train": 4, "val": 2, "test": 2}
    assert source.reader.notes[0] == "1 pictures that labels.csv does not name passed over, as it says splits"


def test_all_that_is_labelled_is_shared_out_by_patients(write_table):
    rows = {f"{n}.png": ("xy"[n % 2], f"p{n // 4}") for n in range(80)}
    source = open_source(str(write_table(rows, columns=COLUMNS)))
    assert sizes_of(source) == {"train": 56, "val": 8, "test": 16}
    groups = [set(source.groups(split)) for split in ("train", "val", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_the_order_of_rows_changes_no_number(folder):
    before = open_source(str(folder))
    header, *lines = (folder / "labels.csv").read_text().splitlines()
    random.Random(1).shuffle(lines)
    (folder / "labels.csv").write_text("\n".join([header, *lines]))
    after = open_source(str(folder))
    assert after.content_hash == before.content_hash
    assert np.array_equal(after.images("train"), before.images("train"))
    assert np.array_equal(after.groups("train"), before.groups("train"))


@pytest.mark.parametrize(("old", "new"), [("ill,i0", "benign,i0"), ("ill,i0", "ill,i7"), ("ill,i0", ",i0")])
def test_what_is_said_of_a_picture_is_content(folder, old, new):
    before = open_source(str(folder)).content_hash
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace(old, new, 1))
    assert open_source(str(folder)).content_hash != before


@pytest.mark.parametrize("label_set", [0, 1])
def test_nothing_of_a_held_out_patient_reaches_training(folder, label_set):
    rows = {**PATIENTS, **POOL}
    held_out = []
    for fold in range(4):
        task = few_shot_task(str(folder), ALL_SHOTS, label_set, "labelled-cv", fold=fold)
        parts = (task.labelled.images_NCHW, task.unlabelled_NCHW, task.validation.images_NCHW)
        taught, pool, validating = (places_of(folder, images_NCHW, rows) for images_NCHW in parts)
        patients = {rows[place][1] for place in validating}
        assert not patients & {rows[place][1] for place in taught | pool}
        assert all(not rows[place][0] for place in pool), "what is labelled is never in the pool"
        assert all(rows[place][0] for place in taught | validating), "nor the other way round"
        held_out += validating
    assert sorted(held_out) == sorted(PATIENTS)


def test_folds_go_by_the_rarest_class(folder):
    assert draw_few_shot(str(folder), ALL_SHOTS, 0, "labelled-cv").split.num_folds == 4


def test_a_model_for_use_is_drawn_with_as_many_folds_as_its_trial(folder):
    with pytest.raises(DataError, match="are of 4 groups; expected at least 5 with labelled-cv"):
        final_task(str(folder), 8, 0, "labelled-cv")
    task = final_task(str(folder), 8, 0, "labelled-cv", folds=4)
    assert len(task.labelled) == 16
    assert len(task.unlabelled_NCHW) == len(POOL)


def test_images_of_a_task_are_known_by_place_and_patient(folder):
    source, task = open_source(str(folder)), few_shot_task(str(folder), ALL_SHOTS, 0, "labelled-cv")
    for part in (task.labelled, task.validation):
        assert np.array_equal(part.images_NCHW, source.images("train")[part.indices_I])
        assert np.array_equal(part.groups_I, source.groups("train")[part.indices_I])
    assert not set(task.labelled.groups_I.tolist()) & set(task.validation.groups_I.tolist())


def test_a_patient_of_another_split_leaves_the_pool(write_table):
    rows = {f"{n}.png": ("xy"[n % 2], split, f"p{n}") for n, split in enumerate(["train"] * 4 + ["test"] * 2)}
    pool = {"q.png": ("", "", "p5"), "r.png": ("", "", "p1"), "s.png": ("", "", "")}
    source = open_source(str(write_table(rows | pool, columns=("label", "split", "group"))))
    assert sizes_of(source) == {"train": 6, "test": 2}
    assert "1 pictures left out of the pool as their group is in val or test" in source.reader.notes


def test_a_patient_in_two_splits_is_refused(write_table):
    rows = {"a.png": ("x", "train", "p1"), "b.png": ("y", "test", "p1"), "c.png": ("y", "train", "p2")}
    folder = write_table(rows, columns=("label", "split", "group"))
    with pytest.raises(DataError, match=r"has group 'p1' in train and in test; expected all images of a group in one"):
        open_source(str(folder))


def test_a_name_that_is_too_long_is_of_no_file(folder):
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text() + f"\n{'9' * 400}.png,ill,")
    with pytest.raises(DataError, match=r"names 1 files that are not there, the first of them 999"):
        open_source(str(folder))


def test_missing_files_are_counted(folder):
    for place in ("ill/1.png", "ill/3.png"):
        (folder / place).unlink()
    with pytest.raises(DataError, match=r"names 2 files that are not there, the first of them ill/1\.png"):
        open_source(str(folder))


def test_what_is_no_picture_is_refused(folder):
    (folder / "notes.txt").write_text("")
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text() + "\nnotes.txt,ill,")
    with pytest.raises(DataError, match=r"names notes\.txt; expected a picture \(\.bmp"):
        open_source(str(folder))


def test_a_class_without_training_images_is_refused(write_table):
    rows = {"a.png": ("x", "train"), "b.png": ("y", "train"), "c.png": ("z", "test")}
    with pytest.raises(DataError, match="has no image of class 'z' in train"):
        open_source(str(write_table(rows, columns=("label", "split"))))


def test_masks_are_not_learned_from_a_table(folder):
    with pytest.raises(ConfigError, match="has no masks"):
        open_source(str(folder / "labels.csv"), kind="segmentation")


def test_a_column_that_means_nothing_is_told(write_table):
    source = open_source(str(write_table({"a.png": ("x", "9"), "b.png": ("y", "8")}, columns=("label", "age"))))
    assert source.reader.notes == ("columns of labels.csv that mean nothing here: age",)
