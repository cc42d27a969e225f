"""Tables that name masks: pixels, pool, patients, and what is refused."""

import random
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError
from trainables.core.shots import ALL_SHOTS
from trainables.data import tasks
from trainables.data.description import describe, kinds_of
from trainables.data.draw import draw_few_shot
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task, final_task

SEGMENTATION = {"kind": "segmentation"}
MARKED, IN_TABLE = 16, 18
"""Pictures with a mask, and those that the table names: two patients have a picture more, of the pool."""


def patient_of(number):
    return f"p{number % 6}" if number < IN_TABLE else ""


@pytest.fixture
def write(write_masks):
    """Write 20 pictures and a table of them, a row for each of `rows`: path, mask, patient."""

    def write(rows=None, columns="path,mask,patient", name="labels.csv"):
        folder = write_masks(20)
        usual = [f"images/{n:02}.png,{f'masks/{n:02}.png' * (n < MARKED)},{patient_of(n)}" for n in range(IN_TABLE)]
        (folder / name).write_text("\n".join([columns, *(usual if rows is None else rows)]))
        return folder

    return write


def patients(source, indices):
    return {int(group) for group in source.groups("train")[indices]}


@pytest.mark.parametrize("name", ["", "labels.csv"])
def test_pictures_and_masks_are_those_that_it_names(write, name):
    folder = write()
    source = open_source(f"{folder / name}@40", **SEGMENTATION)
    assert (source.name, source.kind, source.class_names) == ("masked@40", "segmentation", ("foreground",))
    assert (source.splits, source.check_images("train")) == (("train",), 20)
    assert source.labels("train").tolist() == [0] * MARKED + [-1] * 4
    for number in (0, 7, 15):
        stored = np.asarray(Image.open(folder / f"images/{number:02}.png"))
        assert np.array_equal(source.images("train")[number], stored.transpose(2, 0, 1))
        marked = np.asarray(Image.open(folder / f"masks/{number:02}.png")) > 0
        assert np.array_equal(source.masks("train", np.array([number]))[0], marked)
    assert "2 pictures that labels.csv does not name are of the pool" in source.reader.notes


def test_what_is_there_is_described(write):
    found = describe(f"{write()}@40", **SEGMENTATION)
    assert (found.kind, found.sizes, found.num_unlabelled, found.class_counts) == ("segmentation", {"train": 16}, 4, {})
    assert (found.group_counts, found.num_folds) == ({"train": 6}, 5)


@pytest.mark.parametrize(
    ("shots", "validation", "folds"),
    [(ALL_SHOTS, "labelled-cv", 5), (8, "labelled-cv", 3), (5, "realistic", 1), (5, "official", 1)],
)
def test_no_patient_is_on_both_sides(write, shots, validation, folds):
    folder = f"{write()}@40"
    for label_set in range(3):
        held_out = []
        for fold in range(folds):
            asked = (folder, shots, label_set, validation, None, fold, "segmentation", max(folds, 2))
            source, split = draw_few_shot(*asked)
            taught = np.union1d(split.labelled_indices, split.unlabelled_indices)
            assert not patients(source, taught) & patients(source, split.validation_indices)
            assert max(*split.labelled_indices, *split.validation_indices) < MARKED
            assert not set(split.labelled_indices) & set(split.unlabelled_indices)
            held_out.append(set(split.validation_indices.tolist()))
        assert not any(one & two for one, two in combinations(held_out, 2))
        if shots == ALL_SHOTS:
            assert sorted(set.union(*held_out)) == list(range(MARKED))


def test_a_patient_who_is_held_out_leaves_the_pool_meanwhile(write):
    folder = f"{write()}@40"
    pools = [
        draw_few_shot(folder, ALL_SHOTS, 0, "labelled-cv", None, fold, "segmentation").split.unlabelled_indices
        for fold in range(5)
    ]
    assert sorted(sum(number in pool for pool in pools) for number in range(MARKED, 20)) == [4, 4, 5, 5]


@pytest.mark.parametrize("shots", [8, ALL_SHOTS])
def test_a_model_for_use_has_the_whole_pool(write, shots):
    folder = f"{write()}@40"
    task = final_task(folder, shots, 0, "labelled-cv", kind="segmentation", folds=3)
    assert len(task.labelled) == (shots or MARKED)
    folds = [draw_few_shot(folder, shots, 0, "labelled-cv", None, fold, "segmentation", 3).split for fold in range(3)]
    assert len(task.unlabelled_NCHW) == len(set.union(*(set(fold.unlabelled_indices) for fold in folds)))


def test_masks_and_patients_reach_the_task(write):
    task = few_shot_task(f"{write()}@40", ALL_SHOTS, 0, "labelled-cv", kind="segmentation")
    assert task.labelled.masks_IHW.any((1, 2)).all()
    assert not set(task.labelled.groups_I.tolist()) & set(task.validation.groups_I.tolist())


