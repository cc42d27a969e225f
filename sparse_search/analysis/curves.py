"""Curves: the best so far against its cost, the best and the average of n, and the learning curves of trials."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.average_estimates import draws
from sparse_search.analysis.averages import DEFAULT_RULE, find_rule
from sparse_search.analysis.estimate import Expected
from sparse_search.analysis.gathering import gather
from sparse_search.analysis.leaderboard import check_metric, query, rank, rankings
from sparse_search.analysis.worth import WORTH_DRAWS, worth
from sparse_search.results.mirror import read_store
from sparse_search.results.rows import metric_of
from sparse_search.results.trials import RANKING
from trainables.metrics.table import DEFAULT_METRIC, sign_of

if TYPE_CHECKING:
    import pandas as pd

_STUDY = (*RANKING, "method")


def best_so_far(
    results: Path | str = "results",
    *,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = DEFAULT_METRIC,
) -> "pd.DataFrame":
    """One row per trial, in the order in which they finished, with the best score and the compute spent by then.

    Per method and ranking. Columns beside the ranking's: `trial_id`, `number`, `start`, `status`, `finished_at`;
    `train_seconds` and `images_done`, spent until this trial finished, early-stopped and failed trials included;
    `score`, the trial's best predictor on `metric`, null where the trial does not rank; `best`, null before the first.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric.
    """
    return best_so_far_of(query(read_store(results), dataset=dataset, shots=shots, method=method), metric)


def best_so_far_of(runs: pa.Table, metric: str = DEFAULT_METRIC) -> "pd.DataFrame":
    """Return the table of `best_so_far` from run rows."""
    metric = metric_of(runs, metric)
    check_metric(metric)
    sign = sign_of(metric)
    scores = rank(runs, metric).select([*RANKING, "trial_id", metric]).to_pandas()
    scores = scores.groupby([*RANKING, "trial_id"], as_index=False)[metric].agg("max" if sign > 0 else "min")
    trials = _trials(runs).merge(scores.rename(columns={metric: "score"}), on=[*RANKING, "trial_id"], how="left")
    trials = trials.sort_values([*_STUDY, "finished_at", "trial_id"], ignore_index=True)
    studies = trials.groupby(list(_STUDY), sort=False)
    trials[["train_seconds", "images_done"]] = studies[["train_seconds", "images_done"]].cumsum()
    signed = trials["score"] * sign
    best = signed.fillna(-np.inf).groupby([trials[name] for name in _STUDY], sort=False).cummax()
    trials["best"] = best.where(np.isfinite(best)) * sign
    return trials


def best_and_average(
    results: Path | str = "results",
    *,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = DEFAULT_METRIC,
    rule: str = DEFAULT_RULE,
) -> "pd.DataFrame":
    """One row per number n of configurations, tried in random orders, and ranking: was the search worth it?

    Columns beside the ranking's: `n`; `best`, the score to expect of the best of n, and `average`, that of their
    average, each with the ends of its 95 % interval, `best_low` and so on. Rankings without predictions are left out.

    Raises:
        ResultsError: no finished run answers the question, or no predictions were kept.
        ConfigError: an unknown metric or rule.
    """
    import pandas as pd

    find_rule(rule)
    store, rows = read_store(results), list[dict[str, Any]]()
    for shared, own in rankings(rank(query(store, dataset=dataset, shots=shots, method=method), metric)):
        gathered = gather(store.address, own) if shared["level"] == "image" else None
        drawn = draws(gathered.candidates, metric, WORTH_DRAWS) if gathered else None
        if drawn is not None:
            found = worth(drawn, rule)
            each = zip(found.sizes, found.best, found.average, strict=True)
            rows += [{**shared, "n": n, **_ends("best", best), **_ends("average", mean)} for n, best, mean in each]
    if not rows:
        raise ResultsError(f"no predictions in {store.address} that let judge averages; they are kept with each run")
    return pd.DataFrame(rows)


def _ends(name: str, each: Expected | None) -> dict[str, float | None]:
    if each is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: each.score, f"{name}_low": each.low, f"{name}_high": each.high}


def learning_curves(
    results: Path | str = "results",
    *,
    trial_ids: list[str] | None = None,
    dataset: str | None = None,
    shots: int | None = None,
    method: str | None = None,
    metric: str = DEFAULT_METRIC,
) -> "pd.DataFrame":
    """One row per evaluation: `trial_id`, `predictor`, `label_set`, `fold`, `epoch`, `images`, seconds and the score.

    Scores are those of single evaluations, whatever the selection. Without `trial_ids`, of every trial.

    Raises:
        ResultsError: no finished run answers the question.
        ConfigError: an unknown metric.
    """
    store = read_store(results)
    runs = query(store, dataset=dataset, shots=shots, method=method)
    return learning_curves_of(runs, store.curves(dataset=dataset, shots=shots, method=method), trial_ids, metric)


def learning_curves_of(
    runs: pa.Table, curves: pa.Table, trial_ids: list[str] | None = None, metric: str = DEFAULT_METRIC
) -> "pd.DataFrame":
    """Return the table of `learning_curves` from run and curve rows."""
    check_metric(metric)
    metric = metric_of(runs, metric)
    if trial_ids is not None:
        runs = runs.filter(pc.is_in(runs["trial_id"], pa.array(trial_ids, pa.string())))
        curves = curves.filter(pc.is_in(curves["record_id"], runs["record_id"].combine_chunks()))
    about = runs.select(["record_id", "predictor", "trial_id", "label_set", "fold"]).to_pandas()
    names = ["record_id", "predictor", "epoch", "images", "train_seconds", "losses_json", metric]
    joined = curves.select(names).to_pandas().merge(about, on=["record_id", "predictor"])
    # A run that a confirmation took over from its search has a record for each: the same curve.
    joined = joined.drop_duplicates(["trial_id", "predictor", "label_set", "fold", "epoch"])
    order = ["trial_id", "predictor", "label_set", "fold", "epoch"]
    return joined.sort_values(order, ignore_index=True).rename(columns={metric: "score"})


def _trials(runs: pa.Table) -> "pd.DataFrame":
    """Per trial: when its last run finished and what its runs cost, each counted once whatever its predictors."""
    columns = [
        *_STUDY,
        "trial_id",
        "number",
        "start",
        "status",
        "finished_at",
        "run_id",
        "train_seconds",
        "images_done",
    ]
    frame = runs.select(columns).to_pandas().sort_values("finished_at", kind="stable")
    frame = frame.drop_duplicates([*RANKING, "trial_id", "run_id"], keep="last")
    return frame.groupby([*_STUDY, "trial_id"], as_index=False).agg(
        number=("number", "last"),
        start=("start", "last"),
        status=("status", "last"),
        finished_at=("finished_at", "last"),
        train_seconds=("train_seconds", "sum"),
        images_done=("images_done", "sum"),
    )
