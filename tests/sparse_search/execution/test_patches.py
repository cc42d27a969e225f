"""Pictures with marked lesions, from a sweep's job to the heat maps of the test set: everything but Ray itself."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.augmentation import NO_MOTION
from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.comparison import compare_all
from sparse_search.analysis.leaderboard import board, rankings
from sparse_search.best.export import export, write_export
from sparse_search.best.modelled import train_model
from sparse_search.best.picture_rules import compare_rules, with_rule
from sparse_search.best.retrain import evaluate, reproduce
from sparse_search.cli.findings import look_table
from sparse_search.execution import worker
from sparse_search.execution.run import plan_studies
from sparse_search.execution.worker import Job, run_trial
from sparse_search.pages.page import report
from sparse_search.results.ledger import looks
from sparse_search.results.predictions import artefact_folder, read_predictions
from sparse_search.results.store import Store
from sparse_search.search.sweep_file import parse_sweep
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task
from trainables.metrics.pictures import PictureRule
from trainables.model import load_model

from ..command import call
from ..conftest import TINY

CONVNET = {
    "convnet": {
        "trials": 1, "presets": [], "search": [],
        "settings": {
            "width": 4, "batch_size": 8, "steps_per_epoch": 5, "tail": "conv_large", "average": 0.05, **NO_MOTION,
        },
    }
}  # fmt: skip


@pytest.fixture(scope="module")
def fundus(tmp_path_factory):
    """Grey pictures, in every third of which one quarter is bright, and marked."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures") / "fundus"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(36):
        pixels_HW = random.integers(0, 60, (32, 32), dtype=np.uint8)
        if number % 3 == 0:
            row, column = divmod(number // 3 % 4, 2)
            spot = np.s_[16 * row + 2 : 16 * row + 14, 16 * column + 2 : 16 * column + 14]
            pixels_HW[spot] += 150
            mask_HW = np.zeros((32, 32), np.uint8)
            mask_HW[spot] = 255
            Image.fromarray(mask_HW).save(folder / "masks" / f"{number:02}.png")
        Image.fromarray(pixels_HW).save(folder / "images" / f"{number:02}.png")
    return f"{folder}:2x2"


@pytest.fixture(scope="module")
def swept(fundus, tmp_path_factory):
    """A folder of results with the one trial of a sweep over the pictures."""
    sweep = parse_sweep(
        TINY | {
            "datasets": [fundus], "shots": [12], "validation": "official", "images": 1200, "evaluate_every": 600,
            "methods": CONVNET, "label_sets": [0, 1], "pruner": "none",
        }
    )  # fmt: skip
    (study,) = plan_studies(sweep, None)
    assert study.facts.num_labelled == 4 * 12
    store = Store(tmp_path_factory.mktemp("swept") / "results")
    store.prepare()
    job = Job(
        trial=study.trial(study.plan.settings, 0).as_dict(), sweep="tiny", study=study.name, number=0, start="default",
        label_sets="0, 1", objective="auroc", rungs=study.rungs, known={}, gpus=0, results=str(store.folder),
        checkpoints=str(store.folder / "checkpoints"), data_root=None, keep_weights=True,
    )  # fmt: skip
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.tune, "report", told.append)
        run_trial({"job": job.to_json()})
    assert told[-1]["outcome"] == "", told[-1]["reason"]
    for record in json.loads(told[-1]["records"]):
        store.write(record | {"status": "complete", "reason": ""})
    return store.folder


@pytest.fixture
def trained(swept, tmp_path):
    """A store of its own with that trial."""
    return Store(shutil.copytree(swept, tmp_path / "results"))


@pytest.fixture
def best(trained, tmp_path):
    path = tmp_path / "best.yaml"
    write_export(export(trained.folder, dataset="fundus:2x2", shots=12, metric="auroc"), path)
    return path


def test_a_model_of_kept_weights_judges_pictures_as_its_run_did(trained, best, tmp_path):
    said = []
    facts = train_model(best, tmp_path / "model", label_set=1, say=said.append)
    assert said == ["made of the weights of 1 run that the search kept"]
    (kept,) = facts.trained_on["kept_runs"]
    (row,) = (row for row in trained.runs().to_pylist() if row["run_id"] == kept["run_id"] and row["level"] == "image")
    assert (row["label_set"], facts.threshold) == (1, row["picture_threshold"])
    stored = read_predictions(trained.folder, [row])
    images = few_shot_task(row["source"], 12, 1, "official").validation.images_NCHW
    said_NK = load_model(tmp_path / "model").outputs(images)
    np.testing.assert_array_equal(said_NK, np.array(stored["probabilities"].to_pylist()))


def test_pictures_and_patches_have_a_ranking_each(trained):
    found = {shared["level"]: rows[0] for shared, rows in rankings(board(trained, metric="auroc").ranked)}
    picture, patch = found["image"], found["patch"]
    assert (picture["predictor"], patch["predictor"]) == ("convnet", "convnet_patches")
    assert (picture["num_images"], patch["num_images"]) == (7, 4 * 7)
    assert picture["localisation"] > 0.7, "a bright quarter is easily found"
    assert patch["localisation"] is None
    assert (picture["patch_labels"], picture["shots_in_all"], picture["label_budget"]) == ("masks", True, 12 + 7)
    intervals = {shared["level"]: rows[0]["low"] for shared, rows in rankings(board(trained).ranked)}
    assert intervals["image"] is not None
    assert intervals["patch"] is None, "patches of a picture are alike"


