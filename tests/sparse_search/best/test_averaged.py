"""Averages in exported files."""

import pytest

from search_spaces.core.config import write_config
from search_spaces.core.errors import ConfigError, ResultsError
from search_spaces.pixels import PixelsConfig
from search_spaces.supervised import SupervisedConfig
from sparse_search.analysis.leaderboard import board
from sparse_search.best.decisions import compare_decisions
from sparse_search.best.export import export, read_export, write_export
from sparse_search.best.picture_rules import compare_rules
from tests.sparse_search.kept import fill
from trainables.training.average import Average

SUPERVISED = write_config(SupervisedConfig(image_size=32))


@pytest.fixture
def kept(store):
    return fill(store, skills={"supervised": (0.5, 0.8, 1.0, 1.2, 0.7, 0.9)}, label_sets=(0, 1), config=SUPERVISED)


def only_average(store, rule="third"):
    rows = board(store).ranked.to_pylist()
    return next(row for row in rows if row["start"].startswith(rule))


def test_the_answer_is_an_average(kept, tmp_path):
    values = export(kept.folder, dataset="digits", shots=5, output=tmp_path / "best.yaml")
    row, evidence = only_average(kept), values["evidence"]
    assert {"method", "config"}.isdisjoint(values)
    assert (evidence["predictor"], evidence["config_id"]) == ("average", row["config_id"])
    assert evidence["scores"] == {name: row[name] for name in evidence["scores"]}
    assert evidence["interval_95"] == {"metric": "balanced_accuracy", "low": row["low"], "high": row["high"]}
    assert evidence["best_of"] == "third of 6 configurations of supervised, 2 with a weight"
    assert set(evidence["over_label_sets"]["scores"]) == {0, 1}
    expected = evidence["expected"]
    assert expected["gain"]["score"] == pytest.approx(expected["average"]["score"] - expected["best_single"]["score"])
    assert expected["in_words"].startswith("balanced accuracy on new images of the same kind, estimated from 40")
    average = Average.from_dict(read_export(tmp_path / "best.yaml")[0])
    assert (average.rule, average.weights) == ("third", (0.5, 0.5))
    assert all(member.trial.label_sets == (0, 1) for member in average.members)
    assert evidence["run_ids"] == [run_id for member in average.members for run_id in member.run_ids]
    head = (tmp_path / "best.yaml").read_text().splitlines()
    assert head[0] == "# average of 2 configurations for digits, 5 labelled images per class."
    assert head[1] == "# Train it again:  python -m trainables --config best.yaml"


def test_what_is_written_is_read(kept, tmp_path):
    values = export(kept.folder, dataset="digits", shots=5, average="tempered")
    write_export(values, tmp_path / "best.yaml")
    read, evidence = read_export(tmp_path / "best.yaml")
    assert read | {"evidence": evidence} == values


def test_a_member_says_in_what_it_differs(store):
    fill(store, skills={"supervised": (0.5, 0.8)}, config=SUPERVISED)
    pixels = write_config(PixelsConfig(image_size=32))
    fill(store, skills={"pixels": (0.6,)}, seed=1, config=pixels, threads=3)
    values = export(store.folder, dataset="digits", shots=5, average="uniform")
    members = {member["method"]: member for member in values["average"]["members"]}
    assert {values["threads"], members["pixels"].get("threads"), members["supervised"].get("threads")} == {1, 3, None}
    average = Average.from_dict({name: value for name, value in values.items() if name != "evidence"})
    threads = {member.trial.method: member.trial.conditions.threads for member in average.members}
    assert threads == {"supervised": 1, "pixels": 3}


def test_one_configuration_where_it_is_asked_for_or_alone(kept, store, tmp_path):
    single = export(kept.folder, dataset="digits", shots=5, single=True)
    assert single["method"] == "supervised"
    named = export(kept.folder, dataset="digits", shots=5, config_id=single["evidence"]["config_id"])
    assert named["method"] == "supervised"
    with pytest.raises(ConfigError, match="two answers"):
        export(kept.folder, dataset="digits", shots=5, average="third", single=True)


def test_the_best_third_of_few_is_one_configuration(store):
    fill(store, skills={"supervised": (0.5, 0.8, 1.0, 1.2, 0.7)}, config=SUPERVISED)
    assert export(store.folder, dataset="digits", shots=5)["method"] == "supervised"
    assert len(export(store.folder, dataset="digits", shots=5, average="third")["average"]["members"]) == 1


def test_nothing_to_average(store, make_record):
    store.write(make_record(0))
    assert export(store.folder, dataset="digits", shots=5)["method"] == "supervised"
    with pytest.raises(ResultsError, match="nothing to average: no configuration has predictions"):
        export(store.folder, dataset="digits", shots=5, average="third")
    fill(store, skills={"supervised": (0.5,)}, config=SUPERVISED)
    with pytest.raises(ResultsError, match="nothing to average: 1 configuration has predictions"):
        export(store.folder, dataset="digits", shots=5, average="third")
    with pytest.raises(ConfigError, match="rule 'best' is unknown"):
        export(store.folder, dataset="digits", shots=5, average="best")


def test_the_greedy_rule_waits_for_images(kept):
    with pytest.raises(ResultsError, match=r"'greedy' fits itself to 40 judging images; take uniform or third or"):
        export(kept.folder, dataset="digits", shots=5, average="greedy")


@pytest.mark.parametrize("question", [compare_decisions, compare_rules])
def test_rules_are_compared_for_one_configuration(kept, tmp_path, question):
    export(kept.folder, dataset="digits", shots=5, output=tmp_path / "best.yaml")
    with pytest.raises(ResultsError, match=r"is an average.*--single"):
        question(tmp_path / "best.yaml", kept.folder)


def test_what_was_searched_is_averaged_rather_than_the_few_that_were_confirmed(kept):
    confirmed = {"study": "study confirmation", "config": SUPERVISED}
    fill(kept, skills={"supervised": (0.5, 0.8)}, label_sets=(5, 6, 7), seed=9, **confirmed)
    assert export(kept.folder, dataset="digits", shots=5)["label_sets"] == [0, 1]
    assert export(kept.folder, dataset="digits", shots=5, single=True)["label_sets"] == [5, 6, 7]


def test_rankings_that_differ_in_more_than_label_sets_are_not_mixed(kept):
    fill(kept, skills={"supervised": (0.5, 0.8)}, label_sets=(0, 1), seed=9, config=SUPERVISED, images=400)
    with pytest.raises(ResultsError, match="of rankings that must not be mixed"):
        export(kept.folder, dataset="digits", shots=5, average="third")


def test_sizes_and_pretraining_are_the_configurations_own(kept):
    pretrained = write_config(SupervisedConfig(image_size=64, pretrained="imagenet"))
    fill(kept, skills={"supervised": (0.5, 0.8)}, label_sets=(0, 1), seed=9, config=pretrained)
    with pytest.raises(ResultsError, match="2 rankings fit"):
        export(kept.folder, dataset="digits", shots=5, single=True)
    values = export(kept.folder, dataset="digits", shots=5, average="uniform")
    assert {member["config"]["image_size"] for member in values["average"]["members"]} == {32, 64}
