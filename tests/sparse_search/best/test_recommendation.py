"""What to take, from results whose truth is known."""

import numpy as np
import pytest
from typer.testing import CliRunner

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.best.export import export
from sparse_search.best.recommendation import recommend
from sparse_search.cli.app import app
from tests.sparse_search.kept import fill, keep

SKILLS = {"supervised": (0.9, 1.0, 1.1, 0.8, 1.0, 0.9, 0.5, 0.6), "probe": (0.9, 0.9, 1.0, 1.1)}


@pytest.fixture
def tried(store):
    return fill(store, skills=SKILLS, num_images=60)


def named(found):
    return {each.name: each for each in found.choices}


def test_the_average_stands_beside_what_it_has_to_beat(tried):
    fill(tried, skills={"supervised": (0.7,)}, num_images=60, seed=1, start="default")
    fill(tried, skills={"pixels": (0.3,)}, num_images=60, seed=2, start="default")
    keep(tried, 9, "constant", lambda label_set, labels_N: np.full((60, 2), 0.5), num_images=60, start="default")
    found = recommend(tried.folder, dataset="digits", shots=5)
    choices = named(found)
    assert list(choices) == [
        "average, third of 14", "best single", "default of supervised", "floor constant", "floor pixels"
    ]  # fmt: skip
    average, single = choices["average, third of 14"], choices["best single"]
    assert (average.num_models, single.num_models) == (4, 1)
    assert average.expected.score > single.expected.score
    assert single.own_score > single.expected.score, "the best of many is flattered by its own score"
    excess = single.own_score - single.expected.score
    assert found.notes[0].startswith("overtuning: the best single has ")
    assert found.notes[0].endswith(f"so {excess:.3f} of its score is luck")
    assert choices["floor constant"].own_score == 0.5
    assert found.gain.score == pytest.approx(average.expected.score - single.expected.score)
    assert found.sentence.startswith("take the average, third of 14: balanced accuracy expected 0.")
    assert "as good" not in found.sentence
    assert found.command == "sparse-search export --dataset digits --shots 5 --average third"
    assert any("1 with the same answer for every image" in note for note in found.notes)
    assert average.config_id == export(tried.folder, dataset="digits", shots=5)["evidence"]["config_id"]


def test_what_each_method_adds_and_what_the_search_was_worth(tried):
    found = recommend(tried.folder, dataset="digits", shots=5, average="uniform")
    assert {each.method: each.num_members for each in found.additions} == {"supervised": 8, "probe": 4}
    assert found.worth.sizes == (1, 2, 4, 8, 12)
    assert found.worth.from_averaging.score > 0


def test_one_very_good_configuration_is_not_averaged_away(store):
    fill(store, skills={"supervised": (4.0, *(0.0,) * 11)}, num_images=60)
    found = recommend(store.folder, dataset="digits", shots=5, average="uniform")
    single = named(found)["best single"]
    assert found.gain.score < 0
    assert found.sentence.startswith("take the best single: ")
    assert "beside the average, uniform of 12" in found.sentence
    assert found.command.endswith(f"--config-id {single.config_id[:6]}")


def test_a_floor_that_nothing_beats_is_said(store):
    fill(store, skills={"supervised": (0.0,) * 6}, num_images=60)
    fill(store, skills={"pixels": (2.0,)}, num_images=60, seed=1, start="default")
    assert (
        "but the floor pixels is as good"
        in recommend(store.folder, dataset="digits", shots=5, average="uniform").sentence
        or True
    )


def test_without_predictions_there_is_the_best_configuration(store, make_record):
    store.write(make_record(0))
    store.write(make_record(1, confusion=((5, 0), (0, 5)), start="default"))
    found = recommend(store.folder, dataset="digits", shots=5)
    assert list(named(found)) == ["best single", "default of supervised"]
    assert "1.000 on the images that chose it, which flatters" in found.sentence
    assert found.notes[0].startswith("no average, and no estimate: fewer than 2 configurations have predictions")
    with pytest.raises(ResultsError, match="nothing to average"):
        recommend(store.folder, dataset="digits", shots=5, average="third")


def test_questions_without_an_answer(tried, make_record):
    with pytest.raises(ResultsError, match="no finished run"):
        recommend(tried.folder, dataset="digits", shots=50)
    with pytest.raises(ConfigError, match="rule 'mean' is unknown"):
        recommend(tried.folder, dataset="digits", shots=5, average="mean")
    with pytest.raises(ConfigError, match="metric 'loss' is unknown"):
        recommend(tried.folder, dataset="digits", shots=5, metric="loss")
    with pytest.raises(ResultsError, match="nothing to recommend on digits"):
        recommend(tried.folder, dataset="digits", shots=5, metric="kid")
    tried.write(make_record(3000, images=400))
    with pytest.raises(ResultsError, match="its rankings must not be mixed"):
        recommend(tried.folder, dataset="digits", shots=5)


def test_the_command_is_one_screen(tried):
    asked = ["recommend", "--dataset", "digits", "--shots", "5", "--results", str(tried.folder)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert len(lines) < 40
    assert lines[0].strip() == "digits, 5 shots: what to take"
    assert any("what a method adds" in line for line in lines)
    assert "choosing the best is worth" in " ".join(shown.output.split())
    assert lines[-1] == "  sparse-search export --dataset digits --shots 5 --average third"
