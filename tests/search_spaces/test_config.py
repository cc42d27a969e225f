from dataclasses import dataclass
from typing import Annotated

import pytest

from search_spaces.core.config import MethodConfig, canonical_json, read_config, short_hash, write_config
from search_spaces.core.errors import ConfigError, suggestion
from search_spaces.core.ranges import Float, When
from search_spaces.sparse import SparseConfig


def test_round_trip():
    config = SparseConfig(lr=0.05, mu=0, pretrained="weights.pt")
    assert read_config(SparseConfig, write_config(config)) == config


def test_a_whole_number_is_a_number():
    assert read_config(SparseConfig, {"lambda_rec": 10}).lambda_rec == 10.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"percentil": 0.5}, "no field 'percentil'; did you mean 'percentile'"),
        ({"percentile": 1.7}, "percentile: 1.7 is impossible, expected between 0 and 0.99"),
        ({"percentile": "0.5"}, "percentile: expected a number, got '0.5'"),
        ({"percentile": True}, "expected a number, got True"),
        ({"lr": float("nan")}, "finite"),
        ({"mu": 2.5}, "mu: expected a whole number, got 2.5"),
        ({"mu": -1}, "mu: -1 is impossible, expected at least 0"),
        ({"mask": 1}, "mask: expected true or false"),
        ({"class_loss": "mse"}, "expected one of: ce, bce_sum"),
        ({"image_size": 4}, "image_size: 4 is impossible"),
    ],
)
def test_errors_name_field_value_and_expectation(values, words):
    with pytest.raises(ConfigError, match=words):
        read_config(SparseConfig, values)


def test_presets_with_changes():
    config = SparseConfig.preset("reference", lr=1e-3)
    assert (config.class_loss, config.mask, config.lr) == ("bce_sum", False, 1e-3)
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        SparseConfig.preset("papers")


def test_a_default_outside_its_range_fails_at_import():
    with pytest.raises(TypeError, match="outside"):

        @dataclass(frozen=True, kw_only=True)
        class Wrong(MethodConfig):
            lr: Annotated[float, Float(0.1, 1.0)] = 2.0


def test_a_condition_on_an_unknown_field_fails_at_import():
    with pytest.raises(TypeError, match=r"Wrong.lr: condition on an unknown field 'mo'"):

        @dataclass(frozen=True, kw_only=True)
        class Wrong(MethodConfig):
            mu: int = 1
            lr: Annotated[float, Float(0.1, 1.0), When("mo", above=0)] = 0.5


def test_conditions_in_a_circle_fail_at_import():
    with pytest.raises(TypeError, match="Wrong: conditions in a circle: "):

        @dataclass(frozen=True, kw_only=True)
        class Wrong(MethodConfig):
            lr: Annotated[float, Float(0.1, 1.0), When("decay", above=0)] = 0.5
            decay: Annotated[float, Float(0.1, 1.0), When("lr", above=0)] = 0.5


def test_canonical_json_has_one_text_per_content():
    assert canonical_json({"b": 1, "a": 0.1}) == '{"a":0.1,"b":1}'
    assert short_hash({"b": 1, "a": 2}) == short_hash({"a": 2, "b": 1})
    assert short_hash({"a": 1}) != short_hash({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_suggestion():
    assert suggestion("spars", ["sparse", "constant"]) == "; did you mean 'sparse'? Known: constant, sparse."
    assert suggestion("xyz", ["sparse"]) == ". Known: sparse."
