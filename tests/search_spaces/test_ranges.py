import pytest

from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, Float, Int, narrow, space_of
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
        ({"lr": {"lowest": 0.1}}, "lowest"),
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
    assert list(space) == ["batch_size", "lr", "beta1", "weight_decay", "dropout", "w_mixup", "mixup_alpha"]
    assert "classifier" not in space
