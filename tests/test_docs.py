"""README, docs and CONTRIBUTING beside the code: what they name exists, and what there is to set they name."""

import re
import shlex
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main
import yaml

from search_spaces.core.errors import ConfigError
from search_spaces.core.methods import config_of
from sparse_search.cli.app import app
from sparse_search.search.choices import find_pruner, find_sampler, pruner_names, sampler_names
from sparse_search.search.options import options_of
from sparse_search.search.sweep_file import CHOICES, KEYS, OBJECTIVES, parse_sweep
from trainables.__main__ import _parser
from trainables.core.method import method_names

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "results/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
README = PAGES[0].read_text()
FOLDERS = ("bench", "docs", "examples", "tests", "sparse_search", "search_spaces", "trainables", ".ci")
COMMANDS = typer.main.get_command(app).commands
TRAINABLES_FLAGS = {flag for action in _parser()._actions for flag in action.option_strings}
FLAGS = {
    name: {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
    for name, command in COMMANDS.items()
}
FOREIGN_FLAGS = {"--tmux", "--nproc-per-node"}
"""Of `ray submit` and `torchrun`."""

READERS_OWN = {"mine", "nearest", "npy_folder"}
"""Modules that the recipes tell the reader to write."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_of(page):
    """Every line of a fenced block, continued ones as one, and every code span."""
    text = page.read_text()
    blocks = [re.sub(r"\\\n\s*", "", body).splitlines() for _, body in FENCE.findall(text)]
    spans = re.findall(r"`([^`]+)`", FENCE.sub("", text))
    return [*(line for lines in blocks for line in lines), *(" ".join(span.split()) for span in spans)]


def words_of(line, command):
    """The words after each mention of a command in a line of code, up to a comment or the next command."""
    for mention in line.split(command)[1:]:
        try:
            words = shlex.split(re.split(r"[#;|&)]", mention)[0])
        except ValueError:  # a quotation that goes on in the next line
            words = mention.split()
        yield words


def table_of(text, first):
    """Rows of the table whose first column has this title: lists of cells."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


def declared(build):
    """The cell of a table that says everything about the options of a sampler or pruner."""
    options = (f"`{name}` ({option.default}; {option})" for name, option in options_of(build).items())
    return ", ".join(options).replace("|", "\\|")


@pytest.mark.parametrize(
    ("first", "names", "find"), [("sampler", sampler_names, find_sampler), ("pruner", pruner_names, find_pruner)]
)
def test_every_option_of_samplers_and_pruners_is_listed_with_default_and_range(first, names, find):
    rows = table_of((ROOT / "docs/search.md").read_text(), first)
    assert {named(row[0])[0]: row[-1] for row in rows} == {name: declared(find(name).build) for name in names()}
    assert len(rows) == len(names()), "each row once"


def test_the_table_of_methods_is_that_of_the_code():
    rows = table_of(README, "method")
    assert {named(row[0])[0]: named(row[-1]) for row in rows} == {
        name: list(config_of(name).presets) for name in method_names()
    }
    assert len(rows) == len(method_names())


def example():
    """The block of the README that is a whole sweep file."""
    return next(body for language, body in FENCE.findall(README) if language == "yaml" and "methods:" in body)


def test_the_sweep_in_the_readme_is_legal():
    sweep = parse_sweep(yaml.safe_load(example()))
    assert sweep.name == "my-sweep"
    assert [plan.name for plan in sweep.methods] == ["sparse", "supervised", "constant"]


def test_the_choices_beside_the_sweep_in_the_readme_exist():
    told = {}
    for key, value, others in re.findall(r"^(\w+): ([\w-]+) +# or ([^(:\n]+)", example(), re.MULTILINE):
        told[key] = {value, *re.split(r", ", others.strip())}
    for key in ("validation", "selection"):
        assert told[key] == set(CHOICES[key]), key
    assert told["objective"] == set(OBJECTIVES["classification"])
    assert told["sampler"] <= set(sampler_names())
    assert told["pruner"] <= set(pruner_names())


def test_every_key_of_a_sweep_is_documented():
    text = "\n".join(page.read_text() for page in PAGES)
    with pytest.raises(ConfigError, match="expected trials") as caught:
        parse_sweep({"name": "x", "datasets": ["digits"], "shots": [5], "methods": {"constant": 3}})
    of_plan = re.search(r"expected ([\w, ]+);", str(caught.value))[1].split(", ")
    for key in (*KEYS, *of_plan):
        assert re.search(rf"`{key}\b|\b{key}:", text), key


def test_yaml_blocks_have_legal_keys():
    keys = set(KEYS)
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text()):
            if language == "yaml":
                assert set(re.findall(r"^(\w+):", body, re.MULTILINE)) <= keys, page


@each_page
def test_commands_and_their_flags_exist(page):
    for line in code_of(page):
        for words in words_of(line, "sparse-search "):
            if not words or not re.fullmatch("[a-z]+", words[0]):
                continue
            assert words[0] in COMMANDS, line
            flags = {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)}
            assert flags <= FLAGS[words[0]], line


@each_page
def test_runs_without_ray_name_what_exists(page):
    for line in code_of(page):
        for words in words_of(line, "-m trainables"):
            flags = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert flags <= TRAINABLES_FLAGS, line
            if words and words[0] in method_names():
                config = config_of(words[0])
                given = [value for flag, value in pairwise(words) if flag == "--set"]
                assert {value.partition("=")[0] for value in given} <= {field.name for field in fields(config)}, line
                presets = [value for flag, value in pairwise(words) if flag == "--preset"]
                assert set(presets) <= {*config.presets}, line


@each_page
def test_flags_that_stand_alone_exist(page):
    known = TRAINABLES_FLAGS.union(*FLAGS.values(), FOREIGN_FLAGS)
    for line in code_of(page):
        if line.startswith("--"):
            assert re.match("--[a-z-]+", line)[0] in known, line


@each_page
def test_targets_of_make_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in code_of(page):
        for target in re.findall(r"(?:^|\s)make ([a-z-]+)", line.partition("#")[0]):
            assert target in targets, line


@each_page
def test_files_exist(page):
    """Those of the project's folders, and modules named alone, but for those that the reader writes."""
    text = page.read_text()
    folders = "|".join(map(re.escape, FOLDERS))
    for path in re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w", text):
        assert Path(path).stem.removeprefix("test_") in READERS_OWN or (ROOT / path).exists(), path
    known = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", text)) <= known | {f"{name}.py" for name in READERS_OWN}


def slug(title):
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match("https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", FENCE.sub("", file.read_text()), re.MULTILINE)
            assert anchor in map(slug, titles), target
