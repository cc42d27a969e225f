"""The members of a model before they are trained: of what was exported, on which images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from search_spaces.core.errors import ConfigError, ModelError
from trainables.core.conditions import Validation
from trainables.core.shots import ALL_SHOTS
from trainables.data.catalog import CATALOG
from trainables.data.names import read_name
from trainables.metrics.averaging import AVERAGE
from trainables.training.average import Average
from trainables.training.trial import Trial


@final
@dataclass(frozen=True)
class MemberPlan:
    """A configuration that becomes a member of a model."""

    searched: Trial
    """As the search trained it."""

    trial: Trial
    """As it is trained for use."""

    predictor: str
    weight: float
    run_ids: tuple[str, ...]
    """Runs of the search."""


def parts_to_train(values: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[MemberPlan]:
    """Return the members of what was exported, to be trained as they were.

    Raises:
        ConfigError: it is no trial.
        ModelError: of a method no model can be saved.
    """
    if AVERAGE in values:
        members = Average.from_dict(values).members
        plans = [MemberPlan(each.trial, each.trial, each.predictor, each.weight, each.run_ids) for each in members]
    else:
        trial = Trial.from_dict(values)
        plans = [MemberPlan(trial, trial, evidence["predictor"], 1.0, tuple(evidence["run_ids"]))]
    for plan in plans:
        method = plan.trial.find_method()
        if method.predictor is None:
            why = "makes images and predicts nothing" if method.scorer else "offers no predictor"
            raise ModelError(f"of method '{plan.trial.method}' no model can be saved: it {why}")
        if plan.predictor not in method.predictors:
            raise ConfigError(
                f"method '{plan.trial.method}' has no predictor '{plan.predictor}', which the evidence names; expected "
                f"one of {', '.join(method.predictors)}: export it again"
            )
    return plans


def with_images(
    plan: MemberPlan, label_set: int | None, all_labels: bool = False, kept: bool | None = None
) -> MemberPlan:
    """Return a member with the images that it is to be trained on; see `train_model`.

    Raises:
        ConfigError: two answers.
    """
    if all_labels and label_set is not None:
        raise ConfigError("--all-labels and --label-set are two answers: give one of them")
    trial = plan.searched
    if label_set is not None or kept or (not all_labels and read_name(trial.dataset).name in CATALOG):
        chosen = trial.label_sets[0] if label_set is None else label_set
        return replace(plan, trial=replace(trial, label_sets=(chosen,)))
    validation: Validation = "official" if trial.conditions.validation == "official" else "labelled-cv"
    conditions = replace(trial.conditions, validation=validation)
    return replace(plan, trial=replace(trial, shots=ALL_SHOTS, label_sets=(0,), conditions=conditions))
