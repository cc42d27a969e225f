"""Predictions that the results keep of runs of a model's members, averaged as the model does.

Shapes: N images or patches, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.errors import ResultsError
from sparse_search.best.parts import MemberPlan
from sparse_search.best.picture_rules import stacked
from sparse_search.results.predictions import read_predictions


class Outputs(NamedTuple):
    """What is said of images or patches that did not teach, one picture after the other, with their labels."""

    outputs: NDArray[np.float64]
    labels_N: NDArray[np.int64]


def stored_outputs(parts: Sequence[MemberPlan], evidence: Mapping[str, Any]) -> list[Outputs]:
    """Return what the members said in each run of the search; nothing where the results do not have it any more."""
    try:
        runs = [[_read(part, run_id, evidence) for run_id in part.run_ids] for part in parts]
    except ResultsError:
        return []
    if len({len(each) for each in runs}) != 1:
        return []
    together = list(zip(*runs, strict=True))
    if any(not np.array_equal(each.labels_N, first.labels_N) for first, *others in together for each in others):
        return []
    weights = np.array([part.weight for part in parts])
    means = [np.tensordot(weights, np.stack([each.outputs for each in run]), 1) for run in together]
    return [Outputs(mean, first.labels_N) for mean, (first, *_) in zip(means, together, strict=True)]


def _read(part: MemberPlan, run_id: str, evidence: Mapping[str, Any]) -> Outputs:
    results = evidence.get("results", "results")
    searched = part.searched
    run = {"dataset": evidence["dataset"], "shots": searched.shots, "method": searched.method, "run_id": run_id}
    table = read_predictions(results, [run])
    own = table.filter(pc.equal(table["predictor"], part.predictor))
    if not len(own):
        raise ResultsError(f"run {run_id} has no predictions of '{part.predictor}'")
    return Outputs(stacked(own["probabilities"]), own["label"].to_numpy())
