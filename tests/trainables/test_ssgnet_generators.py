"""Generators as a method of their own: one evaluation, at the end, against images that none of them has seen."""

import sys
from dataclasses import replace

import pytest
import torch

from search_spaces.core.config import write_config
from search_spaces.core.errors import ConfigError
from search_spaces.ssgnet import SsgnetConfig
from trainables import ssgnet_generators
from trainables.data.augment import to_signed, to_unit
from trainables.metrics.scoring import read_scores, scorer_of
from trainables.metrics.selection import mean_scores
from trainables.nets.features import feature_network
from trainables.ssgnet import METHOD as SSGNET
from trainables.ssgnet_generators import METHOD, NAME
from trainables.stylegan.class_generators import generator_epochs
from trainables.stylegan.generator_scores import features_of, frechet_distance, kernel_distance, precision_and_recall
from trainables.testing.forbidden import without_labels
from trainables.testing.subject import Subject, weights
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.train import Budget, train

SUBJECT = Subject(NAME)
CONFIG = SUBJECT.config()
LENGTH = generator_epochs(CONFIG)
EPOCH = CONFIG.generator_batch * CONFIG.steps_per_epoch
"""Images of one."""


def start(task, config=CONFIG, *, images=10_000, checkpoints=None, seed=0, **options):
    accelerator = new_accelerator(precision="no", cpu=True)
    budget = Budget(images=images, evaluate_every=100)
    return train(METHOD, config, task, budget, seed=seed, accelerator=accelerator, checkpoints=checkpoints, **options)


def test_it_is_evaluated_once_when_all_its_generators_are_trained(make_task):
    progress = list(start(make_task()))
    assert len(progress) == LENGTH
    assert [bool(p.scores) for p in progress] == [False] * (LENGTH - 1) + [True]
    assert progress[-1].budget_images == 10_000
    assert progress[-1].images == LENGTH * EPOCH
    assert not progress[-1].collapse
    assert {"stages.json", "class-0.png", "class-1.png", "class-2.png"} == set(progress[-1].artefacts)


def test_its_scores_are_means_over_classes_of_distances_to_validation_images(make_task):
    task = make_task()
    end = list(start(task))[-1]
    made_KMCHW = torch.from_numpy(end.predictions[NAME]).byte()
    assert made_KMCHW.shape == (3, 8, *task.labelled.images_NCHW.shape[1:])
    network = feature_network(CONFIG.feature_network, task.channels)

    def features(images_NCHW):
        return features_of(to_signed(to_unit(images_NCHW, CONFIG.image_size)), network)

    pairs = [
        (features(task.validation.images_NCHW[task.validation.labels_N == k]), features(made_KMCHW[k]))
        for k in range(3)
    ]
    scores = end.scores[NAME]
    assert scores.num_images == len(task.validation)
    assert scores.metric("kid") == pytest.approx(sum(kernel_distance(*pair)[0] for pair in pairs) / 3)
    assert scores.metric("fid") == pytest.approx(sum(frechet_distance(*pair) for pair in pairs) / 3)
    both = [sum(shares) / 3 for shares in zip(*(precision_and_recall(*pair) for pair in pairs), strict=True)]
    assert [scores.metric("manifold_precision"), scores.metric("manifold_recall")] == pytest.approx(both)
    assert read_scores(scores.as_dict()) == scores
    assert scores.metric("balanced_accuracy") is None


def test_what_looks_like_the_held_out_images_scores_better_than_noise(make_task):
    task = make_task()
    scorer = scorer_of(METHOD, CONFIG, task.validation, None)
    alike = torch.stack([task.validation.images_NCHW[task.validation.labels_N == k] for k in range(3)])
    noise = torch.randint(256, alike.shape, dtype=torch.uint8)
    near, far = (scorer({NAME: images.double().numpy()}, {})[NAME] for images in (alike, noise))
    assert near.metric("kid") < far.metric("kid")
    assert near.metric("fid") < 1e-3 < far.metric("fid")
    assert (near.metric("manifold_precision"), near.metric("manifold_recall")) == (1.0, 1.0)
    assert mean_scores([near, far]).metric("fid") == pytest.approx((near.metric("fid") + far.metric("fid")) / 2)


