"""Results whose predictions were kept: records and files as a sweep leaves them, without training."""

from dataclasses import asdict

import numpy as np
import torch

from search_spaces.core.config import write_config
from sparse_search.results.files import write_atomically
from sparse_search.results.predictions import artefact_folder, write_predictions
from sparse_search.versions import versions
from tests.sparse_search.conftest import record_of
from trainables.core.conditions import PROTOCOL
from trainables.core.method import Labelled
from trainables.metrics.classes import score
from trainables.metrics.decisions import named
from trainables.training.run import runs_of_trial


def guesses(rng, labels_N, num_classes, skill):
    """Probabilities of someone who knows so much."""
    logits_NK = rng.normal(size=(len(labels_N), num_classes)) + skill * np.eye(num_classes)[labels_N]
    return np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)


def keep(store, number, method, probs_of, *, label_sets=(0,), num_images=20, num_classes=2, **changes):
    """Write the runs of a trial, as `method` predicts: probabilities of a label set, given its labels."""
    labels_N = np.arange(num_images) % num_classes
    images = Labelled(torch.zeros(num_images, 1, 1, 1, dtype=torch.uint8), torch.from_numpy(labels_N))
    for label_set in label_sets:
        probs_NK = probs_of(label_set, labels_N)
        pool_mean_K = probs_NK.mean(0)
        found = score(probs_NK, labels_N, named(changes.get("decision", "argmax"), probs_NK, pool_mean_K)).as_dict()
        record = record_of(
            number, method=method, label_set=label_set, label_sets=", ".join(map(str, label_sets)),
            num_runs=len(label_sets), **changes,
        )  # fmt: skip
        for point in record["curve"]:
            point["scores"] = point["selected"] = {method: found}
        store.write(record)
        write_predictions(store.folder, record, images, {method: probs_NK}, {method: pool_mean_K})


def train(store, trial):
    """Train the runs of a trial and write what a worker writes of them; return how each ends."""
    ends = []
    for run in runs_of_trial(trial):
        task = run.task(None)
        *_, end = run.train(task, keep_weights=True)
        method, predictors = trial.method, list(trial.find_method().predictors)
        selected = {name: scores.as_dict() for name, scores in end.selected.items()}
        point = {"epoch": 1, "images": 1, "seconds": 1.0, "losses": [], "scores": selected, "selected": selected}
        record = record_of(0, method=method) | asdict(task.provenance) | trial.conditions.as_columns() | {
            "record_id": f"{trial.trial_id}{run.name}", "run_id": run.run_id(task.provenance.content_hash),
            "trial_id": trial.trial_id, "label_sets": ", ".join(map(str, trial.label_sets)),
            "num_runs": len(runs_of_trial(trial)), "predictors": predictors, "config": write_config(trial.config),
            "dataset": task.dataset, "source": trial.dataset, "protocol": PROTOCOL, "curve": [point],
            "versions": versions(),
        }  # fmt: skip
        store.write(record)
        write_predictions(store.folder, record, task.validation, end.predictions, end.pool_means)
        for name, content in end.artefacts.items():
            write_atomically(artefact_folder(store.folder, record) / name, content)
        ends.append(end)
    return ends


def fill(store, *, skills, label_sets=(0,), num_images=20, num_classes=2, seed=0, **changes):
    """Write trials of methods, one for each of their skills."""
    for place, (method, each) in enumerate(skills.items()):
        for number, skill in enumerate(each):

            def probs_of(label_set, labels_N, key=(seed, place, number), skill=skill):
                return guesses(np.random.default_rng([*key, label_set]), labels_N, num_classes, skill)

            config = {"image_size": 32, "lr": 1e-3 * (number + 1), "classifier": "test_resnet", "pretrained": ""}
            keep(
                store, 1000 * seed + 100 * place + number, method, probs_of, label_sets=label_sets,
                num_images=num_images, num_classes=num_classes, **{"config": config} | changes,
            )  # fmt: skip
    return store
