"""Predictions that the results keep of runs of a model's members, averaged as the model does.

Shapes: N images or patches, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.errors import ResultsError
from sparse_search.best.member_plans import MemberPlan
from sparse_search.best.picture_rules import stacked
from sparse_search.results.predictions import read_predictions
from trainables.metrics.averaging import weighted_mean


class Outputs(NamedTuple):
    """What is said of images or patches that did not teach, one picture after the other, with their labels."""

    outputs: NDArray[np.float64]
    labels_N: NDArray[np.int64]


def stored_outputs(plans: Sequence[MemberPlan], evidence: Mapping[str, Any]) -> list[Outputs]:
    """Return what the members said in each run of the search that all of them have; nothing where results are gone."""
    try:
        of_members = [dict(_read(plan, run_id, evidence) for run_id in plan.run_ids) for plan in plans]
    except ResultsError:
        return []
    weights = [plan.weight for plan in plans]
    return [
        Outputs(weighted_mean([runs[images].outputs for runs in of_members], weights), first.labels_N)
        for images, first in of_members[0].items()
        if all(images in runs for runs in of_members)
    ]


def _read(plan: MemberPlan, run_id: str, evidence: Mapping[str, Any]) -> tuple[tuple[Any, ...], Outputs]:
    """Return which images a run validated by, as a key, and what it said of them."""
    searched = plan.searched
    run = {"dataset": evidence["dataset"], "shots": searched.shots, "method": searched.method, "run_id": run_id}
    table = read_predictions(evidence.get("results", "results"), [run])
    own = table.filter(pc.equal(table["predictor"], plan.predictor))
    if not len(own):
        raise ResultsError(f"run {run_id} has no predictions of '{plan.predictor}'")
    images = (*own["source_index"].to_pylist(), *own["label"].to_pylist())
    return images, Outputs(stacked(own["probabilities"]), own["label"].to_numpy())
