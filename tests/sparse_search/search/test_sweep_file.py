from dataclasses import replace

import pytest

from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Float
from sparse_search.search.sweep_file import MINIMA, POSITIVE, load_sweep, parse_sweep

from ..conftest import TINY, studies_of


def with_method(body, name="sparse"):
    return TINY | {"methods": {name: body}}


def test_studies_are_method_by_dataset_by_shots(tiny):
    sweep = tiny(datasets=["digits", "pathmnist"], shots=[5, 10])
    studies = studies_of(sweep)
    assert len(studies) == 2 * 2 * 2
    assert len({study.name for study in studies}) == 8


def test_a_file_gives_its_name(tmp_path):
    path = tmp_path / "my-sweep.yaml"
    path.write_text("datasets: [digits]\nshots: 5\nmethods: {constant: }\n")
    sweep = load_sweep(path)
    assert (sweep.name, sweep.shots, sweep.methods[0].trials) == ("my-sweep", (5,), 1)


def test_all_labels_beside_numbers_are_validated_among_themselves(tiny):
    sweep = tiny(shots=[5, "all"])
    assert (sweep.shots, sweep.conditions.validation) == ((5, 0), "labelled-cv")
    study = studies_of(sweep)[-1]
    assert study.title.endswith("· all labels")
    assert " all-shot " in study.name
    assert tiny(shots="all").shots == (0,)


def test_search_and_settings():
    body = {
        "settings": {"width": 8, "lr": 1e-3},
        "search": {"percentile": {"high": 0.5}, "mu": [1, 2]},
        "presets": [],
    }
    plan = parse_sweep(with_method(body)).methods[0]
    assert plan.space["percentile"] == Float(0.0, 0.5)
    assert (plan.settings.width, plan.settings.lr, plan.settings.image_size) == (8, 1e-3, 16)
    assert list(plan.starts) == ["default"]


def test_what_is_set_is_not_searched_unless_it_is_asked_for():
    whole, fixed, both = (
        parse_sweep(with_method(body)).methods[0]
        for body in ({}, {"settings": {"lr": 1e-3}}, {"settings": {"lr": 1e-3}, "search": ["lr"]})
    )
    assert set(whole.space) - set(fixed.space) == {"lr"}
    assert (fixed.settings.lr, set(both.space)) == (1e-3, {"lr"})


def test_presets_come_first_with_settings_on_top_and_equal_ones_once():
    plan = parse_sweep(with_method({"settings": {"width": 8, "lambda_kl": 0.7}})).methods[0]
    assert list(plan.starts) == ["default", "paper", "reference"]
    assert plan.starts["reference"].class_loss == "bce_sum"
    assert plan.starts["reference"].width == 8
    assert plan.starts["reference"].lambda_kl == 0.7


def test_a_searched_trial_stands_on_the_settings(tiny):
    study = studies_of(tiny())[0]
    trial = study.trial(replace(study.plan.settings, lr=2e-3), 0)
    assert (trial.config.lr, trial.config.classifier, trial.conditions.images) == (2e-3, "test_resnet", 80)


def test_a_trial_is_trained_and_scored_as_the_sweep_says(tiny):
    study = studies_of(tiny(selection="mean3", accumulate=4, compile=True))[0]
    trial = study.trial(study.plan.settings, 0)
    assert (trial.conditions.selection, trial.conditions.accumulate, trial.conditions.compile) == ("mean3", 4, True)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 81}, {"label_sets": [1]}, {"split_policy": "fresh"}, {"sampler": "nsga2", "pruner": "none"},
        {"objective": "auroc"}, {"seed": 1}, {"image_size": 32},
        {"precision": "bf16"}, {"validation": "official"}, {"selection": "mean3"}, {"accumulate": 2}, {"compile": True},
        {"methods": {"supervised": TINY["methods"]["supervised"] | {"search": ["lr"]}}},
    ],
)  # fmt: skip
def test_another_protocol_is_another_study(tiny, change):
    assert studies_of(tiny(**change))[0].name != studies_of(tiny())[0].name


