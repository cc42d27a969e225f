"""Models of weights that the search kept: at once, the same digits, of one label set; what is missing is trained."""

import numpy as np
import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from search_spaces.core.yaml_files import dump_yaml
from sparse_search.best.modelled import train_model
from sparse_search.results.store import Store
from trainables.data.tasks import few_shot_task
from trainables.metrics.averaging import weighted_mean
from trainables.model import load_model
from trainables.training.run import Run, runs_of_trial
from trainables.training.trial import Trial

from ..kept import train

SHARED = {"dataset": "digits", "shots": 2, "images": 60, "evaluate_every": 20}
NETWORK = {"method": "supervised", "config": {"classifier": "test_resnet", "image_size": 16, "lr": 1e-3}}
PIXELS = {"method": "pixels", "config": {"image_size": 8}}


def run_ids(trial):
    return [run.run_id(run.task(None).provenance.content_hash) for run in runs_of_trial(Trial.from_dict(trial))]


class Searched:
    """Results of a search, and the file that was exported of them."""

    def __init__(self, folder, *methods, **shared):
        self.folder, self.shared = folder, SHARED | shared
        self.store = Store(folder / "results")
        self.store.prepare()
        self.trials = [self.shared | each for each in methods]
        self.ends = [train(self.store, Trial.from_dict(trial)) for trial in self.trials]
        self.path = folder / "best.yaml"
        self.path.write_text(dump_yaml(self._exported()))

    def _exported(self):
        ids = [run_ids(trial) for trial in self.trials]
        task = few_shot_task("digits", self.shared["shots"], 0)
        evidence = {
            "predictor": self.trials[0]["method"], "run_ids": [each for own in ids for each in own],
            "content_hash": task.provenance.content_hash, "dataset": "digits", "scores": {"balanced_accuracy": 0.5},
            "versions": {}, "interval_95": {"metric": "balanced_accuracy", "low": 0.4, "high": 0.6},
            "results": str(self.store.folder),
        }  # fmt: skip
        if len(self.trials) == 1:
            return self.trials[0] | {"evidence": evidence}
        members = [
            {"method": trial["method"], "config": trial["config"], "predictor": trial["method"], "run_ids": own,
             "weight": 1 / len(ids)} for trial, own in zip(self.trials, ids, strict=True)
        ]  # fmt: skip
        return self.shared | {"average": {"rule": "third", "members": members}, "evidence": evidence}

    def make(self, name="model", **options):
        """Make a model; what was said of it comes with it."""
        said = []
        facts = train_model(self.path, self.folder / name, say=said.append, **options)
        return load_model(self.folder / name), facts, said

    def weights(self, method):
        return sorted(self.store.folder.glob(f"artefacts/*/*/method={method}/*/weights.safetensors"))


@pytest.fixture
def untrained(monkeypatch):
    """From when it is called, nothing can be trained."""

    def forbid():
        monkeypatch.setattr(Run, "train", lambda *_, **__: pytest.fail("it is trained"))

    return forbid


def test_folds_are_averaged_and_each_says_what_its_run_said(tmp_path, untrained):
    searched = Searched(tmp_path, NETWORK, validation="labelled-cv", label_sets=[0, 1])
    (ends,) = searched.ends
    untrained()
    for label_set, own in ((0, ends[:2]), (1, ends[2:])):
        model, facts, said = searched.make(f"model-{label_set}", label_set=label_set)
        assert said == ["made of the weights of 2 runs that the search kept"]
        assert [member.weight for member in facts.members] == [0.5, 0.5]
        assert (facts.trained_on["label_set"], facts.trained_on["labelled_images"]) == (label_set, 20)
        for fold, ((_, predictor), end) in enumerate(zip(model.members, own, strict=True)):
            images = few_shot_task("digits", 2, label_set, "labelled-cv", fold=fold).validation.images_NCHW
            np.testing.assert_array_equal(predictor.predict(images)["supervised"], end.predictions["supervised"])
        probs = [predictor.predict(images)["supervised"].double().numpy() for _, predictor in model.members]
        np.testing.assert_array_equal(model.predict(images).raw_NK, weighted_mean(probs, [0.5, 0.5]))
    model, facts, _ = searched.make()
    assert [run["fold"] for run in facts.trained_on["kept_runs"]] == [0, 1]
    assert facts.trained_on["label_set"] == 0
    text = (tmp_path / "model" / "README.md").read_text()
    score = ends[0].selected["supervised"].metric("balanced_accuracy")
    assert f"| `member-1.safetensors` | 0 | {score:.4f} |" in text
    assert "by 4 trainings, 2 of which are in this folder" in text


def test_an_average_says_what_its_runs_said_and_what_training_gives(tmp_path, untrained):
    searched = Searched(tmp_path, PIXELS, NETWORK, label_sets=[0])
    anew, facts, said = searched.make("anew", kept=False)
    assert (said, facts.trained_on.get("kept_runs")) == ([], None)
    untrained()
    model, facts, said = searched.make()
    assert said == ["made of the weights of 2 runs that the search kept"]
    images = few_shot_task("digits", 2, 0).validation.images_NCHW
    stored = [end.predictions[trial["method"]] for trial, (end,) in zip(searched.trials, searched.ends, strict=True)]
    found = model.predict(images)
    np.testing.assert_array_equal(found.raw_NK, weighted_mean(stored, [0.5, 0.5]))
    np.testing.assert_array_equal(found.probs, anew.predict(images).probs)
    assert facts.members[0].pool_mean == anew.facts.members[0].pool_mean


def test_a_member_whose_weights_are_missing_or_damaged_is_trained(tmp_path):
    searched = Searched(tmp_path, PIXELS, NETWORK, label_sets=[0])
    whole, _, _ = searched.make("whole")
    (path,) = searched.weights("supervised")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    damaged, facts, said = searched.make("damaged")
    (run_id,) = run_ids(searched.trials[1])
    why = "its tensors are not those that were written"
    assert said == [f"1 of 2 members trained anew: weights of run {run_id} are damaged ({why})"]
    assert [run["file"] for run in facts.trained_on["kept_runs"]] == ["member-1.safetensors"]
    path.unlink()
    missing, _, said = searched.make("missing")
    assert said == [f"1 of 2 members trained anew: weights of run {run_id} were not kept"]
    images = few_shot_task("digits", 2, 0).validation.images_NCHW
    for model in (damaged, missing):
        np.testing.assert_array_equal(model.predict(images).probs, whole.predict(images).probs)


def test_weights_are_kept_for_the_labels_that_were_learned_from(tmp_path):
    searched = Searched(tmp_path, PIXELS, label_sets=[0])
    with pytest.raises(ResultsError, match=r"the run of label set 3 is not in the results; leave --kept out"):
        searched.make(kept=True, label_set=3)
    with pytest.raises(ConfigError, match="two answers"):
        searched.make(kept=True, all_labels=True)
    _, facts, said = searched.make("other", label_set=3)
    assert (facts.trained_on["label_set"], said) == (3, [])
    _, facts, said = searched.make("all", all_labels=True)
    assert (facts.trained_on["shots"], said) == ("all", [])