def test_methods_are_compared_on_pictures(trained):
    with pytest.raises(ConfigError, match="only convnet is there to compare"):
        compare_all(trained.folder)


def test_what_is_kept_of_a_run(trained):
    for run in trained.runs().to_pylist():
        table = read_predictions(trained.folder, [run])
        assert len(table) == 4 * 7
        with Image.open(artefact_folder(trained.folder, run) / "heat_maps.png") as sheet:
            assert min(sheet.size) > 300


def test_the_stored_predictions_give_the_scores_again(trained, best):
    judged = {each.rule: each for each in compare_rules(best, trained.folder)}
    row = next(row for row in board(trained, metric="auroc").ranked.to_pylist() if row["level"] == "image")
    for metric in ("auroc", "balanced_accuracy", "log_loss"):
        assert judged[PictureRule()].scores[metric] == row[metric]


def test_another_rule_is_what_is_trained_again_and_evaluated(trained, best, tmp_path):
    write_export(with_rule(best, PictureRule("max", "f1"), trained.folder), best)
    assert reproduce(best).is_equal
    look = evaluate(best, trained.folder, why="decided", unlock_test=True, heat_maps=tmp_path / "maps")
    assert list(look.test) == ["convnet", "convnet_patches"]
    assert look.num_images == 7
    assert look.test["convnet"]["localisation"] > 0.7
    assert look.test["convnet_patches"]["low"] is None
    thresholds = [run["threshold"] for run in look.test["convnet"]["runs"]]
    assert thresholds == [run["threshold"] for run in look.validated["convnet"]["runs"]], "chosen on validation"
    assert look_table(list(looks(trained.folder))).row_count == 2
    maps = sorted((tmp_path / "maps").iterdir())
    assert len(maps) == 7
    for path in maps:
        with Image.open(path) as drawn:
            assert min(drawn.size) > 200


def test_rules_on_the_command_line(trained, best, tmp_path):
    told = call("aggregate", best, "--results", trained.folder, "--metric", "auroc", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("youden") == 5
    written = call("aggregate", best, "--results", trained.folder, "--use", "max,f1", "-o", "other.yaml", cwd=tmp_path)
    assert "other.yaml: pictures are judged by max,f1" in written.stdout
    assert "aggregate: max" in (tmp_path / "other.yaml").read_text()
    wrong = call("aggregate", best, "--results", trained.folder, "--use", "sum", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "aggregate 'sum' is unknown" in wrong.stderr


def test_the_report_shows_where_findings_are_seen(trained, tmp_path):
    page = report(trained.folder, tmp_path / "report.html", metric="auroc").read_text()
    assert page.count('src="data:image/png;base64,') == 1
    assert "localisation AUROC" in page


def test_whole_images_have_no_heat_maps(best, trained, tmp_path):
    values = best.read_text().replace("fundus:2x2", "fundus")
    best.write_text(values)
    with pytest.raises(ResultsError, match="has no heat maps"):
        evaluate(best, trained.folder, why="decided", unlock_test=True, heat_maps=tmp_path / "maps")
    assert not list(looks(trained.folder)), "refused before a look"


def test_a_resumed_run_that_was_over_keeps_its_predictions_too(fundus, tmp_path):
    from trainables.training.checkpoint import Checkpoints
    from trainables.training.run import runs_of_trial
    from trainables.training.trial import Trial

    trial = Trial.from_dict(
        {
            "method": "convnet", "config": CONVNET["convnet"]["settings"] | {"image_size": 16}, "dataset": fundus,
            "shots": 12, "images": 80, "evaluate_every": 40,
        }
    )  # fmt: skip
    (run,) = runs_of_trial(trial)
    first, again = (
        list(run.train(run.task(None), checkpoints=Checkpoints(tmp_path / "checkpoints")))[-1] for _ in range(2)
    )
    assert not first.replayed
    assert again.replayed
    assert np.array_equal(first.predictions["convnet"], again.predictions["convnet"])
    assert replace(trial, conditions=replace(trial.conditions, aggregate="max")).trial_id != trial.trial_id


def test_a_model_judges_files_by_their_patches_and_draws_where(trained, best, fundus, tmp_path):
    folder = fundus.removesuffix(":2x2")
    facts = train_model(best, tmp_path / "model", label_set=0)
    assert (str(facts.grid), facts.trained_on["labelled_images"]) == ("2x2", facts.trained_on["shots"])
    places = [f"{folder}/images/{number:02}.png" for number in range(36)]
    done = call("predict", "model", f"{folder}/images", "-o", "p.csv", "--coverage", 0.5, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "p.csv: 36 pictures\n"), done.stderr
    drawn = call("predict", "model", *places[:3], "-o", "q.csv", "--heat-maps", "maps", cwd=tmp_path)
    assert (drawn.returncode, len(list((tmp_path / "maps").glob("*.png")))) == (0, 3), drawn.stderr
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    source = open_source(fundus)
    places = [f"{folder}/{place}" for place in source.reader.prepared.places[: source.reader.prepared.num_train]]
    found = load_model(tmp_path / "model").predict_prepared(np.ascontiguousarray(source.images("train")))
    by_place = {row["path"]: row for row in rows}
    for place, probs_K, label in zip(places, found.probs, found.named_N, strict=True):
        assert float(by_place[place]["probability_lesion"]) == pytest.approx(probs_K[1], abs=1e-6)
        assert by_place[place]["class"] == source.class_names[label]
