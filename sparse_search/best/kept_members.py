"""Parts of a model: what predicts, trained for it, or kept by the search of the runs of one label set.

Of a member whose weights were kept each fold is a part, with an equal share of the member's weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow.compute as pc
from torch import Tensor

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.best.member_plans import MemberPlan
from sparse_search.results.mirror import read_store
from sparse_search.results.predictions import read_predictions
from sparse_search.results.weights import weights_of
from trainables.metrics.table import METRICS
from trainables.training.run import runs_of_trial


class ModelPart(NamedTuple):
    """A network, or whatever else predicts, of a model."""

    plan: MemberPlan
    """Its member, with the part's own weight."""

    state: Mapping[str, Tensor]
    pool_mean: tuple[float, ...] | None
    threshold: float | None
    run: Mapping[str, Any] | None = None
    """Run of the search that made it: `run_id`, `fold` and, by the name of the metric, its score; None if trained."""


class Found(NamedTuple):
    """Parts of members whose weights are at hand."""

    parts: Sequence[Sequence[ModelPart]]
    """Of each member; none where it has to be trained."""

    reasons: Sequence[str]
    """Why, for each that has to be."""


def check_one_answer(kept: bool | None, *, all_labels: bool) -> None:
    """Refuse to take kept weights, and to train on all labels.

    Raises:
        ConfigError: both are asked for.
    """
    if kept and all_labels:
        raise ConfigError("--kept and --all-labels are two answers: no run of the search learned from all labels")


def find_kept(plans: Sequence[MemberPlan], evidence: Mapping[str, Any], kept: bool | None) -> Found:
    """Return the parts of members whose weights the search kept.

    Args:
        plans: The members, with the images that they would be trained on.
        evidence: As `sparse-search export` wrote it.
        kept: True asks for kept weights, False for none. When not given they are taken where the runs learned from the
            labels that a training would have.

    Raises:
        ResultsError: they are asked for, and there are none.
    """
    if kept is False or not (kept or all(map(_learned_the_same, plans))):
        return Found([()] * len(plans), [])
    found, reasons = list[Sequence[ModelPart]](), list[str]()
    for plan in plans:
        try:
            found.append(_kept_parts(plan, evidence))
        except ResultsError as problem:
            found.append(())
            reasons.append(str(problem))
    if kept and not any(found):
        raise ResultsError(f"{reasons[0]}; leave --kept out to train the model")
    return Found(found, reasons)


def _learned_the_same(plan: MemberPlan) -> bool:
    """Tell if runs of the search have the labels that a training for use would have."""
    searched, trial = plan.searched, plan.trial
    return (
        trial.shots == searched.shots
        and trial.label_sets[0] in searched.label_sets
        and trial.conditions.validation == searched.conditions.validation
    )


def _kept_parts(plan: MemberPlan, evidence: Mapping[str, Any]) -> list[ModelPart]:
    searched, label_set = plan.searched, plan.trial.label_sets[0]
    about = {"dataset": evidence["dataset"], "shots": searched.shots, "method": searched.method}
    rows = _rows(plan, label_set, evidence, about)
    folds = len(runs_of_trial(replace(searched, label_sets=(label_set,))))
    if missing := [fold for fold in range(folds) if fold not in rows]:
        of_fold = f"fold {missing[0]} of " * (folds > 1)
        raise ResultsError(f"the run of {of_fold}label set {label_set} is not in the results")
    part = replace(plan, weight=plan.weight / folds)
    return [_part(part, rows[fold], evidence, about) for fold in range(folds)]


def _rows(
    plan: MemberPlan, label_set: int, evidence: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Return the rows of the member's runs on a label set, by fold."""
    columns = ["run_id", "label_set", "fold", "predictor", "picture_threshold", evidence["interval_95"]["metric"]]
    table = read_store(evidence.get("results", "results")).runs(columns=columns, **about)
    own = table.filter((pc.field("label_set") == label_set) & (pc.field("predictor") == plan.predictor))
    return {row["fold"]: row for row in own.to_pylist() if row["run_id"] in plan.run_ids}


def _part(plan: MemberPlan, row: Mapping[str, Any], evidence: Mapping[str, Any], about: Mapping[str, Any]) -> ModelPart:
    results, metric = evidence.get("results", "results"), evidence["interval_95"]["metric"]
    run = {**about, "run_id": row["run_id"]}
    state = weights_of(results, run)
    run_of_part = {"run_id": row["run_id"], "fold": row["fold"], metric: row.get(metric)}
    return ModelPart(plan, state, _pool_mean(plan, results, run), row["picture_threshold"], run_of_part)


def _pool_mean(plan: MemberPlan, results: str, run: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return what a run says of the unlabelled images in the mean; None where it names no classes."""
    if plan.searched.find_method().kind != "classification":
        return None
    table = read_predictions(results, [run], ["predictor", "pool_mean"])
    own = table.filter(pc.equal(table["predictor"], plan.predictor))["pool_mean"]
    mean_K = own[0].as_py() if len(own) else None
    return None if mean_K is None else tuple(mean_K)


def words_on(found: Found) -> str:
    """Return in a line what a model is made of, as far as kept weights have to do with it; empty if nothing has."""
    num_runs, num_missing = sum(map(len, found.parts)), len(found.reasons)
    if found.reasons:
        of = f"{num_missing} of {len(found.parts)} members" if len(found.parts) > 1 else "it"
        return f"{of} trained anew: {found.reasons[0]}"
    return f"made of the weights of {num_runs} run{'s' * (num_runs > 1)} that the search kept" if num_runs else ""


def score_of_run(run: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return the name and the value of the score of a part's run."""
    return next((name, value) for name, value in run.items() if name in METRICS)