def test_whole_patients_are_kept_for_the_test(write):
    rows = [f"images/{n:02}.png,masks/{n:02}.png,p{n // 2}" for n in range(20)]
    source = open_source(f"{write(rows)}@40", **SEGMENTATION)
    assert {split: source.check_images(split) for split in source.splits} == {"train": 16, "test": 4}
    assert not set(source.groups("train")) & set(source.groups("test"))
    assert tasks.test_set(f"{write(rows)}@40", **SEGMENTATION).masks_IHW.shape == (4, 40, 40)


def test_splits_are_taken_as_they_are_said(write):
    rows = [f"images/{n:02}.png,{f'masks/{n:02}.png' * (n != 1)},{'test' * (n > 5)}" for n in range(9)]
    source = open_source(f"{write(rows, 'path,mask,split')}@40", **SEGMENTATION)
    assert {split: source.check_images(split) for split in source.splits} == {"train": 6, "test": 3}
    assert source.labels("train").tolist() == [0] * 5 + [-1]
    assert source.groups("train") is None


def test_masks_that_it_does_not_name_are_no_pictures(write):
    folder = write()
    (folder / "masks").rename(folder / "drawn")
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace("masks/", "drawn/"))
    source = open_source(f"{folder}@40", **SEGMENTATION)
    assert source.labels("train").tolist() == [0] * MARKED + [-1] * 4
    assert "4 pictures in folders that are not looked into passed over (drawn/16.png, drawn/17.png, …)" in (
        source.reader.notes
    )


def test_the_order_of_rows_changes_no_number_and_masks_are_content(write):
    folder = write()
    before = open_source(f"{folder}@40", **SEGMENTATION)
    header, *lines = (folder / "labels.csv").read_text().splitlines()
    random.Random(1).shuffle(lines)
    (folder / "labels.csv").write_text("\n".join([header, *lines]))
    after = open_source(f"{folder}@40", **SEGMENTATION)
    assert after.content_hash == before.content_hash
    assert np.array_equal(after.images("train"), before.images("train"))
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(folder / "masks/03.png")
    assert open_source(f"{folder}@40", **SEGMENTATION).content_hash != before.content_hash
    exchanged = "\n".join([header, *lines]).replace("/04.png,p", "/x.png,p").replace("masks/05", "masks/04")
    (folder / "labels.csv").write_text(exchanged.replace("masks/x", "masks/05"))
    assert open_source(f"{folder}@40", **SEGMENTATION).content_hash != before.content_hash


FIRST = "images/00.png,masks/00.png,p1"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([FIRST, "images/01.png,masks/x.png,"], r"names 1 masks that are not there, the first of them masks/x\.png"),
        ([FIRST, "images/01.png,masks/t.txt,"], r"names masks/t\.txt; expected a mask \(\.bmp"),
        ([FIRST, "images/01.png,masks/wide.png,"], r"mask .*wide\.png is 50x40 pixels, but its picture .* is 40x40"),
        ([FIRST, "images/01.png,images/00.png,"], r"names images/00\.png as a picture and as a mask"),
        ([FIRST, "images/01.png,../masks/01.png,"], r"row 3: \.\./masks/01\.png leads out of the table's folder"),
        (["images/00.png,,", "images/01.png,,"], "names no mask; expected some pictures with one"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_used_are_refused(write, rows, message):
    folder = write(rows)
    (folder / "masks/t.txt").touch()
    Image.fromarray(np.full((40, 50), 255, np.uint8)).save(folder / "masks/wide.png")
    with pytest.raises(DataError, match=message):
        open_source(f"{folder}@40", **SEGMENTATION)


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ("images/00.png,masks/00.png,val", "path,mask,split", "has pictures of val, but what validates is drawn"),
        ("images/00.png,masks/00.png,test", "path,mask,split", "has no mask in train; expected some: add or move"),
        ("images/00.png,,test", "path,mask,split", "an image of test needs a mask; add it"),
        ("images/00.png,masks/00.png,ill", "path,mask,label", "has labels beside masks, so that a picture without"),
    ],
)
def test_tables_that_say_something_else_are_refused(write, row, columns, message):
    rows = [row, "images/02.png,masks/02.png,calm"] if "label" in columns else [row]
    with pytest.raises(DataError, match=message):
        open_source(f"{write(rows, columns)}@40", **SEGMENTATION)


def test_a_table_of_masks_has_no_classes(write):
    table = write(name="forty.csv") / "forty.csv"
    assert kinds_of(str(table)) == ("segmentation",)
    with pytest.raises(ConfigError, match=r"forty\.csv has no classes, which classification needs: expected a \.npz"):
        open_source(str(table))


def test_too_few_patients_are_refused(write):
    with pytest.raises(DataError, match=r"of class 0 \('foreground'\) are of \d groups?; expected at least 5 with"):
        draw_few_shot(f"{write()}@40", 5, 0, "labelled-cv", kind="segmentation")
