"""Temperatures that fit, and sets that hold what they promise."""

import numpy as np
import pytest
from scipy.special import softmax

from search_spaces.core.errors import ConfigError
from trainables.metrics.classes import score
from trainables.model.calibration import Calibration, calibration_of, fit_temperature, tempered


def drawn(rng, count, num_classes=4, sharpness=1.0):
    """Probabilities of images, and labels that follow those at temperature `sharpness`."""
    logits = rng.normal(0, 2, (count, num_classes))
    probs = softmax(logits, axis=1)
    labels = np.array([rng.choice(num_classes, p=row) for row in softmax(logits / sharpness, axis=1)])
    return probs, labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_cover_as_often_as_they_promise(coverage):
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        calibration = calibration_of(*drawn(rng, 100, sharpness=2.0), "")
        probs, labels = drawn(rng, 200, sharpness=2.0)
        sets = calibration.sets(probs, probs.argmax(1), coverage)
        held.append(sets[np.arange(len(labels)), labels].mean())
    assert coverage - 0.01 <= np.mean(held) <= coverage + 0.02


def test_the_limit_is_an_order_statistic():
    calibration = Calibration(tuple(number / 10 for number in range(1, 10)))
    assert calibration.limit(0.5) == 0.5
    assert calibration.limit(0.9) == 0.9
    assert calibration.limit(0.91) == np.inf
    for coverage in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="impossible"):
            calibration.limit(coverage)
    with pytest.raises(ConfigError, match="without validation predictions"):
        Calibration().limit(0.9)


def test_images_that_several_trainings_judged_count_once():
    probs, labels = drawn(np.random.default_rng(0), 19)
    once = calibration_of(probs, labels, "")
    again = calibration_of(np.repeat(probs, 5, 0), np.repeat(labels, 5), "", num_images=19)
    for coverage in (0.05, 0.5, 0.9, 0.95):
        assert again.limit(coverage) == once.limit(coverage)
    assert again.limit(0.96) == np.inf
    assert Calibration.from_dict(again.as_dict()) == again
    assert Calibration.from_dict({"origin": "", "scores": [0.1, 0.2]}).limit(0.5) == 0.2  # as it was written before
    found = fit_temperature(np.repeat(probs, 5, 0), np.repeat(labels, 5), 19)
    assert found == pytest.approx(fit_temperature(probs, labels), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    probs, labels = drawn(np.random.default_rng(0), 20_000, sharpness=temperature)
    assert fit_temperature(probs, labels) == pytest.approx(temperature, rel=0.05)


def test_on_other_images_it_lowers_the_calibration_error():
    rng = np.random.default_rng(1)
    temperature = fit_temperature(*drawn(rng, 200, sharpness=3.0))
    probs, labels = drawn(rng, 5_000, sharpness=3.0)
    before, after = (score(p, labels).metric("calibration_error") for p in (probs, tempered(probs, temperature)))
    assert after < before / 3


def test_ten_images_that_are_all_right_make_no_certainties():
    probs = np.tile([0.9, 0.1], (10, 1))
    assert 0.4 < fit_temperature(probs, np.zeros(10, np.int64)) < 1


def test_tempered_as_logits_are():
    logits = np.random.default_rng(2).normal(0, 3, (50, 3))
    np.testing.assert_allclose(tempered(softmax(logits, axis=1), 1.7), softmax(logits / 1.7, axis=1), atol=1e-12)
    certain = tempered(np.array([[0.0, 1.0]]), 2.0)
    assert np.isfinite(certain).all()


def test_it_is_read_as_it_was_written():
    calibration = calibration_of(*drawn(np.random.default_rng(3), 7), "7 images")
    assert Calibration.from_dict(calibration.as_dict()) == calibration
