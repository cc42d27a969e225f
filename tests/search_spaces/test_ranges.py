from dataclasses import dataclass
from typing import Annotated

import pytest

from search_spaces.core.config import MethodConfig, write_config
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import (
    Choice,
    Float,
    Int,
    When,
    conditions_of,
    has_effect,
    inactive_fields,
    narrow,
    parents_first,
    space_of,
)
from search_spaces.sparse import SparseConfig
from search_spaces.supervised import SupervisedConfig

SPACE = {"lr": Float(1e-4, 1e-2, log=True), "layers": Int(1, 4), "act": Choice("relu", "gelu")}


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (Float(0.0, 1.0), [0, 0.0, 0.5, 1.0], [-0.1, 1.1, "0.5", True, None]),
        (Int(1, 4), [1, 4], [0, 5, 2.0, True]),
        (Choice(8, 16), [8, 16], [8.0, 9, "8"]),
        (Choice(True, False), [True], [1, 0]),
    ],
)
def test_membership(range_, inside, outside):
    assert all(value in range_ for value in inside)
    assert not any(value in range_ for value in outside)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Float(1.0, 1.0),
        lambda: Float(2.0, 1.0),
        lambda: Float(0.0, 1.0, log=True),
        lambda: Float(0.0, float("inf")),
        lambda: Float(0.0, "1"),
        lambda: Int(1, 2.5),
        lambda: Choice(),
        lambda: Choice(1, 1),
    ],
)
def test_an_impossible_range_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_equal_ranges_have_one_text():
    """Annotations that are equal are one object to Python: whichever was made first must not name a study."""
    assert repr(Float(0, 1)) == repr(Float(0.0, 1.0)) == "Float(low=0.0, high=1.0, log=False)"


def test_narrow_keeps_everything_without_a_request():
    assert narrow(SPACE, None) == SPACE


def test_narrow_to_names():
    assert narrow(SPACE, ["lr"]) == {"lr": SPACE["lr"]}


def test_narrow_to_other_ranges():
    narrowed = narrow(SPACE, {"lr": {"high": 1e-3}, "layers": [2, 3], "act": None})
    assert narrowed == {"lr": Float(1e-4, 1e-3, log=True), "layers": Choice(2, 3), "act": SPACE["act"]}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["l"], "did you mean 'lr'"),
        ({"lr": 0.1}, "expected {low"),
        ({"lr": {"step": 0.1}}, "a range has no 'step'.* Known: high, log, low"),
        ({"lr": {1: 2}}, "a range has no '1'"),
        ({"lr": {"high": 10**400}}, "beyond all numbers"),
        ({"lr": {"low": 1.0}}, "low < high"),
        ({"act": {"low": 1}}, "list of options"),
        ("lr", "list of names"),
    ],
)
def test_narrow_names_the_mistake(overrides, words):
    with pytest.raises(ConfigError, match=words):
        narrow(SPACE, overrides)


def test_space_follows_the_fields():
    space = space_of(SupervisedConfig)
    shared = [
        "head_c", "lr_ratio_body", "layer_decay",
        "flip", "rotation", "shift", "zoom", "brightness", "contrast", "strong_ops", "strong_pool", "cut_out",
        "schedule", "decay_start", "warm_up", "average",
        "pretext_batch", "pretext_lr", "pretext_weight_decay", "pretext_temperature", "pretext_momentum",
        "pretext_queue", "pretext_projector", "pretext_crop", "pretext_light", "pretext_blur",
    ]  # fmt: skip
    own = ["batch_size", "lr", "beta1", "weight_decay", "dropout", "mixup_alpha", "label_smoothing"]
    assert list(space) == [*shared, *own]
    assert "classifier" not in space


@dataclass(frozen=True, kw_only=True)
class Phased(MethodConfig):
    """Children stand before their parents, one parent is not searched."""

    scope: Annotated[str, Choice("all", "labels"), When("share", above=0.0)] = "all"
    share: Annotated[float, Float(0.0, 1.0), When("mu", above=0), When("mask", equals=True)] = 0.5
    lr: Annotated[float, Float(0.1, 1.0)] = 0.5
    mu: Annotated[int, Choice(0, 1, 5)] = 1
    mask: bool = True


