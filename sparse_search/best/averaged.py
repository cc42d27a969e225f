"""An average as an exported file holds it: what its members share, and below `average` the rule and the members."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.average_estimates import draws
from sparse_search.analysis.average_rows import average_row, words_for
from sparse_search.analysis.averages import DEFAULT_RULE, Weighted, find_rule, rules_for, weighted
from sparse_search.analysis.estimate import Expected
from sparse_search.analysis.gathering import POOLED, Gathered, gather
from sparse_search.analysis.leaderboard import rank_trials
from sparse_search.analysis.pairing import evidence_of
from sparse_search.results.texts import score_text
from sparse_search.results.trials import TRIAL_SCHEMA
from trainables.core.conditions import CONDITIONS
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.table import METRICS

MIN_MEMBERS = 2
"""Configurations from which on there is something to average."""


def find_average(address: str, rows: Sequence[Mapping[str, Any]], rule: str) -> tuple[Gathered, Weighted] | None:
    """Average the rows of rankings; None where that is not asked for by a rule, and cannot be done.

    Args:
        address: The results folder, or its URI.
        rows: Of rankings, which may differ in what belongs to a configuration.
        rule: Name of a rule; the default one when empty.

    Raises:
        ResultsError: it is asked for, and cannot be done.
        ConfigError: an unknown rule.
    """
    find_rule(rule or DEFAULT_RULE)
    pool = largest_pool(rows)
    gathered = gather(address, pool) if pool else None
    if gathered is None or len(gathered.trials) < MIN_MEMBERS:
        if rule:
            raise ResultsError(f"nothing to average: {_why_not(rows, gathered)}; export one with --single")
        return None
    if (rule or DEFAULT_RULE) not in rules_for(gathered.candidates):
        raise ResultsError(
            f"rule '{rule}' fits itself to {gathered.candidates.predictions.num_images} judging images; take "
            f"{' or '.join(rules_for(gathered.candidates))}"
        )
    return gathered, weighted(gathered.candidates, rule or DEFAULT_RULE)


def largest_pool(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return, of rankings that differ in nothing but the label sets, the rows of the one with the most configurations.

    A search has more of them than its confirmation, and the more are averaged the better. Nothing where rankings differ
    in more, and must not be mixed.
    """
    pools: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["level"] == "image":
            pools[tuple(row[name] for name in POOLED)].append(row)
    if len({tuple(own[0][name] for name in POOLED if name != "label_sets") for own in pools.values()}) != 1:
        return []
    return max(pools.values(), key=lambda own: (len({row["trial_id"] for row in own}), evidence_of(own)))


def _why_not(rows: Sequence[Mapping[str, Any]], gathered: Gathered | None) -> str:
    if any(row["level"] == "image" for row in rows) and not largest_pool(rows):
        return "the configurations are of rankings that must not be mixed"
    if gathered is not None:
        told = "".join(f", {count} {why}" for why, count in gathered.left_out.items())
        return f"{len(gathered.trials)} configuration has predictions{told}"
    return "no configuration has predictions of whole images that were kept"


def average_entry(gathered: Gathered, average: Weighted) -> dict[str, Any]:
    """Return the keys of a trial that the members share, and what each of them has of its own."""
    rows = [gathered.trials[member] for member in average.members]
    first = _shared(rows[0])
    members = []
    for row, weight in zip(rows, average.weights, strict=True):
        own = {name: value for name, value in _shared(row).items() if value != first[name]}
        members.append(
            {
                "method": row["method"],
                "config": json.loads(row["config_json"]),
                "predictor": row["predictor"],
                "weight": weight,
                "run_ids": row["run_id_list"],
                **own,
            }
        )
    return first | {AVERAGE: {"rule": average.rule, "members": members}}


def _shared(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a trial that members usually share."""
    return {
        "dataset": row["source"],
        "shots": row["shots"],
        "label_sets": sorted(set(row["label_set_list"])),
    } | {condition.name: row[condition.column] for condition in CONDITIONS}


def ranked_average(gathered: Gathered, average: Weighted, metric: str) -> dict[str, Any]:
    """Return the average as a row of a leaderboard, with the interval of the metric."""
    table = pa.Table.from_pylist([average_row(gathered, average, words_for(average))], schema=TRIAL_SCHEMA)
    row: dict[str, Any] = rank_trials(table, metric).to_pylist()[0]
    return row


def average_expectation(gathered: Gathered, average: Weighted, metric: str) -> dict[str, Any]:
    """Return what to expect of an average on new images, beside the best configuration, as plain values."""
    drawn = draws(gathered.candidates, metric)
    if drawn is None:
        return {"in_words": "No estimate for new images: a class has a single image to judge by."}
    average_B, best_B = drawn.by_rule(average.rule), drawn.by_choice()
    parts = {AVERAGE: drawn.expect(average_B), "best_single": drawn.expect(best_B)}
    parts["gain"] = drawn.expect_gain(average_B, best_B)
    known = {name: vars(each) for name, each in parts.items() if each}
    words = "; ".join(f"{_NAMES[name]} {expected_text(each)}" for name, each in parts.items() if each)
    judging = gathered.candidates.predictions.num_images
    return {"metric": metric, **known, "from_images": judging, "from_configurations": len(gathered.trials)} | {
        "in_words": f"{METRICS[metric].title} on new images of the same kind, estimated from {judging} judging images "
        f"without a test set: {words}."
    }


def expected_text(each: Expected) -> str:
    """Return a score to expect with its interval, in words."""
    return f"{score_text(each.score)} (95 %: {score_text(each.low)} to {score_text(each.high)})"


_NAMES = {AVERAGE: "the average", "best_single": "the best single", "gain": "the difference"}


def average_evidence(gathered: Gathered, average: Weighted, metric: str) -> dict[str, Any]:
    """Return what of the evidence of an average is other than that of a configuration."""
    rows = [gathered.trials[member] for member in average.members]
    versions: dict[str, str] = {}
    for row in reversed(rows):
        versions |= json.loads(row["versions_json"])
    methods = ", ".join(sorted(set(gathered.methods)))
    found = {
        "without_effect": "",
        "scored_on": "validation, at the last evaluation, mean over label sets; the test set was not read",
        "best_of": f"{words_for(average)} configurations of {methods}, {len(rows)} with a weight",
        "run_ids": [run_id for row in rows for run_id in row["run_id_list"]],
        "versions": versions,
        "expected": average_expectation(gathered, average, metric),
    }
    left_out = dict(gathered.left_out)
    return found | ({"left_out": left_out} if left_out else {})
