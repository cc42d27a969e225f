from dataclasses import replace

import pytest
import torch

from search_spaces.core.errors import ConfigError
from search_spaces.supervised import SupervisedConfig
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial

TRIAL = Trial(method="supervised", config=SupervisedConfig(lr=1e-3), dataset="digits", shots=5, label_sets=(0, 2))


def under(**changes):
    """The same trial under other conditions."""
    return replace(TRIAL, conditions=replace(TRIAL.conditions, **changes))


def test_all_shots_are_written_as_a_word_and_validated_among_themselves():
    values = {"method": "pixels", "dataset": "digits", "shots": "all"}
    trial = Trial.from_dict(values)
    assert (trial.shots, trial.conditions.validation) == (0, "labelled-cv")
    assert Trial.from_dict(trial.as_dict()) == trial
    assert Trial.from_dict(values | {"validation": "official"}).conditions.validation == "official"
    with pytest.raises(ConfigError, match="leaves no labelled image for realistic validation"):
        Trial.from_dict(values | {"validation": "realistic"})


def test_round_trip():
    other = under(selection="mean3", accumulate=4, compile=True)
    for trial in (TRIAL, other):
        assert Trial.from_dict(trial.as_dict()) == trial


def test_identity_is_everything_that_matters():
    others = [
        {"config": SupervisedConfig(lr=2e-3)}, {"dataset": "pathmnist"}, {"shots": 10}, {"label_sets": (0,)},
    ]  # fmt: skip
    conditions = [
        {"images": 31}, {"evaluate_every": 6}, {"seed": 1}, {"precision": "bf16"}, {"threads": 2}, {"device": "gpu"},
        {"validation": "official"}, {"selection": "mean3"}, {"accumulate": 2}, {"compile": True},
    ]  # fmt: skip
    ids = {replace(TRIAL, **change).trial_id for change in others}
    ids |= {under(**change).trial_id for change in conditions}
    assert len(ids | {TRIAL.trial_id}) == len(others) + len(conditions) + 1


def test_runs_cover_label_sets_and_folds():
    assert [(run.label_set, run.fold) for run in runs_of_trial(TRIAL)] == [(0, 0), (2, 0)]
    folded = replace(under(validation="labelled-cv"), label_sets=(1,))
    assert [(run.label_set, run.fold) for run in runs_of_trial(folded)] == [(1, fold) for fold in range(5)]


def test_runs_of_two_configurations_are_paired_by_seed_and_named_apart():
    other = replace(TRIAL, config=SupervisedConfig())
    for mine, its in zip(runs_of_trial(TRIAL), runs_of_trial(other), strict=True):
        assert mine.seed == its.seed
        assert mine.run_id("data") != its.run_id("data")
        assert mine.run_id("data") != mine.run_id("other data")
    assert len({run.seed for run in runs_of_trial(TRIAL)}) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shot": 5}, "no 'shot'; did you mean 'shots'"),
        ({"shots": "5"}, "shots: expected int, got '5'"),
        ({"shots": -1}, "shots: -1 is impossible"),
        ({"shots": False}, "shots: expected int, got False"),
        ({"method": "spars"}, "did you mean 'sparse'"),
        ({"method": "no_such_package:METHOD"}, "no module 'no_such_package'"),
        ({"method": "trainables.sparse:SparseLearner"}, "is no trainables.core.method.Method"),
        ({"label_sets": []}, "label_sets"),
        ({"label_sets": [1, 1]}, "different numbers"),
        ({"label_sets": ["a"]}, "whole numbers"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"validation": "offical"}, "validation 'offical' is unknown; did you mean 'official'"),
        ({"selection": "mean"}, "selection 'mean' is unknown; did you mean 'mean3'"),
        ({"selection": 3}, "selection: expected str, got 3"),
        ({"accumulate": 0}, "accumulate: 0 is impossible, expected at least 1"),
        ({"accumulate": True}, "accumulate: expected int"),
        ({"compile": 1}, "compile: expected bool, got 1"),
        ({"config": None}, "config: expected dict"),
        ({"methods": {}}, "this is a sweep"),
        ({"config": {"lr": "fast"}}, "expected a number"),
    ],
)
def test_errors_name_the_mistake(change, words):
    with pytest.raises(ConfigError, match=words):
        Trial.from_dict(TRIAL.as_dict() | change)


def test_missing_keys_are_named():
    with pytest.raises(ConfigError, match="needs: dataset, shots"):
        Trial.from_dict({"method": "constant"})


def test_a_run_trains_as_its_trial_says(monkeypatch):
    given = {}
    monkeypatch.setattr("trainables.training.run.train", lambda *args, **options: given.update(options))
    run = runs_of_trial(under(selection="mean3", accumulate=3))[1]
    run.train(None, hidden_labels_M=torch.arange(2))
    assert (given["seed"], given["selection"]) == (run.seed, "mean3")
    assert given["accelerator"].gradient_accumulation_steps == 3
    assert given["hidden_labels_M"].tolist() == [0, 1]


def test_hidden_labels_belong_to_the_runs_unlabelled_images():
    folded = runs_of_trial(replace(under(validation="labelled-cv"), label_sets=(1,)))[3]
    for run in (*runs_of_trial(TRIAL), folded):
        assert len(run.hidden_labels(None)) == len(run.task(None).unlabelled_NCHW)
    first, second = (run.hidden_labels(None) for run in runs_of_trial(TRIAL))
    assert not torch.equal(first, second)


def test_a_users_own_method_is_named_by_module_and_attribute():
    assert (
        Trial.from_dict(TRIAL.as_dict() | {"method": "trainables.supervised:METHOD"}).find_method().config
        is SupervisedConfig
    )
