"""Methods that go on from a network which learned without labels: `probe` and `supervised`."""

import json
from dataclasses import replace

import pytest
import torch

from search_spaces.core.errors import ConfigError
from search_spaces.core.weights import networks_of, pretraining
from search_spaces.probe import ProbeConfig
from search_spaces.supervised import SupervisedConfig
from trainables import probe, supervised
from trainables.core.method import TaskForm
from trainables.self_supervision.stage import PretextStage
from trainables.testing.forbidden import without_labels
from trainables.testing.tasks import make_task
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.train import Budget, train

PRETEXT = {"pretext": "byol", "pretext_batch": 4, "pretext_side": 16, "pretext_images": 24}
PROBE = {**PRETEXT, "pretext_network": "test_resnet", "image_size": 16}
SUPERVISED = {**PRETEXT, "classifier": "test_resnet", "image_size": 16, "batch_size": 4, "steps_per_epoch": 2}
METHODS = {
    "probe": (probe.METHOD, ProbeConfig(**PROBE)),
    "supervised": (supervised.METHOD, SupervisedConfig(**SUPERVISED)),
}
AFTER = {"probe": 66, "supervised": 16}
"""Images that follow the 24 of the pretext task: of two passes, of two epochs."""


def run(name, images=None, task=None, **options):
    method, config = METHODS[name]
    budget = Budget(images or 24 + AFTER[name], 8)
    accelerator = new_accelerator(precision="no", cpu=True)
    return train(method, config, task or make_task(), budget, seed=0, accelerator=accelerator, **options)


def stage_of(config, model="test_resnet", task=None):
    return PretextStage(config, model, task or make_task(), new_accelerator(precision="no", cpu=True))


@pytest.mark.parametrize("name", METHODS)
def test_its_images_are_counted_whether_it_is_made_or_found(name):
    made, found = list(run(name)), list(run(name))
    assert [each.images for each in made] == [each.images for each in found]
    assert [each.losses for each in made] == [each.losses for each in found]
    assert made[-1].images == 24 + AFTER[name]
    origins = [json.loads(run_[-1].artefacts["pretext.json"])["origin"] for run_ in (made, found)]
    assert origins == ["made", "found"]
    assert made[2].losses.keys() == {"loss", "alignment", "uniformity", "neighbour_accuracy"}


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_stopped_within_it_is_the_undisturbed_one(name, tmp_path, monkeypatch):
    straight = [(each.losses, each.scores) for each in run(name)]
    for stop in (1, 2, 4):
        monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / f"cache {stop}"))
        stopped = run(name, checkpoints=Checkpoints(tmp_path / f"run {stop}"))
        for _ in range(min(stop, len(straight) - 1)):
            next(stopped)
        stopped.close()
        monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / f"other cache {stop}"))
        resumed = list(run(name, checkpoints=Checkpoints(tmp_path / f"run {stop}")))
        assert resumed[0].replayed
        assert [(each.losses, each.scores) for each in resumed] == straight


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_that_ends_with_it_is_refused(name):
    with pytest.raises(ConfigError, match="raise images, or lower pretext_images"):
        list(run(name, images=24))


@pytest.mark.parametrize("name", METHODS)
def test_it_sees_training_images_alone(name):
    task = make_task()
    expected = [each.losses for each in run(name)]
    blind = replace(task, validation=without_labels(task.validation))
    object.__setattr__(blind.validation, "images_NCHW", 255 - task.validation.images_NCHW)
    method, config = METHODS[name]
    learner = method.build(config, blind, new_accelerator(precision="no", cpu=True))
    epochs = iter(learner.epochs())
    assert [next(epochs) for _ in range(3)] == expected[:3]
    assert json.loads(learner.artefacts()["pretext.json"])["origin"] == "found"


def test_the_probe_has_its_features_as_one_more_block():
    task, config = make_task(), ProbeConfig(**PROBE, backbones="", mean_of="logistic")
    learner = probe.METHOD.build(config, task, new_accelerator(precision="no", cpu=True))
    epochs = iter(learner.epochs())
    for _ in range(4):
        next(epochs)
    (block,) = learner._blocks
    network = stage_of(config).network()
    features = network(task.unlabelled_NCHW.float() / 255)
    torch.testing.assert_close(block(task.unlabelled_NCHW), features, atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match="backbones"):
        ProbeConfig(backbones="")
    both = probe.METHOD.build(ProbeConfig(**PROBE), task, new_accelerator(precision="no", cpu=True))
    assert len(both._blocks) == 3
    assert probe.METHOD.epoch_images(ProbeConfig(**PROBE), 9, 24, 3) == 2 * 33


def test_a_classifier_goes_on_from_it_as_from_given_weights():
    task = make_task()
    config = SupervisedConfig(**SUPERVISED, head_start="probe", frozen_statistics=True)
    learner = supervised.METHOD.build(config, task, new_accelerator(precision="no", cpu=True))
    name = next(iter(stage_of(config).network().network.state_dict()))
    first = learner._classifier.module.network.state_dict()[name].clone()
    epochs = iter(learner.epochs())
    for _ in range(3):
        learner.begin_epoch(0, 1000)
        next(epochs)
    weights = stage_of(config).weights()
    for network in (learner._classifier.module.network, learner._classifier.predicting.network):
        state = network.state_dict()
        assert all(torch.equal(state[name], value) for name, value in weights.items())
    assert not torch.equal(first, weights[name])
    right = learner.predict(task.labelled.images_NCHW)["supervised"].argmax(1) == task.labelled.labels_N
    assert right.double().mean() > 0.9  # the head was fitted to them
    learner.begin_epoch(24 + 8, 24 + 16)
    assert learner._pace.share == 0.5  # of its own part


def test_both_share_what_they_made():
    keys = {
        stage_of(config).stage.entry.key
        for config in (ProbeConfig(**PROBE), SupervisedConfig(**SUPERVISED), ProbeConfig(**PROBE, knn_k=1))
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "wrong", [{"pretrained": "lite0"}, {"trained_layers": "low_rank"}, {"pretext_crop": 0.0}, {"pretext_batch": 1}]
)
def test_what_does_not_go_together_is_refused(wrong):
    with pytest.raises(ConfigError, match="pretext"):
        SupervisedConfig(pretext="moco", **wrong)


def test_it_is_no_pretraining_on_other_data():
    for config in (SUPERVISED, {**PROBE, "backbones": ""}):
        assert networks_of(config) == []
        assert pretraining(config) == ""


@pytest.mark.parametrize("name", METHODS)
def test_what_is_saved_predicts_as_the_learner_does(name):
    method, config = METHODS[name]
    task = make_task()
    learner = method.build(config, task, new_accelerator(precision="no", cpu=True))
    epochs = iter(learner.epochs())
    for _ in range(5):
        learner.begin_epoch(24, 1000)
        next(epochs)
    saved = method.predictor(config, TaskForm.of(task))
    saved.load_state_dict(learner.prediction_state())
    images = task.validation.images_NCHW
    for predictor, probs_BK in learner.predict(images).items():
        torch.testing.assert_close(saved.predict(images)[predictor], probs_BK, atol=1e-5, rtol=1e-5)
