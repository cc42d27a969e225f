"""Studies built again from the records, where their journal is gone or damaged: what was trained is known.

A record holds what the journal was told of its trial. One of an earlier version lacks that: then the value is computed
from its scores as the worker did. A trial without a record was never finished; its place is kept, so that numbers, and
with them label sets and checkpoints, stay what they were.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.errors import ConfigError
from sparse_search.analysis.image_intervals import score_interval
from sparse_search.distributions import distribution_of
from sparse_search.results.rows import config_id
from sparse_search.search.choices import num_objectives
from sparse_search.search.known_runs import at_rungs
from sparse_search.search.outcomes import BALANCED_BRIER, WORST_SECONDS, Result, rejected_value, search_value
from sparse_search.search.study_view import params_of
from sparse_search.search.sweep import Study
from trainables.core.method import find_method

Records = Sequence[Mapping[str, Any]]


def by_trial(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, list[Mapping[str, Any]]]]:
    """Group records by the name of their study and the number of their trial."""
    found: dict[str, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        found[record["study"]][record["number"]].append(record)
    return found


def result_of(study: Study, records: Records) -> Result:
    """Return the cost of a complete trial, and the interval of its value, from the records of its runs."""
    seconds = sum(record["curve"][-1]["seconds"] for record in records)
    images = sum(record["curve"][-1]["images"] for record in records)
    main, objective = find_method(study.plan.name).predictors[0], study.plan.objective
    selected = [record["curve"][-1]["selected"][main] for record in records]
    values = [scores.get(objective) for scores in selected]
    return Result(
        measures={
            "train_seconds": seconds,
            "seconds_per_image": seconds / images,
            "peak_memory_bytes": max(record["peak_memory_bytes"] or 0 for record in records),
        }
        | _brier(study, records),
        interval=score_interval(
            [scores["confusion"] for scores in selected],
            objective,
            score=None if None in values else fmean(values),
            same_images=study.sweep.conditions.validation == "official",
        ),
    )


def _brier(study: Study, records: Records) -> dict[str, float]:
    """Return the class-balanced Brier score of its best predictor, by name; nothing where there is none."""
    names = find_method(study.plan.name).predictors
    last = [record["curve"][-1]["selected"] for record in records]
    scores = [[selected.get(name, {}).get(BALANCED_BRIER) for selected in last] for name in names]
    means = [fmean(each) for each in scores if None not in each]
    return {BALANCED_BRIER: min(means)} if means else {}


def restored(
    study: Study, trials: Mapping[int, Records], searched: Mapping[str, int], before: Sequence[FrozenTrial] = ()
) -> list[FrozenTrial]:
    """Return the trials of a study by number, without a gap.

    Args:
        trials: Records of its trials, by number.
        searched: Of a confirmation, the numbers in the search by configuration.
        before: Trials in the intact part of its journal; what has no record is taken from there.
    """
    found: list[FrozenTrial] = []
    for number in range(max([-1, *trials, len(before) - 1]) + 1):
        old = before[number] if number < len(before) else None
        told = None if old and old.state.is_finished() else _told(study, trials.get(number, ()), searched)
        found.append(told or _kept(old) or create_trial(state=TrialState.FAIL, user_attrs={"outcome": "lost"}))
    return found


def _kept(old: FrozenTrial | None) -> FrozenTrial | None:
    """Return a trial as it was, ready to be added to another journal."""
    if old is not None and old.state == TrialState.FAIL and "outcome" not in old.user_attrs:
        old.user_attrs.setdefault("reason", "unknown")
    return old


def _told(study: Study, records: Records, searched: Mapping[str, int]) -> FrozenTrial | None:
    """Return a trial as its records tell it; None where they do not say how it ended, or a failure."""
    status = max(records, key=lambda record: str(record["finished_at"]))["status"] if records else "failed"
    own = [record for record in records if record["status"] == status and record["curve"]]
    if status == "failed" or not own:
        return None
    try:
        config = read_config(type(study.plan.settings), own[0]["config"])
    except ConfigError:
        return None
    about, reports = _about(study, config, own[0], searched), _reports(study, status, own)
    last = [reports[max(reports)]] if reports else None  # Optuna's value of a pruned trial
    frozen = create_trial(
        state=TrialState.PRUNED if status == "pruned" else TrialState.COMPLETE,
        values=last if status == "pruned" else _values(study, status, own),
        params=(params := params_of(study, config)),
        distributions={name: distribution_of(study.plan.space[name]) for name in params},
        user_attrs=about | _measured(study, status, own),
        intermediate_values=reports,
    )
    end = datetime.fromisoformat(max(str(record["finished_at"]) for record in own)).astimezone(UTC).replace(tzinfo=None)
    frozen.datetime_start = end - timedelta(seconds=sum(record["wall_seconds"] for record in own))
    frozen.datetime_complete = end
    return frozen


def _about(
    study: Study, config: MethodConfig, record: Mapping[str, Any], searched: Mapping[str, int]
) -> dict[str, Any]:
    name = config_id(study.plan.name, write_config(config))
    about: dict[str, Any] = {"config": write_config(config), "config_id": name, "restored": True}
    if record["start"]:
        about["start"] = record["start"]
    if study.confirmation:
        about |= {"start": record["start"], "confirms": searched.get(name, -1)}
    return about


def _measured(study: Study, status: str, records: Records) -> dict[str, Any]:
    if status in ("complete", "infeasible"):
        result = result_of(study, records)
        return dict(result.measures) | ({"interval": list(result.interval)} if result.interval else {})
    return {} if status == "pruned" else {"outcome": status, "reason": records[0]["reason"]}


def _values(study: Study, status: str, records: Records) -> list[float]:
    num, objective = num_objectives(study.sweep.sampler), study.plan.objective
    if status not in ("complete", "infeasible"):
        return [rejected_value(objective, []), WORST_SECONDS][:num]
    told = [record["told"]["value"] for record in records if "told" in record]
    value = told[0] if told else fmean(_value(study, record["curve"][-1]["selected"]) for record in records)
    return [value, sum(record["curve"][-1]["seconds"] for record in records)][:num]


def _reports(study: Study, status: str, records: Records) -> dict[int, float]:
    """Return the values at the rungs: as they were told, or of those that every run has passed."""
    if num_objectives(study.sweep.sampler) > 1 or len(study.rungs) < 2:
        return {}
    for record in records:
        if "told" in record:
            return {int(step): value for step, value in record["told"]["reports"].items()}
    spent = min(record["curve"][-1]["images"] for record in records)
    passed = [rung for rung in study.rungs[:-1] if rung.images <= spent or status != "pruned"]
    scores = [at_rungs(record, passed) for record in records]
    return {rung.step: fmean(_value(study, run[k]) for run in scores) for k, rung in enumerate(passed)}


def _value(study: Study, selected: Mapping[str, Any]) -> float:
    main = find_method(study.plan.name).predictors[0]
    return search_value(study.plan.objective, selected[main].get)
