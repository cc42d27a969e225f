"""Pictures by their patches, against values found by hand and against plain formulations."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from search_spaces.core.errors import ConfigError
from trainables.core.grid import Grid
from trainables.metrics.classes import score_patches
from trainables.metrics.pictures import (
    AGGREGATES,
    THRESHOLDS,
    PictureRule,
    heat_maps,
    localisation,
    patch_localisation,
    probabilities,
)

GRID = Grid(8, 8)


def two_classes(finding):
    """Probabilities of both classes from those of class 1."""
    finding = np.asarray(finding, np.float64)
    return np.stack([1 - finding, finding], axis=-1)


def findings(rule, finding_IP):
    return PictureRule(aggregate=rule).scores(two_classes(finding_IP))[:, 1]


def test_patches_that_say_nothing_add_up_to_half_of_their_number():
    """The paper's score is the sum: 32 of 64 for logits of zero; ours is that per patch."""
    assert findings("mean", np.full((1, 64), 0.5)) * 64 == 32


def test_aggregates_by_hand():
    finding_IP = [[0.1, 0.2, 0.3, 0.8], [0.4, 0.4, 0.4, 0.4]]
    assert findings("mean", finding_IP) == pytest.approx([0.35, 0.4])
    assert findings("max", finding_IP) == pytest.approx([0.8, 0.4])
    assert findings("top25", finding_IP) == pytest.approx([0.8, 0.4])
    assert findings("top10", np.arange(20)[None] / 20) == pytest.approx([(18 + 19) / 40])
    any_I = 1 - np.prod(1 - np.array(finding_IP), axis=1)
    assert np.argsort(findings("noisy_or", finding_IP)).tolist() == np.argsort(any_I).tolist()


def test_many_certain_patches_are_still_ordered():
    first, second = findings("noisy_or", [[0.9] * 64, [0.9] * 63 + [0.95]])
    assert first < second < 1


def test_more_than_two_classes_add_up_to_one():
    probs_IPK = np.random.default_rng(0).dirichlet(np.ones(3), (5, 4))
    for aggregate in AGGREGATES:
        assert PictureRule(aggregate).scores(probs_IPK).sum(1) == pytest.approx(np.ones(5))
    assert PictureRule().scores(probs_IPK) == pytest.approx(probs_IPK.mean(1))


def test_thresholds_by_hand():
    scores_I, labels_I = np.array([0.1, 0.2, 0.4, 0.3, 0.6, 0.8]), np.array([0, 0, 0, 1, 1, 1])
    best = {name: PictureRule(threshold=name).best_threshold(scores_I, labels_I) for name in THRESHOLDS}
    # above 0.25: sensitivity 1, specificity 2/3; above 0.5: 2/3 and 1, with the wider gap around it
    assert best["youden"] == pytest.approx(0.5)
    assert best["f1"] == pytest.approx(0.25)  # 6/7, above 0.5 only 4/5
    assert best["sensitivity90"] == pytest.approx(0.25)
    assert best["half"] == 0.5


@pytest.mark.parametrize("rule", THRESHOLDS)
def test_constant_scores_and_a_single_class_have_a_threshold(rule):
    rule = PictureRule(threshold=rule)
    assert 0 <= rule.best_threshold(np.full(4, 0.3), np.array([0, 0, 1, 1])) <= 1
    assert rule.best_threshold(np.array([0.1, 0.9]), np.array([1, 1])) == 0.5


def test_a_picture_does_not_choose_its_own_threshold():
    random, rule = np.random.default_rng(0), PictureRule()
    flattering, honest = [], []
    for _ in range(200):
        scores_I, labels_I = random.uniform(size=20), np.arange(20) % 2
        chosen = rule.best_threshold(scores_I, labels_I)
        flattering.append(((scores_I > chosen) == labels_I).mean())
        honest.append(((scores_I > rule.held_out_thresholds(scores_I, labels_I)) == labels_I).mean())
    assert np.mean(flattering) > 0.6, "chance looks good to a threshold chosen on the same pictures"
    assert np.mean(honest) == pytest.approx(0.5, abs=0.05)


