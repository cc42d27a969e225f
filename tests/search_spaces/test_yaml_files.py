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


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    values = {"b": 1e-4, "a": [1, 2], "c": {"x": None, "y": "1e-4"}}
    path.write_text(dump_yaml(values))
    assert read_yaml(path) == values
    assert list(read_yaml(path)) == ["b", "a", "c"]
    with pytest.raises(ConfigError, match=r"cannot read .*missing.yaml: No such file"):
        read_yaml(tmp_path / "missing.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        read_yaml(path)
