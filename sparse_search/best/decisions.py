"""How classes are named, chosen after training: from stored predictions, without a new trial."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.errors import ConfigError, ResultsError, suggestion
from sparse_search.best.export import read_single
from sparse_search.best.picture_rules import Judged, best_first, judged_by, stacked
from sparse_search.results.predictions import read_predictions
from trainables.metrics.classes import score
from trainables.metrics.decisions import DECISIONS, named
from trainables.metrics.table import CLASSES, DEFAULT_METRIC


def compare_decisions(
    exported: Path | str, results: Path | str = "results", *, metric: str = DEFAULT_METRIC
) -> list[Judged]:
    """An exported trial under every decision rule, best first; validation scores at the last evaluation.

    Raises:
        ResultsError: the file is no export, its images are patches, or their predictions are not there.
    """
    values, evidence = read_single(Path(exported))
    runs = list(_runs(values, evidence, results))
    judged = [
        judged_by(
            rule,
            [score(run.probs_NK, run.labels_N, named(rule, run.probs_NK, run.pool_mean_K)) for run in runs],
            same_images=values["validation"] == "official",
        )
        for rule in DECISIONS
    ]
    return best_first(judged, metric)


def with_decision(exported: Path | str, rule: str, results: Path | str = "results") -> dict[str, Any]:
    """The exported trial under another decision rule, its evidence counted anew.

    Raises:
        ConfigError: an unknown rule.
        ResultsError: as `compare_decisions`.
    """
    if rule not in DECISIONS:
        raise ConfigError(f"decision '{rule}' is unknown{suggestion(rule, DECISIONS)}")
    values, evidence = read_single(Path(exported))
    judged = next(each for each in compare_decisions(exported, results) if each.rule == rule)
    kept = {name: value for name, value in evidence.items() if name != "over_label_sets"}
    counted = {
        "scores": {**evidence["scores"], **judged.scores},
        "interval_95": {"metric": CLASSES.default, "low": judged.low, "high": judged.high},
        "rule": f"decision {rule} was chosen after training, from predictions on validation",
    }
    return {**values, "decision": rule, "evidence": {**kept, **counted}}


@dataclass(frozen=True)
class _Run:
    """Predictions (N, K) of the images of one run, their labels (N,), and the mean over the pool (K,)."""

    probs_NK: NDArray[np.float64]
    labels_N: NDArray[np.int64]
    pool_mean_K: NDArray[np.float64]


def _runs(values: Mapping[str, Any], evidence: Mapping[str, Any], results: Path | str) -> Iterator[_Run]:
    about = {"dataset": evidence["dataset"], "shots": values["shots"], "method": values["method"]}
    for run_id in evidence["run_ids"]:
        table = read_predictions(results, [{**about, "run_id": run_id}])
        own = table.filter(pc.equal(table["predictor"], evidence["predictor"]))
        if pc.max(own["row"]).as_py() or pc.max(own["column"]).as_py():
            raise ResultsError(f"{about['dataset']} is judged by patches: compare their rules with `aggregate`")
        pool_mean = own["pool_mean"][0].as_py()
        if pool_mean is None:
            raise ResultsError(
                f"run {run_id} has no mean prediction of unlabelled images: it has none, or is of an earlier version"
            )
        yield _Run(stacked(own["probabilities"]), own["label"].to_numpy(), np.array(pool_mean, np.float64))
