"""An exported configuration trained again, and the lock on the test set."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from search_spaces.core.errors import ConfigError, ResultsError
from search_spaces.core.yaml_files import dump_yaml
from sparse_search.best.retrain import evaluate, reproduce
from sparse_search.results.ledger import looks, num_looks
from trainables.core.method import Labelled
from trainables.data.tasks import test_set as whole_test_set
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial

TRIAL = {
    "method": "supervised", "config": {"classifier": "test_resnet", "image_size": 16, "lr": 1e-3}, "dataset": "digits",
    "shots": 2, "label_sets": [0, 1], "images": 60, "evaluate_every": 20, "selection": "mean3",
}  # fmt: skip


def trained(task_of):
    """Balanced accuracies of the runs on what `task_of` makes of their tasks."""
    scores = []
    for run in runs_of_trial(Trial.from_dict(TRIAL)):
        *_, last = run.train(task_of(run.task(None)))
        scores.append(last)
    return scores


@pytest.fixture(scope="module")
def validated():
    return [last.selected["supervised"].metric("balanced_accuracy") for last in trained(lambda task: task)]


@pytest.fixture
def exported(tmp_path, validated):
    """A maker of an exported file; changes are to its evidence."""
    task = runs_of_trial(Trial.from_dict(TRIAL))[0].task(None)

    def write(**changes):
        score = sum(validated) / 2
        evidence = {
            "predictor": "supervised", "run_ids": [], "dataset": "digits", "content_hash": task.provenance.content_hash,
            "scores": {"balanced_accuracy": score}, "versions": {"torch": "1.0"},
            "interval_95": {"metric": "balanced_accuracy", "low": score - 0.1, "high": score + 0.1},
        }  # fmt: skip
        path = tmp_path / "best.yaml"
        path.write_text(dump_yaml(TRIAL | {"evidence": evidence | changes}))
        return path

    return write


def test_trained_again_it_gives_the_same_digits(exported):
    told = []
    found = reproduce(exported(), tell=lambda about, share: told.append((about, share)))
    assert found.is_equal
    assert found.is_inside
    assert found.changed["torch"][0] == "1.0"
    assert {about for about, _ in told} == {"label set 0", "label set 1"}
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[-1][1] > 0.9


def test_other_digits_count_inside_the_interval_only(exported, validated):
    score = sum(validated) / 2
    assert reproduce(exported(scores={"balanced_accuracy": score + 0.05})).is_inside
    far = {"metric": "balanced_accuracy", "low": score + 0.1, "high": score + 0.3}
    found = reproduce(exported(scores={"balanced_accuracy": score + 0.2}, interval_95=far))
    assert not found.is_equal
    assert not found.is_inside


def test_other_data_are_refused(exported):
    with pytest.raises(ResultsError, match="other content"):
        reproduce(exported(content_hash="c0ffee"))


def test_a_predictor_that_the_method_does_not_have_is_refused_before_training(exported):
    for again in (reproduce, lambda path: evaluate(path, why="to see", unlock_test=True)):
        with pytest.raises(ConfigError, match="has no predictor 'sparse', which the evidence names"):
            again(exported(predictor="sparse"))


@pytest.mark.parametrize("evidence", [None, {"predictor": "supervised"}])
def test_what_is_no_export_is_refused(tmp_path, evidence):
    (tmp_path / "best.yaml").write_text(dump_yaml(TRIAL | ({"evidence": evidence} if evidence else {})))
    with pytest.raises(ResultsError, match="evidence"):
        reproduce(tmp_path / "best.yaml")


ODD = (
    None,
    5,
    "x",
    [1],
    {"a": 1},
    {"a": "b"},
    [],
    {},
    True,
    ["../../x"],
    float("nan"),
    {"metric": {}},
    {"metric": [1]},
)


@pytest.mark.parametrize(
    "key", ["predictor", "scores", "interval_95", "content_hash", "dataset", "run_ids", "versions"]
)
def test_evidence_of_wrong_types_is_named(exported, key):
    right = {"predictor": str, "content_hash": str, "dataset": str}
    for value in ODD:
        if (
            isinstance(value, right.get(key, ()))
            or (key == "run_ids" and value == [])
            or (key == "versions" and value in ({}, {"a": "b"}))
        ):
            continue
        with pytest.raises(ResultsError, match=r"evidence has an odd '(interval_95|scores|" + key + ")'"):
            reproduce(exported(**{key: value}))


def test_the_test_set_is_locked(exported, tmp_path):
    with pytest.raises(ResultsError, match="--unlock-test"):
        evaluate(exported(), tmp_path / "results", why="curious")
    with pytest.raises(ResultsError, match="--why"):
        evaluate(exported(), tmp_path / "results", why=" ", unlock_test=True)
    assert list(looks(tmp_path / "results")) == []


def test_a_look_is_what_the_networks_say_of_the_test_images_and_is_kept(exported, tmp_path, validated):
    results = tmp_path / "results"
    look = evaluate(exported(), results, why="all is decided", unlock_test=True)
    images = whole_test_set("digits")
    direct = [last.scores["supervised"] for last in trained(lambda task: replace(task, validation=images))]
    assert [run["confusion"] for run in look.test["supervised"]["runs"]] == [
        [list(row) for row in scores.confusion] for scores in direct
    ]
    assert look.test["supervised"]["balanced_accuracy"] == sum(s.metric("balanced_accuracy") for s in direct) / 2
    assert look.validated["supervised"]["balanced_accuracy"] == sum(validated) / 2
    assert look.test["supervised"]["low"] < look.test["supervised"]["balanced_accuracy"]
    assert look.num_images == len(images)
    evaluate(exported(), results, why="once more", unlock_test=True)
    assert [seen.why for seen in looks(results)] == ["all is decided", "once more"]
    assert num_looks(results) == {look.content_hash: 2}


def test_nothing_is_shown_when_the_ledger_cannot_be_written(exported, tmp_path):
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(ResultsError, match="nothing was shown"):
        evaluate(exported(), tmp_path / "results", why="all is decided", unlock_test=True)


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "x.json").write_text(json.dumps({"who": "me"}))
    with pytest.raises(ResultsError, match=r"x\.json"):
        list(looks(tmp_path))


def test_r4_a_look_goes_where_the_file_came_from(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "came from").mkdir()
    evaluate(exported(results=str(tmp_path / "came from")), why="all is decided", unlock_test=True)
    assert len(list(looks(tmp_path / "came from"))) == 1
    assert not (tmp_path / "results").exists()
    with pytest.raises(ResultsError, match=r"came from \(.*gone\) are not there; name those .* with --results"):
        evaluate(exported(results=str(tmp_path / "gone")), why="once more", unlock_test=True)


def test_test_images_may_come_later(exported, tmp_path):
    """Those of the data set's own test split, as pictures in a table: the same scores."""
    images, folder = whole_test_set("digits"), tmp_path / "ward"
    folder.mkdir()
    lines = ["path,label"]
    for number in range(40):
        Image.fromarray(images.images_NCHW[number, 0].numpy()).save(folder / f"{number:02}.png")
        lines.append(f"{number:02}.png,{images.labels_N[number]}")
    (folder / "later.csv").write_text("\n".join(lines))
    look = evaluate(exported(), tmp_path / "results", why="now", unlock_test=True, on=folder / "later.csv")
    few = Labelled(images.images_NCHW[:40], images.labels_N[:40])
    direct = [last.scores["supervised"] for last in trained(lambda task: replace(task, validation=few))]
    assert [run["confusion"] for run in look.test["supervised"]["runs"]] == [
        [list(row) for row in scores.confusion] for scores in direct
    ]
    assert (look.num_images, look.why) == (40, "now (on later.csv)")