def test_probabilities_keep_the_order_and_are_one_half_at_the_threshold():
    scores = two_classes([0.0, 0.1, 0.2, 0.6, 1.0])
    assert probabilities(scores, 0.2)[:, 1] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    for threshold in (0.0, 1.0):
        found = probabilities(scores, threshold)
        assert np.isfinite(found).all()
        assert (np.diff(found[:, 1]) >= 0).all()


def test_heat_maps_against_the_plain_formulation():
    probs_IP = np.random.default_rng(0).uniform(size=(2, 64))
    found_IHW = heat_maps(probs_IP, GRID, 128, 64)
    for probs_P, found_HW in zip(probs_IP, found_IHW, strict=True):
        enlarged_HW = np.kron(probs_P.reshape(8, 8), np.ones((16, 8)))
        assert found_HW == pytest.approx(gaussian_filter(enlarged_HW, (8, 4), mode="nearest"))


def test_the_heat_is_where_the_patch_is():
    probs_IP = np.zeros((1, 64))
    probs_IP[0, 8 * 2 + 5] = 1
    (map_HW,) = heat_maps(probs_IP, GRID, 256, 256)
    rows, columns = np.indices(map_HW.shape)
    centre = (map_HW * rows).sum() / map_HW.sum(), (map_HW * columns).sum() / map_HW.sum()
    assert centre == pytest.approx((2 * 32 + 15.5, 5 * 32 + 15.5))


def test_localisation_of_an_oracle_of_nothing_and_of_chance():
    labels_IP = np.zeros((3, 64), np.int64)
    labels_IP[0, 9], labels_IP[1, [20, 40]] = 1, 1  # the third picture is healthy, and does not count
    masks_IHW = np.kron(labels_IP.reshape(-1, 8, 8), np.ones((4, 4), np.int64)) > 0
    assert localisation(labels_IP.astype(float), masks_IHW, GRID) == pytest.approx(1, abs=1e-3)
    assert patch_localisation(labels_IP.astype(float), labels_IP) == 1
    assert localisation(np.full((3, 64), 0.3), masks_IHW, GRID) == 0.5
    assert patch_localisation(np.full((3, 64), 0.3), labels_IP) == 0.5
    assert localisation(labels_IP[2:].astype(float), masks_IHW[2:], GRID) is None
    assert patch_localisation(labels_IP[2:].astype(float), labels_IP[2:]) is None


def test_localisation_is_the_mean_area_within_pictures():
    random = np.random.default_rng(0)
    probs_IP, masks_IHW = random.uniform(size=(4, 64)), random.uniform(size=(4, 32, 32)) < 0.1
    maps_IHW = heat_maps(probs_IP, GRID, 32, 32)
    areas = [roc_auc_score(mask.ravel(), heat.ravel()) for mask, heat in zip(masks_IHW, maps_IHW, strict=True)]
    assert localisation(probs_IP, masks_IHW, GRID) == pytest.approx(np.mean(areas))


def test_scores_of_pictures():
    finding_IP = np.array([[0.1, 0.2], [0.2, 0.2], [0.3, 0.3], [0.6, 0.9], [0.2, 0.9], [0.9, 0.9]])
    labels_IP = np.array([[0, 0], [0, 0], [0, 0], [0, 1], [0, 1], [1, 1]])
    scores = score_patches(two_classes(finding_IP).reshape(-1, 2), labels_IP.ravel(), Grid(1, 2), PictureRule())
    assert (scores.num_images, scores.metric("accuracy"), scores.metric("auroc")) == (6, 1.0, 1.0)
    assert scores.threshold == pytest.approx((0.3 + 0.55) / 2)
    assert scores.metric("localisation") is None
    assert scores.metric("patch_localisation") == 1.0
    elsewhere = score_patches(
        two_classes(finding_IP).reshape(-1, 2), labels_IP.ravel(), Grid(1, 2), PictureRule(), threshold=0.7
    )
    assert elsewhere.confusion == ((3, 0), (1, 2))
    assert elsewhere.threshold == 0.7


def test_mistakes():
    with pytest.raises(ConfigError, match="did you mean 'youden'"):
        PictureRule(threshold="yuden")
    with pytest.raises(ConfigError, match="aggregate 'sum' is unknown"):
        PictureRule(aggregate="sum")
