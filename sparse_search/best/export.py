"""Export of a leaderboard's answer, an average or one of its rows, to a file that trains it again."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from search_spaces.core.errors import ConfigError, ResultsError
from search_spaces.core.yaml_files import dump_yaml, read_yaml
from sparse_search.analysis.expectation import Expectation, expectation_of, expectation_values
from sparse_search.analysis.leaderboard import SELECTED, label_set_scores, query, rank
from sparse_search.analysis.pairing import evidence_of
from sparse_search.analysis.statistics import summarise
from sparse_search.best.averaged import MIN_MEMBERS, average_entry, average_evidence, find_average, ranked_average
from sparse_search.results.files import write_atomically
from sparse_search.results.mirror import read_store
from sparse_search.results.object_store import is_uri
from sparse_search.results.store import Store
from sparse_search.results.trials import RANKING
from trainables.core.conditions import CONDITIONS
from trainables.core.shots import ALL_SHOTS, shots_title, shots_word
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.table import DEFAULT_METRIC, METRICS, metric_for
from trainables.training.average import RUN_NAME
from trainables.training.trial import with_shots


def export(
    results: Path | str = "results",
    *,
    dataset: str,
    shots: int,
    method: str | None = None,
    config_id: str | None = None,
    metric: str = DEFAULT_METRIC,
    output: Path | str | None = None,
    pretrained: bool | None = None,
    average: str = "",
    single: bool = False,
) -> dict[str, Any]:
    """Return the answer of a search with everything needed to train it again, and the evidence for it.

    It is the average of what was tried, whose members then stand below `average`, where predictions were kept and more
    than one configuration has a weight; else, or where one is asked for, the best configuration.

    Args:
        results: The results folder, or its URI.
        dataset: The data set.
        shots: The number of labelled images.
        method: Only this method; the best of all when not given.
        config_id: The first digits of a configuration's name, to be exported instead of the best.
        metric: The score that says what is best.
        output: A YAML file to write it to: `python -m trainables --config FILE`, `reproduce` and `evaluate` read it.
        pretrained: Only with weights from before, or only without; the rankings are two.
        average: The rule that weighs members: `uniform`, `third`, `tempered` or `greedy`; `third` when not given.
        single: One configuration, the best.

    Raises:
        ResultsError: no finished run answers the question, or the file cannot be written; or an average is asked for,
            and there is none.
        ConfigError: an unknown metric or rule.
    """
    if average and (single or config_id):
        raise ConfigError(f"average '{average}' and a single configuration are two answers: ask for one of them")
    store = read_store(results)
    ranked = rank(query(store, dataset=dataset, shots=shots, method=method), metric).to_pylist()
    rows = [row for row in ranked if _is_asked(row, config_id, pretrained)]
    rows = [row for row in rows if metric_for(row["level"], metric) == metric] or rows  # of generators if nothing else
    if not rows:
        asked = f"{config_id or ''} on {dataset} with {shots_title(shots)}"
        raise ResultsError(f"no complete trial of configuration {asked}")
    values = None if single or config_id else _averaged(store, rows, average, metric)
    values = values or _single(store, _best_founded(rows), config_id, metric)
    if output is not None:
        write_export(values, Path(output))
    return values


def _is_asked(row: Mapping[str, Any], config_id: str | None, pretrained: bool | None) -> bool:
    return (
        row["level"] != "patch"
        and (config_id is None or row["config_id"].startswith(config_id))
        and pretrained in (None, bool(row["pretrained"]))
    )


def _single(store: Store, rows: list[dict[str, Any]], config_id: str | None, metric: str) -> dict[str, Any]:
    """Return the first of rows, and the evidence for it."""
    _check_alike(rows, config_id)
    evidence = _evidence(rows[0], metric_for(rows[0]["level"], metric))
    if not config_id:
        evidence["expected"] = expectation_values(_expected(store, rows, metric))
    return _trial(rows[0]) | {"evidence": evidence | {"results": _origin(store)}}


def _check_alike(rows: list[dict[str, Any]], config_id: str | None) -> None:
    """Refuse rows of which no first one is the best: of several rankings, or of several configurations of one name."""
    rankings = {tuple(row[name] for name in RANKING) for row in rows}
    if config_id and len({row["config_id"] for row in rows}) > 1:
        raise ResultsError(f"'{config_id}' begins several configurations; give more of its digits")
    if len(rankings) > 1:
        differing = [name for position, name in enumerate(RANKING) if len({key[position] for key in rankings}) > 1]
        raise ResultsError(
            f"{len(rankings)} rankings fit, which differ in {', '.join(differing)} and must not be compared; "
            "name a configuration of the leaderboard with --config-id, "
            f"{'say --pretrained or --no-pretrained, ' * ('pretrained' in differing)}"
            "or keep the sweeps in different --results"
        )


def _averaged(store: Store, rows: list[dict[str, Any]], rule: str, metric: str) -> dict[str, Any] | None:
    """Return the average of rows and the evidence for it; None where there is none, and no rule asks for it."""
    found = find_average(store.address, rows, rule)
    if found is None or (not rule and len(found[1].members) < MIN_MEMBERS):  # the best third of few is one of them
        return None
    metric = metric_for("image", metric)
    evidence = _evidence(ranked_average(*found, metric), metric) | average_evidence(*found, metric)
    return average_entry(*found) | {"evidence": evidence | {"results": _origin(store)}}


def _expected(store: Store, rows: Sequence[Mapping[str, Any]], metric: str) -> Expectation | str:
    """Return what to expect of the first of rows, among those of its ranking."""
    own = [row for row in rows if all(row[name] == rows[0][name] for name in RANKING)]
    return expectation_of(store.address, own, metric_for(rows[0]["level"], metric))


def _origin(store: Store) -> str:
    """Return where the results lie, to which a look at their test set belongs."""
    return store.address if is_uri(store.address) else str(store.folder.resolve())


def _best_founded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, of rankings that differ in nothing but the label sets, the confirmed, or else those with the most."""
    alike: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        alike[tuple(row[name] for name in RANKING if name != "label_sets")][row["label_sets"]].append(row)
    best: list[dict[str, Any]] = []
    for by_label_sets in alike.values():
        most = max(map(evidence_of, by_label_sets.values()))
        best += (row for own in by_label_sets.values() if evidence_of(own) == most for row in own)
    return best


