"""From an exported configuration to a model: the same digits, resumed, on all labels, calibrated."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from search_spaces.core.errors import ConfigError, LockedError, ModelError, ResultsError
from search_spaces.core.yaml_files import dump_yaml, read_yaml
from sparse_search.best.modelled import train_model
from sparse_search.best.predicted import predict_files
from sparse_search.best.stored_outputs import Outputs, num_pictures
from sparse_search.results.predictions import write_predictions
from trainables.core.shots import ALL_SHOTS
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task, final_task
from trainables.model import load_model
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial

from ..command import call

TRIAL = {
    "method": "supervised", "config": {"classifier": "test_resnet", "image_size": 16, "lr": 1e-3}, "dataset": "digits",
    "shots": 2, "label_sets": [1, 0], "images": 60, "evaluate_every": 20,
}  # fmt: skip


def evidence_of(trial, root=None, **changes):
    run = runs_of_trial(Trial.from_dict(trial))[0]
    return {
        "predictor": run.trial.find_method().predictors[0], "run_ids": [], "dataset": "digits",
        "content_hash": run.task(root).provenance.content_hash, "scores": {"balanced_accuracy": 0.5},
        "versions": {}, "interval_95": {"metric": "balanced_accuracy", "low": 0.4, "high": 0.6},
        "results": "nowhere",
    } | changes  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    """A maker of an exported file; changes are to the trial."""

    def write(evidence=None, **changes):
        trial = TRIAL | changes
        path = tmp_path / "best.yaml"
        path.write_text(dump_yaml(trial | {"evidence": evidence or evidence_of(trial)}))
        return path

    return write


def predictions_of(trial):
    """What the first run of a trial says of its validation images at its end, by predictor."""
    run = runs_of_trial(Trial.from_dict(trial))[0]
    task = run.task(None)
    *_, last = run.train(task)
    return task, last


def test_it_says_of_pictures_what_the_run_said_of_them(exported, tmp_path):
    told = []
    train_model(exported(), tmp_path / "model", tell=lambda about, share: told.append(share))
    task, last = predictions_of(TRIAL)
    model = load_model(tmp_path / "model")
    found = model.predict(task.validation.images_NCHW)
    np.testing.assert_array_equal(found.raw_NK, last.predictions["supervised"])
    assert model.facts.trained_on["label_set"] == 1
    assert told[-1] == 1.0

    (tmp_path / "scans").mkdir()
    for number, image in enumerate(task.validation.images_NCHW.numpy()):
        Image.fromarray(image[0]).save(tmp_path / "scans" / f"{number:03d}.png")
    counts = predict_files(tmp_path / "model", [tmp_path / "scans"], tmp_path / "p.csv", coverage=0.9)
    assert counts == (len(task.validation), 0)
    with (tmp_path / "p.csv").open(newline="") as file:
        named = [row["class"] for row in csv.DictReader(file)]
    right = [model.class_names[label] for label in task.validation.labels_N.tolist()]
    accuracy = np.mean([one == other for one, other in zip(named, right, strict=True)])
    assert accuracy == last.scores["supervised"].metric("accuracy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.yaml", "model", "p.csv", "scans"]


def test_an_average_says_what_its_members_say_in_the_mean(tmp_path):
    members = [
        {"method": "pixels", "config": {"image_size": 8}, "predictor": "pixels", "weight": 0.75, "run_ids": ["a"]},
        {"method": "supervised", "config": TRIAL["config"], "predictor": "supervised", "weight": 0.25, "run_ids": []},
    ]
    shared = {name: value for name, value in TRIAL.items() if name not in ("method", "config")}
    evidence = evidence_of(TRIAL, predictor="average")
    average = {"average": {"rule": "third", "members": members}}
    (tmp_path / "best.yaml").write_text(dump_yaml(shared | average | {"evidence": evidence}))
    train_model(tmp_path / "best.yaml", tmp_path / "model")
    said = []
    for member in members:
        task, last = predictions_of(shared | {name: member[name] for name in ("method", "config")})
        said.append(member["weight"] * last.predictions[member["predictor"]])
    found = load_model(tmp_path / "model").predict(task.validation.images_NCHW)
    np.testing.assert_array_equal(found.raw_NK, said[0] + said[1])
    assert "| supervised | supervised | 0.25 |" in (tmp_path / "model" / "README.md").read_text()


def test_parquet_is_what_csv_is(exported, tmp_path):
    import pyarrow.parquet as pq

    train_model(exported(method="pixels", config={"image_size": 8}), tmp_path / "model")
    images = open_source("digits").images("val")[:4, 0]
    np.savez(tmp_path / "new.npz", images=images)
    predict_files(tmp_path / "model", [tmp_path / "new.npz", tmp_path / "gone.png"], tmp_path / "p.parquet")
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    probs = [[row[f"probability_{number}"] for number in range(10)] for row in rows[:4]]
    np.testing.assert_array_equal(probs, load_model(tmp_path / "model").predict(images).probs)
    assert rows[4]["reason"] == "there is no such file"
    with pytest.raises(ConfigError, match=r"expected \.csv or \.parquet"):
        predict_files(tmp_path / "model", [tmp_path], tmp_path / "p.xlsx")


def test_a_killed_training_goes_on(exported, tmp_path, monkeypatch):
    train_model(exported(), tmp_path / "straight")

    def stop(about, share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(exported(), tmp_path / "model", tell=stop)
    assert (tmp_path / ".model.training").is_dir()
    shares = []
    train_model(exported(), tmp_path / "model", tell=lambda about, share: shares.append(share))
    assert not (tmp_path / ".model.training").exists()
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()


def test_all_labels_teach_where_asked_for(exported, tmp_path):
    facts = train_model(exported(method="constant", config={}), tmp_path / "model", all_labels=True)
    assert (
        facts.trained_on["labelled_images"] == facts.trained_on["labels"] == len(open_source("digits").labels("train"))
    )
    assert facts.trained_on["shots"] == "all"
    assert facts.temperature_from.startswith("nothing")
    assert "no sets of classes" in (tmp_path / "model" / "README.md").read_text()
    official = train_model(
        exported(method="constant", config={}, validation="official"), tmp_path / "official", all_labels=True
    )
    assert official.temperature_from == "199 validation images of its own"
    with pytest.raises(ConfigError, match="two answers"):
        train_model(exported(), tmp_path / "other", all_labels=True, label_set=0)


def test_no_fold_is_held_out():
    task = final_task("digits", 4, 0, "labelled-cv")
    folds = [few_shot_task("digits", 4, 0, "labelled-cv", fold=fold) for fold in range(4)]
    assert len(task.labelled) == 40
    assert sum(len(fold.validation) for fold in folds) == 40
    assert len(task.unlabelled_NCHW) == len(folds[0].unlabelled_NCHW)
    assert len({fold.provenance.label_set_hash for fold in (*folds, task)}) == 5
    plain, same = few_shot_task("digits", 4, 0), final_task("digits", 4, 0)
    assert plain.provenance == same.provenance


def test_a_class_with_a_single_picture_teaches(tmp_path):
    shades = iter(range(0, 250, 20))
    for name, count in (("a", 6), ("b", 1), ("unlabelled", 3)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((8, 8), next(shades), np.uint8)).save(tmp_path / "scans" / name / f"{number}.png")
    task = final_task(f"{tmp_path}/scans", ALL_SHOTS, 0, "labelled-cv")
    assert task.labelled.labels_N.bincount().tolist() == [6, 1]
    assert len(task.unlabelled_NCHW) == 3


def test_the_command_on_data_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 100, (8, 8), dtype=np.uint8) + 100 * (name == "b")
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "scans" / name / f"{number}.png")
    trial = {"method": "pixels", "config": {"image_size": 8}, "dataset": f"{tmp_path}/scans", "shots": 3, "images": 10}
    (tmp_path / "best.yaml").write_text(dump_yaml(trial | {"evidence": evidence_of(trial)}))
    done = call("train", "best.yaml", "-o", "model", cwd=tmp_path)
    labels = read_yaml(tmp_path / "model" / "model.yaml")["trained_on"]["labelled_images"]
    assert labels == len(open_source(f"{tmp_path}/scans").labels("train"))
    assert f"trained on {labels} labelled images" in done.stdout
    done = call("predict", "model", "scans", "scans/gone.png", cwd=tmp_path)
    assert done.stdout == "predictions.csv: 25 pictures, 1 of them not read\n"
    again = call("train", "best.yaml", "-o", "model", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (
        2,
        "error: model exists already: name another place for the model, or remove it\n",
    )


def test_all_pictures_with_masks_teach(tmp_path):
    trial = {"method": "constant_masks", "config": {}, "dataset": "shapes@16", "shots": 4, "images": 10}
    path = tmp_path / "best.yaml"
    evidence = evidence_of(trial, interval_95={"metric": "mdice_2", "low": None, "high": None})
    path.write_text(dump_yaml(trial | {"evidence": evidence | {"scores": {"mdice_2": 0.5}}}))
    facts = train_model(path, tmp_path / "model", all_labels=True)
    assert facts.trained_on["labelled_images"] == 240
    assert facts.kind == "segmentation"
    assert load_model(tmp_path / "model").predict(open_source("shapes@16", kind="segmentation").images("train")[:2])


def test_without_own_validation_what_the_search_kept_calibrates(exported, tmp_path):
    trial = TRIAL | {"validation": "labelled-cv", "method": "pixels", "config": {"image_size": 8}, "label_sets": [0]}
    labels, probs, run_ids = [], [], []
    for run in runs_of_trial(Trial.from_dict(trial)):
        task = run.task(None)
        *_, last = run.train(task)
        run_ids.append(run.run_id(task.provenance.content_hash))
        about = {"run_id": run_ids[-1], "dataset": "digits", "shots": 2, "method": "pixels"}
        write_predictions(tmp_path / "results", about, task.validation, last.predictions, last.pool_means)
        labels.append(task.validation.labels_N.numpy())
        probs.append(last.predictions["pixels"])
    evidence = evidence_of(trial, run_ids=run_ids, results=str(tmp_path / "results"))
    facts = train_model(exported(evidence, **trial), tmp_path / "model")
    assert facts.trained_on["labelled_images"] == 20
    assert facts.temperature_from == "20 predictions of the search, which the results keep"
    true_N = np.concatenate(probs)[np.arange(20), np.concatenate(labels)]
    np.testing.assert_allclose(load_model(tmp_path / "model").calibration.scores, np.sort(1 - true_N), atol=1e-12)


def test_two_do_not_train_one_model(exported, tmp_path):
    (tmp_path / ".model.training").mkdir()
    with FileLock(tmp_path / ".model.training" / ".lock"), pytest.raises(LockedError, match="another process trains"):
        train_model(exported(), tmp_path / "model")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "model", tmp_path / ("m" * 250)):
        with pytest.raises(ModelError, match="cannot write"):
            train_model(exported(), place)
    assert not (tmp_path / "model").exists()


def test_images_that_several_runs_judged_count_once():
    judging = [Outputs(np.zeros((3, 2)), np.zeros(3, np.int64), frozenset(each)) for each in ({1, 2, 3}, {3, 4, 5})]
    assert num_pictures(judging) == 5
    assert num_pictures([judging[0], judging[1]._replace(pictures=frozenset())]) is None


def test_what_cannot_be_a_model_is_refused_before_it_is_trained(exported, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        train_model(exported(), tmp_path / "there")
    with pytest.raises(ResultsError, match="has other content"):
        train_model(exported(evidence_of(TRIAL, content_hash="0" * 16)), tmp_path / "model")
    generators = {"method": "ssgnet_generators", "config": {}}
    with pytest.raises(ModelError, match="makes images and predicts nothing"):
        train_model(exported(evidence_of(TRIAL), **generators), tmp_path / "model")
    with pytest.raises(ConfigError, match="has no predictor 'sparse', which the evidence names"):
        train_model(exported(evidence_of(TRIAL, predictor="sparse")), tmp_path / "model")
    with pytest.raises(ResultsError, match="odd 'results'"):
        train_model(exported(evidence_of(TRIAL, results=5)), tmp_path / "model")


def test_its_card_says_what_is_known_and_what_is_not(exported, tmp_path):
    trial = TRIAL | {"method": "pixels", "config": {"image_size": 8}}
    evidence = evidence_of(trial, best_of="3 configurations of pixels: expect less on new images")
    facts = train_model(exported(evidence, **trial), tmp_path / "model", label_set=4)
    text = (tmp_path / "model" / "README.md").read_text()
    assert facts.trained_on["label_set_hash"] in text
    for words in ("label set 4: 20 labelled", "| balanced accuracy | 0.5000 |", "0.4000 to 0.6000", "3 configurations",
                  "was not tested"):  # fmt: skip
        assert words in text
    assert read_yaml(tmp_path / "model" / "model.yaml")["trained_on"]["labels"] == 40
    assert replace(facts, members=()).as_dict()["format"] == 1
