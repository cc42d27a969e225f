"""Averages as plain values."""

import pytest

from search_spaces.core.errors import ConfigError
from trainables.training.average import Average

MEMBERS = [
    {"method": "supervised", "config": {"lr": 1e-3}, "predictor": "supervised", "weight": 0.75, "run_ids": ["a", "b"]},
    {"method": "pixels", "config": {}, "predictor": "pixels", "weight": 0.25, "threads": 2},
]
VALUES = {
    "dataset": "digits", "shots": 5, "label_sets": [0, 1], "validation": "realistic", "images": 200,
    "average": {"rule": "third", "members": MEMBERS},
}  # fmt: skip


def with_average(**changes):
    return {**VALUES, "average": VALUES["average"] | changes}


def with_member(**changes):
    return with_average(members=[MEMBERS[0] | changes, MEMBERS[1]])


def test_members_are_trials_that_share_what_they_do_not_say():
    average = Average.from_dict(VALUES)
    first, second = average.members
    assert (average.rule, average.weights) == ("third", (0.75, 0.25))
    assert (first.trial.method, first.trial.config.lr, first.run_ids) == ("supervised", 1e-3, ("a", "b"))
    assert (first.trial.conditions.threads, second.trial.conditions.threads) == (1, 2)
    assert all(member.trial.label_sets == (0, 1) for member in average.members)
    assert all(member.trial.conditions.images == 200 for member in average.members)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (with_average(members=[]), "expected members with weights above 0"),
        (with_member(weight=0.7), "add up to 1"),
        (with_member(weight=float("nan")), "add up to 1"),
        (with_member(weight="most"), "odd weight"),
        (with_member(predictor="sparse"), "supervised has no predictor 'sparse'"),
        (with_member(shots=3), "differ in shots: 3 and 5"),
        (with_member(dataset="digits@16"), "differ in side and grid of the dataset"),
        (with_member(run_ids=["../elsewhere"]), "odd weight, predictor or run_ids"),
        (with_member(label_sets=[0]), "differ in label_sets"),
        (with_member(label_sets=[0, 1], validation="official"), "differ in validation"),
        (with_member(method="segmenter", predictor="segmenter", config={}), "names no classes"),
        (with_member(method="nothing"), "method 'nothing' is unknown"),
        (with_member(colour="red"), "a trial has no 'colour'"),
        (with_average(members=[{"method": "pixels"}]), "needs: config, predictor, weight"),
        (with_average(members="all"), "expected a list of members"),
        (with_average(rule=3), "expected `rule` and `members`"),
        ({**VALUES, "average": None}, "expected `rule` and `members`"),
    ],
)
def test_what_is_no_average_is_refused_in_a_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Average.from_dict(values)
    assert "\n" not in str(caught.value)