def write_export(values: dict[str, Any], path: Path) -> None:
    """Write an exported configuration as YAML.

    Raises:
        ResultsError: the file cannot be written.
    """
    header = (
        f"# {title_of(values)} for {values['dataset']}, {shots_word(values['shots'])} labelled images"
        f"{'' if values['evidence'].get('shots_in_all') or values['shots'] == ALL_SHOTS else ' per class'}.\n"
        f"# Train it again:  python -m trainables --config {path.name}\n"
    )
    try:
        write_atomically(path, (header + dump_yaml(values | {"shots": shots_word(values["shots"])})).encode())
    except OSError as problem:
        raise ResultsError(f"cannot write {path}: {problem.strerror}") from problem


def title_of(values: Mapping[str, Any]) -> str:
    """Return what is exported, in words."""
    if AVERAGE in values:
        return f"average of {len(values[AVERAGE]['members'])} configurations"
    return str(values["method"])


def read_single(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read an export of one configuration; raises as `read_export`, and for an average.

    Raises:
        ResultsError: it is an average, or no export.
    """
    values, evidence = read_export(path)
    if AVERAGE in values:
        raise ResultsError(f"{path} is an average, and this is asked of one configuration: export it with --single")
    return values, evidence


def read_export(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the trial and the evidence in an exported file, as plain values, `shots` as a number.

    An average has `average` in place of `method` and `config`; `trainables.training.average.Average` reads it.

    Raises:
        ConfigError: no such file, or no YAML.
        ResultsError: it is no export.
    """
    values = dict(with_shots(read_yaml(path)))
    evidence = values.pop("evidence", None)
    if not isinstance(evidence, dict):
        raise ResultsError(f"{path} holds no evidence: expected a file that `sparse-search export` wrote")
    missing = _EVIDENCE - evidence.keys()
    if missing:
        raise ResultsError(f"{path}: its evidence lacks {', '.join(sorted(missing))}; export it again")
    told = [*_EVIDENCE, *_OPTIONAL & evidence.keys()]
    if odd := next(filter(None, (_odd(evidence, name) for name in told)), ""):
        raise ResultsError(f"{path}: its evidence has an odd '{odd}': {str(evidence[odd])[:80]}; export it again")
    return values, evidence


def _odd(evidence: Mapping[str, Any], name: str) -> str:
    """Return the name of a part of the evidence that is not what `export` writes, or nothing."""
    value = evidence[name]
    match name:
        case "scores":
            numbers = value.items() if isinstance(value, dict) else [(None, None)]
            is_right = all(isinstance(key, str) and _is_number(number) for key, number in numbers)
        case "interval_95":
            is_right = isinstance(value, dict) and str(value.get("metric")) in METRICS
            is_right = is_right and all(_is_number(value.get(end)) for end in ("low", "high"))
            is_right = is_right and isinstance(evidence["scores"], dict) and value["metric"] in evidence["scores"]
        case "run_ids":
            is_right = isinstance(value, list) and all(
                isinstance(each, str) and RUN_NAME.fullmatch(each) for each in value
            )
        case "versions":
            is_right = isinstance(value, dict) and all(isinstance(each, str) for each in (*value, *value.values()))
        case _:
            is_right = isinstance(value, str)
    return "" if is_right else name


def _is_number(value: object) -> bool:
    return value is None or (type(value) in (int, float) and isfinite(value))  # type: ignore[arg-type]


_EVIDENCE = {"predictor", "scores", "interval_95", "content_hash", "dataset", "run_ids", "versions"}
"""Keys that are read of it."""

_OPTIONAL = {"results"}
"""Further keys that are read where they are there; files of before have them not."""


def _trial(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": row["method"],
        "config": json.loads(row["config_json"]),
        "dataset": row["source"],
        "shots": row["shots"],
        "label_sets": sorted(set(row["label_set_list"])),
    } | {condition.name: row[condition.column] for condition in CONDITIONS}


def _evidence(row: dict[str, Any], metric: str) -> dict[str, Any]:
    return {
        "predictor": row["predictor"],
        "config_id": row["config_id"],
        "without_effect": row["inactive"],
        "scored_on": f"validation, {SELECTED[row['selection']]}, mean over label sets; the test set was not read",
        "scores": {name: row[name] for name in METRICS},
        "over_label_sets": _over_label_sets(row, metric),
        "interval_95": {"metric": metric, "low": row["low"], "high": row["high"]},
        "best_of": f"{row['num_tried']} configurations of {row['method']}: expect less on new images",
        "labels_per_label_set": row["label_budget"],
        "shots_in_all": row["shots_in_all"],
        "dataset": row["dataset"],
        "content_hash": row["content_hash"],
        "official_data": row["official"],
        "label_set_hashes": row["label_set_hash_list"],
        "run_ids": row["run_id_list"],
        "train_seconds": row["train_seconds"],
        "device": row["device"],
        "versions": json.loads(row["versions_json"]),
    }


def _over_label_sets(row: dict[str, Any], metric: str) -> dict[str, Any] | None:
    """Return the score on each label set and where they lie; None for metrics that no confusion table gives."""
    if not METRICS[metric].is_counted:
        return None
    scores = {label_set: score for label_set, (score, _) in label_set_scores(row, metric).items()}
    found = summarise(list(scores.values()))
    return {
        "scores": scores,
        "mean": found.mean,
        "median": found.median,
        "interquartile_mean": found.interquartile_mean,
    }
