from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces.pixels import PixelsConfig
from trainables import pixels
from trainables.core.method import Labelled
from trainables.data.source import open_source
from trainables.metrics.decisions import DECISIONS, named
from trainables.metrics.pictures import PictureRule
from trainables.metrics.scoring import score_all
from trainables.training.accelerator import new_accelerator
from trainables.training.train import Budget, train

FEW, MANY, DRAWS = 1, 10, 30


def mean_recall(named_N, labels_N):
    return np.mean([(named_N[labels_N == label] == label).mean() for label in np.unique(labels_N)])


def test_the_likeliest_and_the_one_largest_beside_its_mean():
    probs_NK = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.8, 0.1, 0.1]])
    pool_mean_K = np.array([0.7, 0.2, 0.1])
    assert named("argmax", probs_NK, pool_mean_K).tolist() == [0, 1, 0]
    assert named("pool", probs_NK, pool_mean_K).tolist() == [1, 2, 0]
    assert set(DECISIONS) == {"argmax", "pool"}


def test_without_a_pool_both_are_the_likeliest():
    probs_NK = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    assert named("pool", probs_NK, None).tolist() == named("argmax", probs_NK, None).tolist()


def test_a_class_that_is_never_said_divides_nothing_by_zero():
    probs_NK = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1]])
    assert named("pool", probs_NK, np.array([0.9, 0.1, 0.0])).tolist() == [0, 2]


def test_ties_go_to_the_first_class():
    assert named("pool", np.array([[0.5, 0.5]]), np.array([0.5, 0.5])).tolist() == [0]


def gaussian(shares, count, seed):
    """Labels and numbers, of classes one apart with a deviation of one."""
    random = np.random.default_rng(seed)
    labels_N = random.choice(len(shares), count, p=shares)
    return labels_N, random.normal(labels_N, 1.0)


def posterior(values_N, prior_K):
    likelihood_NK = np.exp(-0.5 * (values_N[:, None] - np.arange(len(prior_K))) ** 2) * prior_K
    return likelihood_NK / likelihood_NK.sum(1, keepdims=True)


def test_a_network_that_leans_to_what_the_pool_holds_is_set_right():
    """Of probabilities that know how frequent classes are, the rule is the best there is for the mean recall."""
    shares = np.array([5, 1, 5, 1]) / 12
    labels_N, values_N = gaussian(shares, 20_000, seed=1)
    pool_mean_K = posterior(gaussian(shares, 20_000, seed=2)[1], shares).mean(0)
    found = {rule: mean_recall(named(rule, posterior(values_N, shares), pool_mean_K), labels_N) for rule in DECISIONS}
    best = mean_recall(posterior(values_N, np.full(4, 0.25)).argmax(1), labels_N)
    assert found["pool"] == pytest.approx(best, abs=0.01)
    assert found["pool"] > found["argmax"] + 0.05


@pytest.mark.parametrize("bias", [0.0, 1.0, -2.0])
def test_a_bias_has_no_effect_on_a_pool_of_equal_classes(bias):
    shares = np.full(2, 0.5)
    labels_N, values_N = gaussian(shares, 20_000, seed=1)
    leaning = np.array([1.0, np.exp(bias)])
    pool_mean_K = posterior(gaussian(shares, 20_000, seed=2)[1], leaning).mean(0)
    found = {rule: mean_recall(named(rule, posterior(values_N, leaning), pool_mean_K), labels_N) for rule in DECISIONS}
    best = mean_recall(posterior(values_N, shares).argmax(1), labels_N)
    assert found["pool"] == pytest.approx(best, abs=0.03)
    assert found["pool"] >= found["argmax"] - 0.01


# Digits


@pytest.fixture(scope="module")
def digits():
    source = open_source("digits")
    return torch.from_numpy(source.images("train")), torch.from_numpy(source.reader.labels("train"))


def drawn(digits, plain, *, shots, skew, seed):
    """Few labels of each digit; of the rest, of which odd digits may be rare, half unlabelled and half scored."""
    images_NCHW, labels_N = digits
    order = torch.randperm(len(labels_N), generator=torch.Generator().manual_seed(seed))
    members = [order[labels_N[order] == label] for label in range(10)]
    few = torch.cat([each[:shots] for each in members])
    rest = [each[shots:] for each in members]
    rest = torch.cat([each[: len(each) // (skew if label % 2 else 1)] for label, each in enumerate(rest)])
    labelled, scored = (Labelled(images_NCHW[which], labels_N[which]) for which in (few, rest[::2]))
    unlabelled_NCHW = images_NCHW[rest[1::2]]
    return replace(plain, num_classes=10, labelled=labelled, unlabelled_NCHW=unlabelled_NCHW, validation=scored)


def gains(digits, plain, shots, skew):
    """Recall (draws, 10) by the pool, less that of the likeliest class, of logistic regressions on several draws."""
    found = []
    for seed in range(DRAWS):
        task = drawn(digits, plain, shots=shots, skew=skew, seed=seed)
        accelerator = new_accelerator(precision="no", cpu=True)
        config = PixelsConfig(image_size=8)
        (end,) = train(pixels.METHOD, config, task, Budget(10 * shots, 10 * shots), seed=0, accelerator=accelerator)
        labels_N, given = task.validation.labels_N.numpy(), (end.predictions["pixels"], end.pool_means["pixels"])
        right = {rule: named(rule, *given) == labels_N for rule in DECISIONS}
        found.append([right["pool"][labels_N == k].mean() - right["argmax"][labels_N == k].mean() for k in range(10)])
    return np.array(found)


def test_where_the_pool_holds_all_digits_alike_a_regression_on_one_of_each_gains(digits, make_task):
    found = gains(digits, make_task(channels=1, side=8), FEW, 1).mean(1)
    assert found.mean() > 2 * found.std() / DRAWS**0.5


def test_where_the_pool_holds_all_digits_alike_it_costs_nothing_of_many_labels(digits, make_task):
    assert gains(digits, make_task(channels=1, side=8), MANY, 1).mean() > -0.002


@pytest.mark.parametrize("shots", [FEW, MANY])
def test_where_some_digits_are_rare_in_the_pool_they_are_found_at_the_expense_of_others(digits, shots, make_task):
    """Also where the regression did not lean: then the mean recall, which this is a trade of, need not gain."""
    found = gains(digits, make_task(channels=1, side=8), shots, 5).mean(0)
    assert found[1::2].mean() > 0.005
    assert found[::2].mean() < -0.005


def test_what_is_trained_is_named_by_the_rule_asked_for(digits, make_task):
    task = drawn(digits, make_task(channels=1, side=8), shots=FEW, skew=5, seed=0)
    accelerator, options = new_accelerator(precision="no", cpu=True), {"seed": 0, "decision": "pool"}
    (end,) = train(pixels.METHOD, PixelsConfig(image_size=8), task, Budget(10, 10), accelerator=accelerator, **options)
    assert end.scores == score_all(end.predictions, end.pool_means, task.validation, PictureRule(), decision="pool")
