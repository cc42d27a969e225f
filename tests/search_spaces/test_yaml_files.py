import math

import pytest

from search_spaces.core.errors import ConfigError
from search_spaces.core.yaml_files import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "+1.0e-4", "1.e-4", ".1e-3"])
def test_scientific_notation_is_a_number(text):
    assert parse_yaml(f"lr: {text}", "here") == {"lr": pytest.approx(1e-4)}


@pytest.mark.parametrize("text", ["1e", "e-4", "1e-4x", "v1e-4"])
def test_text_stays_text(text):
    assert parse_yaml(f"name: {text}", "here") == {"name": text}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "'a' stands twice"),
        ("a: {b: 1, b: 2}", "'b' stands twice"),
        ("x: 1\na:\n  b: 1\n  b: 2", r"sweep.yaml is not valid YAML: key 'b' stands twice \(line 4, column 3\)"),
        ("x: 1\nname: 007", r"007 may be .*; write 7, or '007' in quotes for a text \(line 2, column 7\)"),
        ("a: {<<: 3}", "<< stands before a mapping"),
        ("max_hours: -010", "write 10, or '-010' in quotes"),
        ("- a\n- b", "expected 'key: value' lines, got list"),
        ("a: [1", "not valid YAML"),
        ("", "got NoneType"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        *(
            (f"a: {odd}", "not valid YAML")
            for odd in (
                "2026-13-45",
                "!!int foo",
                "!!float foo",
                "!!bool foo",
                "!!timestamp foo",
                "9" * 5000,
                "[" * 900 + "]" * 900,
            )
        ),
        ("a: &a [*a]", "a value holds itself"),
        ('a: "\\ud800"', "half a character"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
            "more than 100,000 values",
        ),
    ],
)
def test_mistakes_are_one_line(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_yaml(text, "sweep.yaml")
    assert "sweep.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("10_000", 10_000), ("0", 0), ("-3", -3), ("0.05", 0.05), (".5", 0.5),
        ("5.", 5.0), ("0x1F", 31), ("'007'", "007"), ("1.2.3", "1.2.3"), (".inf", math.inf), ("28x28", "28x28"),
    ],
)  # fmt: skip
def test_numbers_are_what_they_look_like(text, value):
    found = parse_yaml(f"a: {text}", "here")["a"]
    assert (found, type(found)) == (value, type(value))


def test_merged_keys_are_defaults_also_of_what_is_read_first():
    text = "base: &b {k: 1, m: 1}\nx: {a: &a {<<: *b, k: 2}}\nc: {<<: *a, m: 3}\nd: {<<: [*a, *b], e: 0}"
    values = parse_yaml(text, "here")
    assert values["x"]["a"] == {"k": 2, "m": 1}
    assert values["c"] == {"k": 2, "m": 3}
    assert values["d"] == {"k": 2, "m": 1, "e": 0}


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    values = {"b": 1e-4, "a": [1, 2], "c": {"x": None, "y": "1e-4", "z": ["007", "08", "1:30", "5.", "no", "<<"]}}
    path.write_text(dump_yaml(values))
    assert read_yaml(path) == values
    assert list(read_yaml(path)) == ["b", "a", "c"]
    with pytest.raises(ConfigError, match=r"cannot read .*missing.yaml: No such file"):
        read_yaml(tmp_path / "missing.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        read_yaml(path)
