"""A model in use says what its learner said."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError, ModelError
from trainables.core.grid import Grid
from trainables.data.patches import cut
from trainables.metrics.classes import score_patches
from trainables.metrics.pictures import PictureRule
from trainables.model import load_model
from trainables.model.folder import write_model
from trainables.model.saved import assembled
from trainables.testing.tasks import make_task

from .models import CARD, model_of

ROOT = Path(__file__).parents[3]
TASK = make_task()
IMAGES_NCHW = TASK.validation.images_NCHW


def test_it_predicts_what_its_learner_predicts(tmp_path):
    saved, (learner,) = model_of("supervised", task=TASK)
    write_model(tmp_path / "model", saved, CARD)
    found = load_model(tmp_path / "model").predict(IMAGES_NCHW)
    expected = learner.predict(IMAGES_NCHW)["supervised"].numpy()
    np.testing.assert_array_equal(found.probs, expected)
    np.testing.assert_array_equal(found.named_N, expected.argmax(1))


def test_loading_draws_no_random_number(tmp_path):
    saved, _ = model_of("supervised", task=TASK)
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    assembled(saved, "it")
    assert torch.equal(torch.rand(1), first)


def test_members_are_averaged_by_their_weights():
    saved, learners = model_of("pixels", "constant", weights=[0.25, 0.75], task=TASK)
    one, other = (next(iter(each.predict(IMAGES_NCHW).values())).double().numpy() for each in learners)
    found = assembled(saved, "it").predict(IMAGES_NCHW)
    np.testing.assert_allclose(found.probs, 0.25 * one + 0.75 * other, rtol=0, atol=1e-15)


def test_pool_and_temperature():
    pool = (0.6, 0.3, 0.1)
    saved, (learner,) = model_of("pixels", task=TASK, decision="pool", temperature=2.0)
    members = (saved.facts.members[0].__class__(**{**vars(saved.facts.members[0]), "pool_mean": pool}),)
    saved = saved._replace(facts=type(saved.facts)(**{**vars(saved.facts), "members": members}))
    raw = learner.predict(IMAGES_NCHW)["pixels"].numpy()
    found = assembled(saved, "it").predict(IMAGES_NCHW)
    np.testing.assert_array_equal(found.named_N, (raw / np.array(pool)).argmax(1))
    np.testing.assert_array_equal(found.raw_NK, raw)
    roots = np.sqrt(raw)
    np.testing.assert_allclose(found.probs, roots / roots.sum(1, keepdims=True), atol=1e-12)


def test_pictures_of_any_layout_and_size():
    saved, _ = model_of("pixels", task=TASK)
    model = assembled(saved, "it")
    grey_NHW = IMAGES_NCHW[:, 0].numpy()
    expected = model.predict(IMAGES_NCHW).probs
    for images in (grey_NHW, grey_NHW[..., None], np.repeat(grey_NHW[..., None], 3, axis=3)):
        np.testing.assert_array_equal(model.predict(images).probs, expected)
    large = np.stack([np.asarray(Image.fromarray(image).resize((40, 24))) for image in grey_NHW])
    shrunk = [Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR) for image in large]
    resized = np.stack([np.asarray(image) for image in shrunk])
    np.testing.assert_array_equal(model.predict(large).probs, model.predict(resized).probs)
    assert model.predict(grey_NHW[:0]).probs.shape == (0, 3)


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8), np.zeros((2, 5, 8, 8), np.uint8)])
def test_what_is_no_picture_is_refused(images):
    saved, _ = model_of("pixels", task=TASK)
    with pytest.raises(DataError, match="images"):
        assembled(saved, "it").predict(images)


def test_pictures_are_judged_by_their_patches_as_in_scores():
    grid, rule = Grid(2, 2), PictureRule("top25")
    task = make_task(num_classes=2, side=8)
    saved, (learner,) = model_of("pixels", task=task, grid=grid, side=16, aggregate="top25", threshold=0.4)
    pictures = make_task(num_classes=2, side=16).labelled.images_NCHW.numpy()
    found = assembled(saved, "it").predict(pictures)
    patches = torch.from_numpy(cut(pictures, grid))
    probs = learner.predict(patches)["pixels"].numpy()
    labels_N = np.repeat(found.named_N, 4)
    scores = score_patches(probs, labels_N, grid, rule, threshold=0.4)
    assert scores.metric("accuracy") == 1.0
    scores_I = rule.scores(probs.reshape(-1, 4, 2))[:, 1]
    np.testing.assert_array_equal(found.named_N, scores_I > 0.4)
    np.testing.assert_array_equal(found.probs.argmax(1), found.named_N)
    assert found.patches_NP.shape == (len(pictures), 4)


def test_masks():
    task = make_task(kind="segmentation", channels=3)
    saved, (learner,) = model_of("segmenter", task=task)
    model = assembled(saved, "it")
    found = model.predict(task.validation.images_NCHW)
    expected = learner.predict(task.validation.images_NCHW)["segmenter"].double().numpy()
    np.testing.assert_array_equal(found.probs, expected)
    with pytest.raises(ConfigError, match="no sets"):
        model.sets(found, 0.9)


def test_sets_hold_the_named_class():
    saved, _ = model_of("pixels", task=TASK)
    model = assembled(saved, "it")
    found = model.predict(IMAGES_NCHW)
    narrow, wide = model.sets(found, 0.05), model.sets(found, 0.95)
    assert (narrow <= wide).all()
    assert narrow[np.arange(len(narrow)), found.named_N].all()
    np.testing.assert_array_equal(wide, (1 - found.raw_NK <= 0.95) | narrow)
    assert model.sets(found, 0.99).all()  # 19 images cannot tell


def test_names_for_other_classes_than_it_knows_are_told():
    saved, _ = model_of("pixels", task=TASK, class_names=("a", "b"))
    model = assembled(saved, "it")
    with pytest.raises(ModelError, match="know 3 classes, but 2 are named"):
        model.predict(IMAGES_NCHW)


ALONE = """
import sys, time
for name in ("ray", "optuna", "pandas", "pyarrow", "accelerate"):
    sys.modules[name] = None
from trainables.model.__main__ import main
code = main(sys.argv[1:])
assert code == 0, code
print(time.process_time())
"""


def test_it_predicts_without_the_libraries_of_search_and_training(tmp_path):
    saved, (learner,) = model_of("supervised", task=TASK)
    write_model(tmp_path / "model", saved, CARD)
    np.savez(tmp_path / "new.npz", images=IMAGES_NCHW[:, 0].numpy())
    arguments = [str(tmp_path / "model"), str(tmp_path / "new.npz"), "-o", str(tmp_path / "out.csv")]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 8  # seconds of a core; some 3 on an idle one
    lines = (tmp_path / "out.csv").read_text().splitlines()
    probs = np.array([[float(each) for each in line.split(",")[2:5]] for line in lines[1:]])
    np.testing.assert_allclose(probs, learner.predict(IMAGES_NCHW)["supervised"].numpy(), rtol=0, atol=1e-6)
