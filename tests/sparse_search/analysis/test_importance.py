from itertools import pairwise

import numpy as np
import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from search_spaces.core.ranges import Choice, Float, Int, space_of
from sparse_search.analysis.importance import MIN_TRIALS, _space, _widened, importance
from trainables.core.method import find_method, method_names


def confusion_of(score):
    hits = round(1000 * score)
    return ((hits, 1000 - hits), (1000 - hits, hits))


@pytest.fixture
def search(store, make_record):
    """A maker of searches in which only the step size decides, and on another level for each dataset."""

    def run(num_trials, *, seed=0, level=0.5, score=None, **changes):
        rng = np.random.default_rng(seed)
        for number in range(num_trials):
            config = {
                "image_size": 32,
                "lr": float(2e-5 * 250 ** rng.random()),
                "dropout": float(rng.uniform(0, 0.5)),
                "batch_size": int(rng.choice([8, 16, 24, 32, 64])),
                "w_mixup": float(rng.choice([0.0, 1.0])),
                "mixup_alpha": float(0.05 * 20 ** rng.random()),
            }
            distance = abs(np.log(config["lr"] / 3e-4)) / np.log(250)
            confusion = confusion_of((score or (lambda c, d, r: level + 0.4 * (1 - d)))(config, distance, rng))
            inactive = "" if config["w_mixup"] else "mixup_alpha"
            store.write(
                make_record(
                    1000 * seed + number,
                    config=config,
                    confusion=confusion,
                    inactive=inactive,
                    trial_id=f"{seed}-{number}",
                    run_id=f"{seed}-{number}",
                    **changes,
                )
            )
        return store.folder

    return run


def test_what_decides_comes_first_and_what_does_nothing_near_zero(search):
    (found,) = importance(search(60))
    shares = {setting.name: setting.share for setting in found.settings}
    assert found.settings[0].name == "lr"
    assert found.settings[0].clear
    assert shares["lr"] > 0.8
    assert max(share for name, share in shares.items() if name != "lr") < 0.1
    assert not any(setting.clear for setting in found.settings[1:])
    assert sum(shares.values()) == pytest.approx(1)
    assert all(a.share >= b.share for a, b in pairwise(found.settings))
    assert (found.doubt, found.num_trials, found.num_studies) == ("", 60, 1)


def test_studies_of_different_levels_are_pooled_by_rank(search):
    search(30, seed=1, level=0.55)
    pooled, *single = importance(search(30, seed=2, level=0.1, dataset="pathmnist"))
    assert (pooled.shared, pooled.num_trials, pooled.num_studies) == ({}, 60, 2)
    assert [(one.shared["dataset"], one.num_trials) for one in single] == [("digits", 30), ("pathmnist", 30)]
    assert pooled.settings[0].name == "lr"
    assert pooled.settings[0].share > 0.8


def test_a_conditional_setting_counts_where_it_has_an_effect(search):
    folder = search(
        80, score=lambda c, _, rng: 0.6 + (0.3 * (c["mixup_alpha"] < 0.15) if c["w_mixup"] else 0) + 0.05 * rng.random()
    )
    (found,) = importance(folder)
    clear = {setting.name for setting in found.settings if setting.clear}
    assert "mixup_alpha" in clear
    assert not {"lr", "dropout", "batch_size"} & clear


def test_nothing_that_decides_is_said(search):
    (found,) = importance(search(40, score=lambda c, d, rng: rng.uniform(0.5, 0.9)))
    assert found.doubt == "no setting stands out from chance"


def test_too_few_trials_are_said(search):
    (found,) = importance(search(MIN_TRIALS - 1))
    assert found.settings == ()
    assert found.doubt == "19 complete searched trials are too few to tell; it takes 20"


def test_presets_pruned_trials_and_confirmations_do_not_count(search):
    search(25, seed=1)
    search(3, seed=2, start="plain")
    search(3, seed=3, status="pruned")
    (found,) = importance(search(3, seed=4, study="study confirmation"))
    assert found.num_trials == 25


def test_only_the_predictor_that_the_search_optimised_counts(store, make_record):
    for number in range(25):
        record = make_record(number, lr=1e-4 * 1.1**number, predictors=["second", "supervised"])
        for point in record["curve"]:
            for scores in (point["scores"], point["selected"]):
                scores["second"] = dict(scores["supervised"])
        store.write(record)
    (found,) = importance(store.folder)
    assert found.num_trials == 25


@pytest.mark.parametrize("name", method_names())
def test_the_ranges_of_a_method_are_found_without_its_training_code(name):
    assert _space(name) == space_of(find_method(name).config)


def test_a_method_that_is_not_here_goes_by_what_was_seen(search):
    (found,) = importance(search(40, method="gone"))
    assert found.settings[0].name == "lr"


@pytest.mark.parametrize(
    ("own", "seen", "expected"),
    [
        (Float(0.0, 0.5), [0.1, 0.7], Float(0.0, 0.7)),
        (Float(1e-4, 1e-2, log=True), [0.0, 1e-3], Float(0.0, 1e-2)),
        (Float(1e-4, 1e-2, log=True), [1e-3, 1e-3, 2e-3], Float(1e-4, 1e-2, log=True)),
        (Int(1, 8), [2, 9], Int(1, 9)),
        (Choice(8, 16), [16, 8, 32], Choice(8, 16, 32)),
        (Choice(True, False), [True], Choice(True, False)),
        (Float(0.0, 1.0), [0.5], Float(0.0, 1.0)),
        (None, [0.5, 0.5], Choice(0.5)),
        (None, [1e-5, 1e-2], Float(1e-5, 1e-2, log=True)),
        (None, ["a", "b", "a"], Choice("a", "b")),
        (None, [0.1, 0.4], Float(0.1, 0.4)),
    ],
)
def test_ranges_hold_every_value_seen(own, seen, expected):
    assert _widened(own, seen) == expected


def test_the_same_records_give_the_same_answer(search):
    folder = search(30)
    assert importance(folder) == importance(folder)


def test_mistakes(search):
    folder = search(2)
    with pytest.raises(ResultsError, match="with dataset pathmnist"):
        importance(folder, dataset="pathmnist")
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        importance(folder, metric="acuracy")
