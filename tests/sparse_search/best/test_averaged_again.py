"""An average trained again: its members one after the other, the same score to the last digit."""

from dataclasses import replace
from statistics import fmean

import pytest

from search_spaces.core.errors import ResultsError
from search_spaces.core.yaml_files import dump_yaml, read_yaml
from sparse_search.analysis.leaderboard import board
from sparse_search.best.export import export, write_export
from sparse_search.best.retrain import evaluate, reproduce
from sparse_search.results.store import Store
from tests.sparse_search.kept import train
from trainables.__main__ import main
from trainables.data.tasks import test_set as whole_test_set
from trainables.metrics.averaging import score_average
from trainables.training.average import Average
from trainables.training.checkpoint import Checkpoints
from trainables.training.prediction import Oracle
from trainables.training.run import Run
from trainables.training.trial import Trial

SHARED = {"dataset": "digits", "shots": 2, "label_sets": [0, 1], "images": 60, "evaluate_every": 20}
MEMBERS = [
    {"method": "supervised", "config": {"classifier": "test_resnet", "image_size": 16, "lr": 1e-3}},
    {"method": "supervised", "config": {"classifier": "test_resnet", "image_size": 16, "lr": 3e-3}},
    {"method": "pixels", "config": {"image_size": 16}},
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three real configurations, trained once."""
    store = Store(tmp_path_factory.mktemp("averaged") / "results")
    store.prepare()
    for member in MEMBERS:
        train(store, Trial.from_dict(SHARED | member))
    return store


@pytest.fixture
def exported(results, tmp_path):
    path = tmp_path / "best.yaml"
    write_export(export(results.folder, dataset="digits", shots=2, average="uniform"), path)
    return path


def row_of(results):
    return next(row for row in board(results).ranked.to_pylist() if row["start"] == "uniform of 3")


def test_trained_again_it_is_the_row_of_its_board_to_the_last_digit(results, exported):
    told = []
    found = reproduce(exported, tell=lambda about, share: told.append((about, share)))
    assert (found.predictor, found.metric, found.is_equal) == ("average", "balanced_accuracy", True)
    assert found.found == row_of(results)["balanced_accuracy"]
    assert not found.changed
    shares = [share for _, share in told if _ != "preparing pictures"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert told[-1][0].startswith("member 3 of 3, label set 1")


def test_without_ray_too(results, exported, capsys, tmp_path):
    arguments = ["--config", str(exported), "--checkpoints", str(tmp_path / "checkpoints")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    for name in ("balanced_accuracy", "auroc"):
        assert f"{name} {row_of(results)[name]!r}" in told.splitlines()[-1]
    assert "member 2 of 3: " in told
    assert main(arguments) == 0
    assert "(from checkpoint)" in (again := capsys.readouterr().out)
    assert again.splitlines()[-1] == told.splitlines()[-1]


@pytest.mark.parametrize("changes", [["pixels"], ["--preset", "paper"], ["--set", "lr=1"]])
def test_settings_of_a_member_cannot_be_changed(exported, changes, capsys):
    assert main([*changes, "--config", str(exported)]) == 2
    assert "is an average, whose members have settings of their own" in capsys.readouterr().err


def test_killed_in_the_middle_it_goes_on(results, exported, tmp_path, monkeypatch):
    begun, saved = [], []
    monkeypatch.setattr(Run, "train", _spied(Run.train, begun, stop_after=4))
    with pytest.raises(KeyboardInterrupt):
        reproduce(exported, checkpoints=tmp_path / "checkpoints")
    monkeypatch.undo()
    monkeypatch.setattr(Checkpoints, "save", _counted(Checkpoints.save, saved))
    found = reproduce(exported, checkpoints=tmp_path / "checkpoints")
    assert found.found == row_of(results)["balanced_accuracy"]
    assert len(begun) >= 4
    finished = {tmp_path / "checkpoints" / run_id for run_id in begun[:-1]}
    assert finished.isdisjoint(saved), "a finished run was trained again"


def _spied(train_run, begun, stop_after):
    """Run.train that is interrupted in the middle of one, the first from then on that has a middle."""

    def spied(self, task, **options):
        begun.append(self.run_id(task.provenance.content_hash))
        for number, progress in enumerate(train_run(self, task, **options)):
            yield progress
            if len(begun) >= stop_after and number:
                raise KeyboardInterrupt

    return spied


def _counted(save, saved):
    def counted(self, *arguments):
        saved.append(self.folder)
        save(self, *arguments)

    return counted


def test_a_look_at_test_images(results, exported, tmp_path):
    look = evaluate(exported, why="a test", unlock_test=True)
    assert (look.method, look.config_id) == ("average", row_of(results)["config_id"])
    assert look.validated["average"]["balanced_accuracy"] == row_of(results)["balanced_accuracy"]
    average = Average.from_dict({name: value for name, value in read_yaml(exported).items() if name != "evidence"})
    unseen, scores = whole_test_set("digits", None, "classification"), []
    for label_set in (0, 1):
        said = []
        for member in average.members:
            method, learners = member.trial.find_method(), []
            run, under = Run(trial=member.trial, label_set=label_set, fold=0), member.trial.conditions
            task = run.task(None)
            watched = replace(method, build=lambda *parts, b=method.build, to=learners: kept(b(*parts), to))
            *_, end = run.train(task, method=watched)
            asked = Oracle(task, under.statistics).ask(learners[0], unseen, end.epoch, with_pool=False)
            said.append(asked.predictions[member.predictor])
        scores.append(score_average(said, average.weights, unseen.labels_N.numpy()).metric("auroc"))
    assert look.test["average"]["auroc"] == fmean(scores)
    assert look.test["average"]["low"] < look.test["average"]["balanced_accuracy"]


def kept(learner, learners):
    learners.append(learner)
    return learner


def test_evidence_without_a_name_is_refused(exported):
    values = read_yaml(exported)
    del values["evidence"]["config_id"]
    exported.write_text(dump_yaml(values))
    with pytest.raises(ResultsError, match="lacks config_id"):
        reproduce(exported)
