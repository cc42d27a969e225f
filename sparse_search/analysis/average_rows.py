"""Averages as rows of a leaderboard: predictions that were kept are gathered, weighed and scored, without training.

Shapes: M members, N images, R runs, K classes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.core.config import canonical_json
from sparse_search.analysis.averages import DEFAULT_RULE, Weighted, rules_for, weighted
from sparse_search.analysis.gathering import Gathered, gather
from sparse_search.results.trials import TRIAL_SCHEMA
from trainables.metrics.averaging import AVERAGE, score_average
from trainables.metrics.classes import ClassScores
from trainables.metrics.table import METRICS

MAX_TRIALS = 4000
"""Trials of a question up to which a leaderboard looks at their predictions."""


def scored(gathered: Gathered, average: Weighted) -> list[ClassScores]:
    """Return the scores of an average, one for each run, as that run would be scored by its last evaluation."""
    candidates, members = gathered.candidates, list(average.members)
    predictions, found = candidates.predictions, []
    for run in range(int(predictions.runs_N.max()) + 1):
        own_N, pool_means = predictions.runs_N == run, predictions.pool_means_CRK
        found.append(
            score_average(
                [candidates.probs_MNK[member, own_N] for member in members],
                average.weights,
                candidates.labels_N[own_N],
                decision=candidates.decision,
                pool_means=() if pool_means is None else list(pool_means[members, run]),
            )
        )
    return found


def mean_scores_of(scores: Sequence[ClassScores]) -> dict[str, float | None]:
    """Return the mean of each metric over runs, None where a run has none."""
    columns = {name: [each.metric(name) for each in scores] for name in METRICS}
    return {name: None if None in values else fmean(values) for name, values in columns.items()}  # type: ignore[arg-type]


def words_for(average: Weighted, methods: Iterable[str] = ()) -> str:
    """Return what an average is made of: `third of 24`, with the methods where these are not all."""
    return " ".join([f"{average.rule} of {average.num_candidates}", *methods])


def averages_of(gathered: Gathered) -> Iterator[tuple[str, Weighted]]:
    """Yield the averages that are ranked, in words and with their weights.

    All candidates by each rule; where they are of several methods, those of each by the default one.
    """
    if len(gathered.trials) < 2:
        return
    for rule in rules_for(gathered.candidates):
        average = weighted(gathered.candidates, rule)
        yield words_for(average), average
    methods = np.array(gathered.methods)
    counts = Counter(gathered.methods)
    for method in sorted(counts) if len(counts) > 1 else ():
        if counts[method] > 1:
            average = weighted(gathered.candidates, DEFAULT_RULE, methods == method)
            yield words_for(average, [method]), average


def average_trials(address: Path | str, trials: pa.Table) -> pa.Table:
    """Return the averages of each ranking of trials that are complete, as further rows like these.

    Raises:
        ResultsError: the storage does not answer.
    """
    by_ranking: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    whole = trials.filter(pc.and_(pc.equal(trials["status"], "complete"), pc.equal(trials["level"], "image")))
    for row in whole.to_pylist() if len(whole) <= MAX_TRIALS else ():
        by_ranking[row["ranking"]].append(row)
    rows: list[dict[str, Any]] = []
    for own in by_ranking.values():
        gathered = gather(address, own)
        for words, average in averages_of(gathered) if gathered else ():
            rows.append(average_row(gathered, average, words))  # type: ignore[arg-type]
    return pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA)


def average_row(gathered: Gathered, average: Weighted, words: str) -> dict[str, Any]:
    """Return the row of an average: what its members share, its own name and scores, and what they cost together."""
    scores, first = scored(gathered, average), gathered.trials[0]
    members = [gathered.trials[member] for member in average.members]
    among = gathered.trials if average.num_candidates == len(gathered.trials) else members
    tried = {trial["method"]: trial["num_tried"] for trial in among}
    counted = zip(members, average.weights, strict=True)
    label_sets, hashes = zip(
        *sorted(zip(first["label_set_list"], first["label_set_hash_list"], strict=True)), strict=True
    )
    shares = {f"{row['predictor']} {row['config_id']}": weight for row, weight in counted}
    return {
        **first,
        "method": AVERAGE,
        "predictor": AVERAGE,
        "trial_id": average.average_id,
        "config_id": average.average_id,
        "config_json": canonical_json({"rule": average.rule, "members": shares}),
        "inactive": "",
        "start": words,
        "versions_json": canonical_json({}),
        **mean_scores_of(scores),
        "num_images": fmean(each.num_images for each in scores),
        "train_seconds": sum(row["train_seconds"] for row in members),
        "label_set_list": list(label_sets),
        "label_set_hash_list": list(hashes),
        "run_id_list": [f"{average.average_id}-{run}" for run in range(len(scores))],
        "confusion_json_list": [canonical_json({"confusion": each.confusion}) for each in scores],
        "num_tried": sum(tried.values()),
        "status": "complete",
        "reason": "",
    }
