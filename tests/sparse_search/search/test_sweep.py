"""Rungs, label sets and shares of a sweep's studies."""

import pytest

from ..conftest import TINY, studies_of

SPARSE = {"sparse": {"trials": 5, "search": ["percentile", "mu"], "settings": {"unsup_fraction": 1.0}}}


def rungs(study):
    return [tuple(rung) for rung in study.rungs]


def test_the_ladder_goes_over_label_sets_too(tiny):
    (study, _) = studies_of(tiny(images=27_000, evaluate_every=1000, pruner="halving", label_sets=list(range(5))))
    assert rungs(study) == [(1, 1000, 1), (3, 3000, 1), (9, 9000, 3), (27, 27_000, 5)]
    assert rungs(study.confirming()) == [(1, 27_000, 4)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pruner": "none"}, [(1, 2700, 3)]),
        ({"label_sets": [4]}, [(1, 900, 1), (3, 2700, 1)]),  # twenty steps are 640 images
        ({"images": 27_000, "evaluate_every": 1000}, [(1, 1000, 1), (3, 3000, 1), (9, 9000, 2), (27, 27_000, 3)]),
        ({"evaluate_every": 800}, [(1, 800, 1), (3, 1600, 2), (9, 2700, 3)]),  # two rungs fall together
        ({"evaluate_every": 2700}, [(1, 2700, 3)]),
        ({"pruner": {"name": "halving", "reduction": 5}}, [(1, 900, 2), (3, 2700, 3)]),
    ],
)
def test_rungs_are_evaluations(tiny, changes, expected):
    plain = {"images": 2700, "evaluate_every": 100, "pruner": "halving", "label_sets": [0, 1, 2]}
    assert rungs(studies_of(tiny(**plain | changes))[0]) == expected


@pytest.mark.parametrize(
    ("images", "settings", "least"),
    [
        (270_000, {}, 50 * 20 + 400),  # μ = 50: fifty epochs of 20 labelled images, one pass over 400 unlabelled
        (270_000, {"unsup_warmup": 30}, 80 * 20 + 400),
        (27_000, {}, 50 * 20 + 400),
        (1_350, {}, 1_350),  # it does not even end within the budget
    ],
)
def test_the_first_rung_lies_beyond_the_longest_cycle(tiny, images, settings, least):
    body = {"sparse": SPARSE["sparse"] | {"settings": {"unsup_fraction": 1.0, **settings}}}
    (study,) = studies_of(tiny(images=images, evaluate_every=images // 27, pruner="halving", methods=body))
    assert study.rungs[0].images >= least
    every = [images // 27, images // 9, images // 3, images]
    assert [rung.images for rung in study.rungs] == [end for end in every if end >= least]


def test_a_method_without_a_cycle_has_every_rung(tiny):
    plain = {"images": 27_000, "evaluate_every": 1000, "pruner": "halving"}
    assert [len(study.rungs) for study in studies_of(tiny(**plain))] == [4, 4]
    never = {"sparse": {"trials": 5, "search": ["percentile"], "settings": {"mu": 0}}}
    assert len(studies_of(tiny(**plain, methods=never))[0].rungs) == 4


def test_shared_label_sets_pair_configurations_and_fresh_ones_do_not(tiny):
    shared, fresh = (studies_of(tiny(label_sets=[3, 1], split_policy=policy))[0] for policy in ("shared", "fresh"))
    assert shared.label_sets(0) == shared.label_sets(7) == (3, 1)
    assert fresh.label_sets(0) == (1003, 1001)
    assert not set(fresh.label_sets(0)) & set(fresh.label_sets(1))
    assert (shared.label_sets_text, fresh.label_sets_text) == ("1, 3", "2 fresh")


def test_s11_a_confirmation_has_label_sets_that_had_no_part_in_choosing(tiny):
    for policy, first in (("shared", 0), ("fresh", 6000)):
        search = studies_of(tiny(label_sets=[0, 1], split_policy=policy, confirm_label_sets=2))[0]
        confirmation = search.confirming()
        assert confirmation.label_sets(5) == tuple(first + label_set for label_set in (2, 3))
        assert not set(confirmation.label_sets(5)) & set(search.label_sets(5))
        assert confirmation.name != search.name


def test_most_trials_of_all_studies_are_shared_out_evenly(tiny):
    methods = TINY["methods"] | {"supervised": TINY["methods"]["supervised"] | {"trials": 6}}
    studies = studies_of(tiny(methods=methods, shots=[2, 3, 4], max_trials=12))
    assert [study.plan.trials for study in studies] == [3, 1, 3, 1, 3, 1]
    assert [study.plan.trials for study in studies_of(tiny(methods=methods, max_trials=100))] == [6, 1]
    assert studies[0].name == studies_of(tiny(methods=methods, shots=[2, 3, 4]))[0].name


def test_over_how_many_nodes_a_trial_is_trained_makes_it_no_other(tiny):
    single, spread = (
        studies_of(tiny(processes=4, **changes))[0]
        for changes in ({"cpus_per_trial": 8}, {"cpus_per_trial": 4, "nodes_per_trial": 2})
    )
    assert single.name == spread.name
    trials = [study.trial(study.plan.settings, 0) for study in (single, spread)]
    assert trials[0] == trials[1]
    assert trials[0].conditions.threads == 2


@pytest.mark.parametrize(
    ("changes", "names", "trial_id"),
    [
        ({}, ["supervised digits 2-shot b8b3d49cb7f5", "constant digits 2-shot 7ca50effa6df",
              "supervised digits 2-shot ffd63a3ccba0 confirmation"], "bb5ffbf70bd6"),
        ({"images": 540, "evaluate_every": 60, "selection": "mean3", "aggregate": "top10", "threshold": "f1", "seed": 7,
          "precision": "bf16", "processes": 2, "cpus_per_trial": 4, "accumulate": 4, "compile": True,
          "validation": "labelled-cv", "split_policy": "fresh", "confirm": 2, "label_sets": [0, 1]},
         ["supervised digits 2-shot 0cf02dc7cbff", "constant digits 2-shot a35ad745ec92",
          "supervised digits 2-shot 80954527b2a6 confirmation"], "ac81da6462ba"),
    ],
    ids=["defaults", "others"],
)  # fmt: skip
def test_studies_have_the_names_of_this_protocol(tiny, changes, names, trial_id):
    """Computed when the protocol changed: the same sweep file goes on with its studies."""
    first, second = studies_of(tiny(**changes))
    assert [first.name, second.name, first.confirming().name] == names
    assert first.trial(first.plan.settings, 3).trial_id == trial_id