@pytest.mark.parametrize(
    ("when", "text", "holds", "fails"),
    [
        (When("mu", above=0), "mu > 0", [1, 0.1], [0, 0.0, -1]),
        (When("mask", equals=True), "mask = true", [True], [False]),
        (When("mask", equals=False), "mask = false", [False], [True]),
        (When("loss", equals="ce"), "loss = ce", ["ce"], ["bce"]),
    ],
)
def test_conditions(when, text, holds, fails):
    assert str(when) == text
    assert all(when.holds(value) is True for value in holds)
    assert all(when.holds(value) is False for value in fails)


@pytest.mark.parametrize("wrong", [{}, {"above": 0, "equals": True}])
def test_a_condition_says_one_thing(wrong):
    with pytest.raises(TypeError, match="'mu' needs either"):
        When("mu", **wrong)


def test_conditions_stand_beside_the_range():
    assert space_of(Phased)["share"] == Float(0.0, 1.0)
    assert conditions_of(Phased) == {
        "scope": (When("share", above=0.0),),
        "share": (When("mu", above=0), When("mask", equals=True)),
    }


@pytest.mark.parametrize(
    ("changes", "inactive"),
    [
        ({}, []),
        ({"share": 0.0}, ["scope"]),
        ({"mask": False}, ["scope", "share"]),
        ({"mu": 0}, ["scope", "share"]),
    ],
)
def test_a_field_without_effect_takes_its_children_with_it(changes, inactive):
    values = write_config(Phased(**changes))
    assert inactive_fields(Phased, values) == inactive
    assert not any(has_effect(name, values, conditions_of(Phased)) for name in inactive)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["scope", "share", "lr", "mu"], ["mu", "share", "scope", "lr"]),
        (["scope", "lr", "mu"], ["mu", "scope", "lr"]),
        (["lr", "mu", "share"], ["lr", "mu", "share"]),
        (["scope"], ["scope"]),
    ],
)
def test_parents_come_first_and_the_rest_stays(names, ordered):
    space = narrow(space_of(Phased), names)
    found = parents_first(space, conditions_of(Phased))
    assert list(found) == ordered
    assert found == space


@pytest.mark.parametrize(
    ("config", "inactive"),
    [
        (SparseConfig(), []),
        (SparseConfig.preset("paper"), []),
        (
            SparseConfig.preset("reference"),
            ["w_mutual", "lambda_kl", "percentile", "ens_blend", "ema_momentum", "mask_scope", "percentile_by_class"],
        ),
        (SupervisedConfig(), []),
        (SupervisedConfig.preset("plain"), []),
        (SupervisedConfig(strong_ops=1, schedule="linear"), []),
        (SupervisedConfig(pretext="byol"), ["pretext_temperature", "pretext_queue"]),
        (SupervisedConfig(pretext="simclr"), ["pretext_momentum", "pretext_queue"]),
        (SupervisedConfig(pretext="moco"), []),
    ],
    ids=[
        "sparse",
        "sparse paper",
        "sparse reference",
        "supervised",
        "supervised plain",
        "supervised all",
        "byol",
        "simclr",
        "moco",
    ],
)
def test_what_the_presets_leave_without_effect(config, inactive):
    without_strong_changes = [] if config.strong_ops else ["strong_pool", "cut_out"]
    without_a_start = [] if config.schedule == "linear" else ["decay_start"]
    without_a_fitted_head = (
        ["head_c", "lr_ratio_body", "layer_decay"] if getattr(config, "head_start", "") == "random" else []
    )
    without_a_pretext = [
        name for name in space_of(type(config)) if name.startswith("pretext") and not config.has_pretext
    ]
    expected = [*without_strong_changes, *without_a_start, *without_a_fitted_head, *without_a_pretext, *inactive]
    assert sorted(inactive_fields(type(config), write_config(config))) == sorted(expected)
