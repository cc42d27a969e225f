"""Finished runs with predictions, as a worker leaves them, made without training."""

import numpy as np
import torch

from sparse_search.results.predictions import write_predictions
from tests.sparse_search.conftest import record_of
from trainables.core.method import Labelled
from trainables.metrics.classes import score


def keep_trial(
    store, number, probs_NK, labels_N, *, folds_N=None, groups_N=None, label_sets=(0,), with_predictions=True, **changes
):
    """Write the record of each run of a trial, and its predictions of the images of a fold; return its scores."""
    folds_N = np.zeros(len(labels_N), int) if folds_N is None else folds_N
    method, num_folds = changes.get("method", "supervised"), int(folds_N.max()) + 1
    found = []
    for label_set in label_sets:
        for fold in range(num_folds):
            own = np.flatnonzero(folds_N == fold)
            scores = score(probs_NK[own], labels_N[own])
            record = record_of(number, label_set=label_set, lr=1e-3 * (number + 1), **changes) | {
                "label_sets": ", ".join(map(str, label_sets)),
                "fold": fold,
                "num_runs": num_folds * len(label_sets),
                "label_set_hash": f"hash{label_set}-{fold}",
                "run_id": f"run-{method}-{number}-{label_set}-{fold}",
                "record_id": f"{number:04x}{label_set:04x}{fold:02x}{len(method):02x}",
            }
            for point in record["curve"]:
                point["scores"] = point["selected"] = {method: scores.as_dict()}
            store.write(record)
            if with_predictions:
                images = Labelled(
                    torch.zeros(len(own), 1, 1, 1, dtype=torch.uint8),
                    torch.from_numpy(labels_N[own]),
                    indices_I=torch.from_numpy(own),
                    groups_I=None if groups_N is None else torch.from_numpy(groups_N[own]),
                )
                write_predictions(store.folder, record, images, {method: probs_NK[own]}, {})
            found.append(scores)
    return found


def guesses(labels_N, num_classes, skill, seed):
    """Probabilities of a predictor with so much skill."""
    logits_NK = np.random.default_rng(seed).normal(size=(len(labels_N), num_classes))
    logits_NK += skill * np.eye(num_classes)[labels_N]
    return np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)
