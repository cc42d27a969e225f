"""Data whose labels are not all known: images of a pool are unlabelled in every draw, and nothing else."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.core.shots import ALL_SHOTS
from trainables.data.draw import draw_few_shot
from trainables.data.duplicates import contents_of
from trainables.data.readers.files import digest_of
from trainables.data.source import open_source
from trainables.data.splits import few_shot_split
from trainables.data.summary import left_out, line_of
from trainables.data.tasks import few_shot_task, hidden_labels
from trainables.training.run import runs_of_trial, with_folds
from trainables.training.train import _pseudo_accuracy
from trainables.training.trial import Trial

FEW = {"benign": 7, "malignant": 4, "unlabelled": 9}
VALIDATIONS = [(2, "realistic"), (2, "labelled-cv"), (ALL_SHOTS, "labelled-cv")]


def images_of(folder, *places):
    return [np.asarray(Image.open(path))[None] for place in places for path in sorted((folder / place).glob("*"))]


def rows(images_NCHW):
    return sorted(np.asarray(image_CHW).tobytes() for image_CHW in images_NCHW)


@pytest.fixture
def folder(write_pictures):
    return write_pictures(FEW)


def split_counts(source):
    return {split: source.check_images(split) for split in source.splits}


def test_a_pool_is_no_class_and_nothing_is_taken_away_for_a_test(folder):
    source = open_source(str(folder))
    assert source.class_names == ("benign", "malignant")
    assert split_counts(source) == {"train": 20}
    assert source.class_counts("train") == (7, 4)
    assert (source.labels("train") == -1).sum() == 9


@pytest.mark.parametrize("pool", ["train/unlabelled", "unlabelled", "train/unlabeled"])
def test_a_pool_lies_beside_the_classes_of_train_or_beside_train(write_pictures, pool):
    source = open_source(str(write_pictures({"train/a": 3, "train/b": 2, "test/a": 1, "test/b": 1, pool: 4})))
    assert split_counts(source) == {"train": 9, "test": 2}
    assert source.class_counts("train") == (3, 2)


@pytest.mark.parametrize("place", ["val/unlabelled", "test/unlabelled"])
def test_an_image_without_a_label_neither_validates_nor_tests(write_pictures, place):
    folder = write_pictures({"train/a": 3, "train/b": 2, place: 1})
    with pytest.raises(DataError, match="is of no class in train"):
        open_source(str(folder))


def test_pictures_further_below_a_pool_are_passed_over_and_told(write_pictures):
    source = open_source(str(write_pictures({"train/a": 3, "train/b": 2, "unlabelled": 2, "unlabelled/old": 1})))
    assert split_counts(source) == {"train": 7}
    assert any("not looked into" in note and "unlabelled/old/000.png" in note for note in source.reader.notes)


def test_folders_with_a_pool_are_other_data_than_the_same_with_a_third_class(folder, write_pictures):
    renamed = write_pictures({"benign": 7, "malignant": 4, "unknown": 9}, name="three")
    assert open_source(str(renamed)).num_classes == 3
    reader = open_source(str(folder)).reader
    assert reader.digest() != digest_of(reader.folder, reader.files)


@pytest.mark.parametrize(("shots", "validation"), VALIDATIONS)
def test_the_pool_is_unlabelled_in_every_draw(folder, shots, validation):
    task = few_shot_task(str(folder), shots, 0, validation)
    unlabelled = rows(task.unlabelled_NCHW)
    assert set(rows(images_of(folder, "unlabelled"))) <= set(unlabelled)
    assert task.num_classes == 2
    for part in (task.labelled, task.validation):
        assert set(part.labels_N.tolist()) == {0, 1}
        assert set(rows(part.images_NCHW)) <= set(rows(images_of(folder, "benign", "malignant")))
    assert len(task.labelled) + len(task.validation) + len(unlabelled) == 20


def test_hidden_labels_of_the_pool_are_unknown(folder):
    task = few_shot_task(str(folder), 2, 0)
    known = hidden_labels(str(folder), 2, 0).numpy() >= 0
    assert known.sum() == 3  # seven benign, of which two teach and two validate
    pool = set(rows(images_of(folder, "unlabelled")))
    assert [image.numpy().tobytes() not in pool for image in task.unlabelled_NCHW] == known.tolist()


def test_all_shots_hide_no_label(folder):
    drawn = [draw_few_shot(str(folder), ALL_SHOTS, 0, "labelled-cv", fold=fold) for fold in range(4)]
    labels_N = drawn[0].source.labels("train")
    for _, split in drawn:
        assert np.array_equal(split.unlabelled_indices, np.flatnonzero(labels_N == -1))
        taught = np.concatenate([split.labelled_indices, split.validation_indices])
        assert sorted(taught) == np.flatnonzero(labels_N >= 0).tolist()
        assert split.label_budget == 11
        assert np.bincount(labels_N[split.validation_indices]).min() >= 1
    held_out = np.concatenate([split.validation_indices for _, split in drawn])
    assert set(held_out) == set(np.flatnonzero(labels_N >= 0))
    assert len(held_out) == 11, "every image validates once"
    assert {split.num_folds for _, split in drawn} == {4}, "as many as the rarer class has images"


def test_official_validation_of_all_shots(write_pictures):
    folder = write_pictures({"train/a": 3, "train/b": 1, "val/a": 1, "val/b": 2, "unlabelled": 4})
    task = few_shot_task(str(folder), ALL_SHOTS, 0, "official")
    assert (task.labelled.labels_N.tolist(), len(task.unlabelled_NCHW)) == ([0, 0, 0, 1], 4)
    assert task.provenance.label_budget == 4 + 3


@pytest.mark.parametrize(
    ("counts", "validation", "message"),
    [
        ([1, 4], "labelled-cv", "class 0 has 1 labelled training images; expected at least 2 .*label one more, merge"),
        ([0, 4], "official", "class 0 has 0 labelled training images; expected at least 1"),
        ([4, 4], "realistic", "needs labelled images beside all: choose labelled-cv or official"),
    ],
)
def test_all_shots_need_images_of_every_class(counts, validation, message):
    labels_N = np.repeat([0, 1, -1], [*counts, 5])
    with pytest.raises(DataError, match=message):
        few_shot_split(
            labels_N, num_classes=2, shots=ALL_SHOTS, label_set=0, content_hash="a", validation=validation,
            num_validation=4,
        )  # fmt: skip


def test_a_pool_draws_nothing_else(write_npz, made):
    """Numbers of shots draw from the labelled images alone, whatever lies between them."""
    labels_N = made["train_labels"].astype(np.int64)[:, 0]
    with_pool = np.insert(labels_N, [3, 20], -1)
    kept = np.flatnonzero(with_pool >= 0)
    request = {"num_classes": 3, "shots": 2, "label_set": 1, "content_hash": "a", "validation": "realistic"}
    plain, pooled = few_shot_split(labels_N, **request), few_shot_split(with_pool, **request)
    assert np.array_equal(kept[plain.labelled_indices], pooled.labelled_indices)
    assert np.array_equal(kept[plain.validation_indices], pooled.validation_indices)


def test_npz_labels_of_minus_one_are_the_pool(write_npz, made):
    labels_N = made["train_labels"].astype(np.int64)
    labels_N[:5] = -1
    source = open_source(str(write_npz(train_labels=labels_N)))
    assert source.num_classes == 3
    assert np.array_equal(source.labels("train"), labels_N[:, 0])
    _, split = draw_few_shot(str(source.reader.path), ALL_SHOTS, 0, "labelled-cv")
    assert split.unlabelled_indices.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("key", ["unlabelled_images", "train_unlabelled"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_images_of_their_own_array_are_the_pool(write_npz, made, key, order):
    pool_NHW = np.random.default_rng(1).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    source = open_source(str(write_npz(**{key: np.asarray(pool_NHW, order=order)})))
    assert source.check_images("train") == 36 + 4
    assert source.labels("train")[36:].tolist() == [-1] * 4
    images_NCHW = source.images("train")
    assert np.array_equal(images_NCHW[36:, 0], pool_NHW)
    assert np.array_equal(images_NCHW[:36, 0], made["train_images"])
    contents = list(source.reader.contents("train"))
    assert contents == [image_CHW.tobytes() for image_CHW in images_NCHW]
    assert source.check_images("val") == 9


def test_npz_pool_of_another_form_is_refused(write_npz):
    path = write_npz(unlabelled_images=np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(DataError, match=r"unlabelled_images of .* are 1x9x9; expected 1x8x8 as train_images"):
        open_source(str(path))


@pytest.mark.parametrize(("split", "label"), [("val", -1), ("test", -1), ("train", -2)])
def test_npz_other_negative_labels_are_refused(write_npz, made, split, label):
    labels_N = made[f"{split}_labels"].astype(np.int64)
    labels_N[0] = label
    source = open_source(str(write_npz(**{f"{split}_labels": labels_N})))
    with pytest.raises(DataError, match=f"labels of {split} run from {label} to 2; expected 0..2"):
        source.labels(split)


def test_a_copy_in_the_pool_takes_no_label_away(folder):
    (folder / "unlabelled/copy.png").write_bytes((folder / "benign/000.png").read_bytes())
    (folder / "unlabelled/again.png").write_bytes((folder / "unlabelled/000.png").read_bytes())
    source, split = draw_few_shot(str(folder), ALL_SHOTS, 0, "labelled-cv")
    assert split.label_budget == 11
    assert len(split.unlabelled_indices) == 9
    assert left_out("scans", source.reader) == ("2 of train left out as the same pixels are there before",)
    assert len(set(contents_of(source.reader, "train"))) == 20


def test_the_first_line_tells_labelled_from_unlabelled(folder):
    source = open_source(str(folder))
    assert line_of("scans", source.reader, source.class_names, ()) == (
        "dataset 'scans': 11 train and 9 unlabelled pictures read (2 classes, 1x10x10)"
    )


def scores_of(folder):
    """What `pixels` learns of all labels, fold by fold."""
    trial = Trial.from_dict({"method": "pixels", "dataset": str(folder), "shots": "all", "images": 40})
    assert trial.conditions.validation == "labelled-cv"
    for run in runs_of_trial(with_folds(trial, None)):
        task = run.task(None)
        *_, last = run.train(task, hidden_labels_M=run.hidden_labels(None))
        yield {name: scores.values for name, scores in last.scores.items()}, task.provenance


def test_the_order_in_which_files_are_written_changes_no_number(folder, tmp_path):
    other = tmp_path / "moved" / "scans"
    for path in sorted(folder.glob("*/*"), reverse=True):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        (other / path.parent.name / path.name).write_bytes(path.read_bytes())
    one, two = list(scores_of(folder)), list(scores_of(other))
    assert one == two
    assert len({provenance.label_set_hash for _, provenance in one}) == 4


def test_label_sets_of_all_shots_are_other_folds(folder):
    hashes = [draw_few_shot(str(folder), ALL_SHOTS, n, "labelled-cv").split.label_set_hash for n in range(3)]
    assert all(one != two for one, two in pairwise(hashes))


def test_pseudo_labels_of_the_pool_are_neither_right_nor_wrong():
    given_M, hidden_M = torch.tensor([0, 1, 1, -1]), torch.tensor([0, -1, 0, 1])
    assert _pseudo_accuracy(given_M, hidden_M) == {"pseudo_accuracy": 0.5}
    assert _pseudo_accuracy(given_M, torch.full((4,), -1)) == {}
