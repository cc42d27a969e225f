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
    pictures: frozenset[int] = frozenset()
    """Indices of the pictures in their split; none where that is not known."""


def num_pictures(judging: Sequence[Outputs]) -> int | None:
    """Number of pictures that are judged, each once; None where that is not known."""
    if not all(each.pictures for each in judging):
        return None
    return len(frozenset().union(*(each.pictures for each in judging)))


def stored_outputs(plans: Sequence[MemberPlan], evidence: Mapping[str, Any]) -> list[Outputs]:
    """Return what the members said in each run of the search that all of them have; nothing where results are gone."""
    try:
        of_members = [dict(_read(plan, run_id, evidence) for run_id in plan.run_ids) for plan in plans]
    except ResultsError:
        return []
    weights = [plan.weight for plan in plans]
    return [
        first._replace(outputs=weighted_mean([runs[images].outputs for runs in of_members], weights))
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
    sources = own["source_index"].to_pylist()
    pictures = frozenset() if None in sources else frozenset(sources)
    return (*sources, *own["label"].to_pylist()), Outputs(
        stacked(own["probabilities"]), own["label"].to_numpy(), pictures
    )