def test_a_learner_never_sees_validation_labels(make_task):
    task = make_task()
    validation = without_labels(task.validation)
    learner = SUBJECT.build(replace(task, validation=validation), CONFIG)
    for _ in learner.epochs():
        pass
    learner.predict(validation.images_NCHW)


def test_ssgnet_finds_what_it_made(make_task):
    task = make_task()
    list(start(task))
    config = SsgnetConfig(**write_config(CONFIG), classifier="test_resnet", batch_size=8)
    budget = Budget(images=LENGTH * EPOCH + 8, evaluate_every=EPOCH)
    accelerator = new_accelerator(precision="no", cpu=True)
    *_, end = train(SSGNET, config, task, budget, seed=0, accelerator=accelerator)
    assert end.artefacts["stages.json"].count(b'"origin": "found"') == 4  # the common one, and three classes


def test_a_run_that_was_stopped_ends_as_one_that_was_not(make_task, tmp_path, monkeypatch):
    task = make_task()
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "a"))
    straight = list(start(task))
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "b"))
    stopped = start(task, checkpoints=Checkpoints(tmp_path / "c"))
    for _ in range(LENGTH // 2):
        next(stopped)
    stopped.close()
    resumed = list(start(task, checkpoints=Checkpoints(tmp_path / "c")))
    assert [dict(p.losses) for p in resumed] == [dict(p.losses) for p in straight]
    assert resumed[-1].scores == straight[-1].scores
    (again,) = start(task, checkpoints=Checkpoints(tmp_path / "c"))
    assert again.replayed
    assert again.scores == straight[-1].scores


def test_the_seed_decides(make_task):
    ends = [list(start(make_task(), seed=seed))[-1].scores[NAME] for seed in (0, 0, 1)]
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("field", ["generator_images", "pretrain_images"])
def test_its_length_is_that_of_its_generators(field):
    longer = replace(CONFIG, **{field: getattr(CONFIG, field) + EPOCH})
    assert generator_epochs(longer) == LENGTH + 1
    assert METHOD.epoch_images(CONFIG, 3, 4, LENGTH) == sys.maxsize
    assert METHOD.epoch_images(longer, 3, 4, LENGTH) == EPOCH


def test_an_epoch_changes_its_weights(make_task):
    learner = SUBJECT.build(make_task(), CONFIG)
    epochs = iter(learner.epochs())
    next(epochs)
    before = weights(learner)
    next(epochs)
    assert not torch.equal(before, weights(learner))


def test_a_budget_that_ends_too_early_is_refused_at_once(make_task):
    seen = []
    with pytest.raises(ConfigError, match="the budget ends before the generators are trained: raise images, or lower"):
        seen.extend(start(make_task(), images=LENGTH * EPOCH - 1))
    assert len(seen) == 1
    long = replace(CONFIG, steps_per_epoch=1000, generator_images=3 * 8000, pretrain_images=8000)
    learner = SUBJECT.build(make_task(), long)
    with pytest.raises(ConfigError, match="the budget ends before"):
        learner.predict(torch.empty(0))


def test_too_few_images_to_compare_with_are_refused_before_training(make_task):
    with pytest.raises(ConfigError, match=r"class 0 has 1 image to hold generators against.*choose validation"):
        next(start(make_task(shots=1)))
    with pytest.raises(ConfigError, match="score_images: 1 are too few"):
        next(start(make_task(), replace(CONFIG, score_images=1)))


def test_every_class_needs_a_generator(make_task):
    task = make_task()
    labels_N = task.labelled.labels_N.clamp(max=1)
    with pytest.raises(ConfigError, match="labelled images of each of 3 classes"):
        ssgnet_generators.build(
            CONFIG, replace(task, labelled=replace(task.labelled, labels_N=labels_N)),
            new_accelerator(precision="no", cpu=True),
        )  # fmt: skip
