"""The conditions of a trial: what they refuse, and what is derived from them."""

import subprocess
import sys
from dataclasses import replace

import pytest

from search_spaces.core.errors import ConfigError
from trainables.core.conditions import CONDITIONS, RANKING_CONDITIONS, ROUNDING_CONDITIONS, Conditions
from trainables.metrics.decisions import DECISIONS
from trainables.metrics.pictures import AGGREGATES, THRESHOLDS
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial

BEFORE = {"method": "constant", "config": {}, "dataset": "digits", "shots": 5, "label_sets": [0, 2]}
OTHERS = {
    "validation": "labelled-cv", "images": 540, "evaluate_every": 60, "selection": "mean3", "aggregate": "top10",
    "threshold": "f1", "seed": 7, "precision": "bf16", "device": "gpu", "threads": 3, "processes": 2, "accumulate": 4,
    "compile": True,
}  # fmt: skip
LATER = {"decision": "pool", "statistics": "running", "folds": 3}
"""Of conditions that the first trials did not have."""


@pytest.mark.parametrize(
    ("values", "trial_id", "run_ids", "seed"),
    [
        (BEFORE, "713eff81f620", ["935dc6769085", "be408c43e348"], 1421166345),
        (BEFORE | OTHERS, "f1b5b9b0d5e7", ["77a7b6f4ed18", "25fdd70d3054"], 3375889397),
    ],
    ids=["defaults", "others"],
)
def test_names_are_those_of_this_protocol(values, trial_id, run_ids, seed):
    """Computed when the protocol changed, before later conditions: what was trained then is known by its name."""
    trial = Trial.from_dict(values)
    runs = runs_of_trial(trial)
    assert trial.trial_id == trial_id
    assert [run.run_id("c0ffee") for run in runs[:2]] == run_ids
    assert runs[0].seed == seed


def test_every_condition_of_a_file_is_read():
    assert Trial.from_dict(BEFORE | OTHERS | LATER).conditions == Conditions(**OTHERS, **LATER)
    assert Trial.from_dict(BEFORE).conditions == Conditions()
    assert {*OTHERS, *LATER} == {condition.name for condition in CONDITIONS}


def test_a_later_condition_is_part_of_a_name_where_it_is_not_the_default():
    plain = Trial.from_dict(BEFORE)
    for name, value in LATER.items():
        assert Trial.from_dict(BEFORE | {name: getattr(Conditions(), name)}).trial_id == plain.trial_id
        assert Trial.from_dict(BEFORE | {name: value}).trial_id != plain.trial_id


def test_rules_for_pictures_are_those_that_exist():
    choices = {condition.name: condition.choices for condition in CONDITIONS}
    assert choices["decision"] == tuple(DECISIONS)
    assert choices["aggregate"] == tuple(AGGREGATES)
    assert choices["threshold"] == tuple(THRESHOLDS)


def test_a_condition_changes_scores_or_their_last_digits():
    assert set(RANKING_CONDITIONS) == {
        "validation", "images", "evaluate_every", "selection", "aggregate", "threshold", "seed", "precision",
        "accumulate", "decision", "statistics", "folds",
    }  # fmt: skip
    assert set(ROUNDING_CONDITIONS) == {"processor", "threads", "processes", "compile"}
    assert tuple(Conditions().as_columns()) == tuple(condition.column for condition in CONDITIONS)
    assert all(condition.why and condition.meaning for condition in CONDITIONS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": 0}, "images: 0 is impossible, expected at least 1"),
        ({"threads": -1}, "threads: -1 is impossible, expected at least 1"),
        ({"validation": "offical"}, "validation 'offical' is unknown; did you mean 'official'"),
        ({"aggregate": "sum"}, "aggregate 'sum' is unknown"),
        ({"threshold": "yuden"}, "threshold 'yuden' is unknown; did you mean 'youden'"),
    ],
)
def test_illegal_values_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(Conditions(), **change)


def test_they_load_without_torch():
    code = "import sys, trainables.core.conditions; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