def test_other_data_is_another_study_but_more_trials_are_the_same(tiny):
    names = {studies_of(tiny(), content)[0].name for content in ("a", "b")}
    assert len(names) == 2
    more = {"supervised": TINY["methods"]["supervised"] | {"trials": 50}}
    same = tiny(methods=more, pruner="halving", workers=1, name="other", sampler="random")
    assert studies_of(same)[0].name in names


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (TINY | {"shot": [5]}, "no 'shot'; did you mean 'shots'"),
        (TINY | {"name": "../etc"}, "must be letters"),
        (TINY | {"datasets": []}, "needs 'datasets'"),
        (TINY | {"shots": [0]}, "shots: 0 is impossible"),
        (TINY | {"shots": [5, 5]}, "different whole numbers"),
        (TINY | {"shots": ["all", "all"]}, "shots: expected a list of different numbers"),
        (TINY | {"shots": [5, "every"]}, "different whole numbers"),
        (TINY | {"shots": ["all"], "validation": "realistic"}, "leaves no labelled image for realistic"),
        (TINY | {"shots": [5, "all"], "validation": "realistic"}, "leaves no labelled image for realistic"),
        (TINY | {"images": 0}, "images: 0 is impossible"),
        (TINY | {"images": "ten"}, "images: 'ten' is impossible"),
        (TINY | {"epochs": 5}, "a sweep has no 'epochs'"),
        (TINY | {"gpus_per_trial": 1.5}, "gpus_per_trial: 1.5 is impossible"),
        (TINY | {"sampler": "tpee"}, "sampler 'tpee' is unknown; did you mean 'tpe'"),
        (TINY | {"validation": "full"}, "validation 'full' is unknown"),
        (TINY | {"objective": "log_loss"}, "objective 'log_loss' is unknown"),
        (TINY | {"precision": "fp8"}, "precision 'fp8'"),
        (TINY | {"selection": "mean"}, "selection 'mean' is unknown; did you mean 'mean3'"),
        (TINY | {"selection": 3}, "selection '3' is unknown"),
        (TINY | {"processes": 2}, "processes: 2 need a CPU each; raise cpus_per_trial to 2"),
        (
            TINY | {"processes": 2, "cpus_per_trial": 2, "gpus_per_trial": 1},
            "processes: 2 need a GPU each or none; set gpus_per_trial to 2 or 0",
        ),
        (TINY | {"nodes_per_trial": 0}, "nodes_per_trial: 0 is impossible, expected a whole number from 1"),
        (
            TINY | {"nodes_per_trial": 2},
            "nodes_per_trial: 2 nodes cannot have equally many of 1 process; set processes to a multiple of 2",
        ),
        (
            TINY | {"nodes_per_trial": 2, "processes": 3},
            "nodes_per_trial: 2 nodes cannot have equally many of 3 processes; set processes to a multiple of 2",
        ),
        (
            TINY | {"nodes_per_trial": 2, "processes": 4},
            "processes: 4 on 2 nodes need a CPU each; raise cpus_per_trial to 2 or more",
        ),
        (
            TINY | {"nodes_per_trial": 2, "processes": 4, "cpus_per_trial": 2, "gpus_per_trial": 4},
            "processes: 4 on 2 nodes need a GPU each or none; set gpus_per_trial to 2 or 0",
        ),
        (TINY | {"accumulate": 0}, "accumulate: 0 is impossible, expected a whole number from 1"),
        (TINY | {"accumulate": 2.5}, "accumulate: 2.5 is impossible"),
        (TINY | {"compile": "fast"}, "compile: 'fast' is impossible, expected true or false"),
        (TINY | {"compile": 1}, "compile: 1 is impossible"),
        (TINY | {"methods": ["sparse"]}, "mapping"),
        (with_method({}, "sprase"), "method sprase: method 'sprase' is unknown; did you mean 'sparse'"),
        (with_method({"settings": {"percentile": 1.7}}), "method sparse: .*percentile: 1.7 is impossible"),
        (
            with_method({"search": {"percentile": {"high": 1.7}}}),
            "range of 'percentile' leaves what is legal",
        ),
        (with_method({"search": ["percentil"]}), "did you mean 'percentile'"),
        (with_method({"search": {"mu": [1, 2.5]}}), "mu: expected a whole number"),
        (with_method({"trials": 0}), "trials: 0 is impossible"),
        (with_method({"trial": 3}), "no 'trial'; did you mean 'trials'"),
        (with_method({"presets": ["papr"]}), "did you mean 'paper'"),
        (with_method({"settings": {"image_size": 64}}), "image_size stands at the top"),
        (with_method({"settings": 5}), "settings: expected"),
        (with_method({"search": [{"lr": 1}]}), "list of names"),
        (with_method({"presets": 5}), "different names, got 5"),
        (TINY | {"name": "a b"}, "must be letters"),
        (TINY | {"gpus_per_trial": float("inf")}, "gpus_per_trial: inf is impossible"),
        (TINY | {"gpus_per_trial": float("nan")}, "gpus_per_trial: nan is impossible"),
        (with_method({}, ":X"), "no module ''"),
        (with_method({}, ".x:Y"), "no module '.x'"),
        (with_method(3), "got 3"),
    ],
)
def test_errors_name_the_mistake(values, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_sweep(values)
    assert "\n" not in str(caught.value)


HUGE = 99999999999999999999999


@pytest.mark.parametrize(
    ("values", "words"),
    [
        *((TINY | {name: HUGE}, f"{name}: {HUGE} is impossible, expected at most") for name in MINIMA),
        *((TINY | {name: 10**4500}, f"{name}: a number of 14949 bits is impossible") for name in ("seed", "images")),
        *((TINY | {name: 1e300}, f"{name}: 1e[+]300 is impossible") for name in POSITIVE),
        *((TINY | {name: 10**4500}, f"{name}: a number of 14949 bits is impossible") for name in POSITIVE),
        (TINY | {"seed": 12345678901234567890}, "seed: 12345678901234567890 is impossible, expected at most"),
        (TINY | {"shots": [HUGE]}, f"shots: {HUGE} is impossible"),
        (TINY | {"label_sets": [0, HUGE]}, f"label_sets: {HUGE} is impossible"),
        (TINY | {"confirm_label_sets": 10**6}, "confirm_label_sets: 1000000 is impossible, expected at most 1000"),
        (TINY | {"images": "x" * 1000}, "images: 'x{79}… is impossible"),
        (with_method({"trials": HUGE}), f"trials: {HUGE} is impossible"),
        (with_method({"settings": {"lr": 10**400}}), "lr: a number of 1329 bits is impossible"),
        (with_method({"settings": {"mu": HUGE}}), "mu: a number of 77 bits is impossible"),
        (with_method({"search": {"lr": [1e-4, 10**400]}}), "lr"),
        (with_method({"search": {"lr": {"low": 1e-4, "high": 10**400}}}), "search range of 'lr'"),
        (with_method({"search": {"mu": [1, HUGE]}}), "mu"),
        (with_method({"search": {"mu": {"low": 1, "high": HUGE}}}), "mu"),
        (with_method({}, f"some.{'long' * 70}:X"), "is too long for a folder of results"),
    ],
)
def test_r1_no_number_is_taken_that_no_table_can_hold(values, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_sweep(values)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_a_budget_beyond_all_bounds_takes_no_time_to_plan():
    (study, *_) = studies_of(parse_sweep(TINY | {"images": 10**15, "evaluate_every": 10**13}))
    assert study.rungs[-1].images == 10**15


def test_r2_a_study_of_a_long_name_has_a_folder_of_its_own():
    plain = parse_sweep(TINY)
    names = {s.folder for n in ("a", "b") for s in studies_of(replace(plain, datasets=(f"{'x' * 400}{n}{'y' * 400}",)))}
    assert len(names) == 2 * len(plain.methods)
    assert max(map(len, names)) <= 220


def test_awkward_but_legal_values(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("name: 5\ndatasets: digits\nshots: 5\nprecision: no\nmethods: {constant: }\n")
    sweep = load_sweep(path)
    assert (sweep.name, sweep.conditions.precision) == ("5", "no")


def test_a_plan_has_room_for_its_starts():
    assert parse_sweep(with_method({"trials": 1, "presets": ["reference"]})).methods[0].trials == 2
    assert parse_sweep(with_method({"search": [], "presets": "reference"})).methods[0].trials == 2


def test_errors_name_the_file_once(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("methods: {sparse: {settings: {percentile: 1.7}}}\ndatasets: digits\nshots: 5\n")
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert str(caught.value).count(str(path)) == 1
