"""A search for generators before the search for what learns from their images: two studies of one sweep."""

import json

import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from search_spaces.core.config import write_config
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import space_of
from search_spaces.ssgnet import SsgnetConfig
from sparse_search.analysis.comparison import compare, compare_all
from sparse_search.analysis.curves import best_so_far
from sparse_search.analysis.leaderboard import board, leaderboard, rankings
from sparse_search.best.export import export, write_export
from sparse_search.best.retrain import evaluate, reproduce
from sparse_search.cli.app import app
from sparse_search.cli.findings import look_table
from sparse_search.execution.run import run
from sparse_search.execution.searcher import JournalSearcher
from sparse_search.execution.status import status
from sparse_search.pages.page import report
from sparse_search.results.ledger import looks
from sparse_search.results.mirror import read_store
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.sweep_file import parse_sweep

from ..conftest import studies_of

GENERATORS = {
    "trials": 2,
    "presets": [],
    "settings": {
        "generator_images": 160, "generator_width": 8, "generator_channel_base": 64, "generator_batch": 8,
        "mapping_layers": 1, "steps_per_epoch": 2, "score_images": 8,
    },
    "search": ["r1_weight", "augment"],
}  # fmt: skip
SSGNET = {
    "trials": 2,
    "presets": ["real"],
    "settings_from": "ssgnet_generators",
    "settings": {"classifier": "test_resnet", "batch_size": 8},
    "search": ["extra_ratio", "lr"],
}
SWEEP = {
    "name": "two-studies",
    "datasets": ["digits"],
    "shots": [2],
    "image_size": 16,
    "images": 320,
    "evaluate_every": 80,
    "confirm": 0,
    "pruner": "none",
    "methods": {"ssgnet_generators": GENERATORS, "ssgnet": SSGNET},
}


def with_changes(method, **changes):
    return SWEEP | {"methods": SWEEP["methods"] | {method: SWEEP["methods"][method] | changes}}


def test_what_is_searched_before_is_taken_and_what_is_fixed_there_is_fixed_here():
    before, plan = parse_sweep(SWEEP).methods
    assert (before.objective, plan.objective) == ("kid", "balanced_accuracy")
    assert set(plan.inherited) == {"r1_weight", "augment"}
    assert (plan.settings.generator_images, plan.settings.mapping_layers) == (160, 1)
    assert plan.starts["real"].mapping_layers == 1
    assert set(plan.space) == {"extra_ratio", "lr"}


def test_without_a_list_everything_is_searched_that_is_not_set_and_that_the_study_before_does_not_have():
    plan = parse_sweep(with_changes("ssgnet", search=None)).methods[1]
    before = space_of(type(parse_sweep(SWEEP).methods[0].settings))
    assert set(plan.space) == set(space_of(SsgnetConfig)) - set(before) - {"classifier", "batch_size"}


def test_each_study_has_its_objective():
    assert parse_sweep(SWEEP).objective == "balanced_accuracy"
    assert [plan.objective for plan in parse_sweep(SWEEP | {"objective": "auroc"}).methods] == ["kid", "auroc"]
    assert parse_sweep(with_changes("ssgnet_generators", objective="fid")).methods[0].objective == "fid"
    alone = SWEEP | {"methods": {"ssgnet_generators": GENERATORS}}
    assert (parse_sweep(alone).objective, parse_sweep(alone | {"objective": "fid"}).methods[0].objective) == (
        "kid",
        "fid",
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (with_changes("ssgnet", settings={"z_dim": 8}), "'z_dim' comes from ssgnet_generators: change it there, or"),
        (with_changes("ssgnet", search=["r1_weight"]), "'r1_weight' comes from ssgnet_generators"),
        (with_changes("ssgnet", search={"z_dim": [8, 16]}), "'z_dim' comes from ssgnet_generators"),
        (with_changes("ssgnet", settings_from="ssgnet_generator"), "settings_from 'ssgnet_generator' is unknown; did"),
        (
            SWEEP | {"methods": {"ssgnet": SSGNET, "ssgnet_generators": GENERATORS}},
            "settings_from 'ssgnet_generators' is unknown; it must stand below the method that it names",
        ),
        (
            SWEEP | {"methods": {"constant": {}, "ssgnet_generators": GENERATORS | {"settings_from": "constant"}}},
            "method ssgnet_generators: settings_from: constant has no setting in common with it",
        ),
        (
            with_changes("ssgnet_generators", objective="auroc"),
            "'auroc' is none of generation, which ssgnet_generators",
        ),
        (with_changes("ssgnet", objective="kid"), "'kid' is none of classification, which ssgnet does"),
        (SWEEP | {"objective": "kid"}, "'kid' is none of classification, which ssgnet does"),
        (with_changes("ssgnet", objective="kidd"), "objective 'kidd' is unknown; did you mean 'kid'"),
        (with_changes("ssgnet", objective=["auroc"]), r"objective: expected a name, got \['auroc'\]"),
        (with_changes("ssgnet", settings_from=3), "settings_from: expected a name, got 3"),
        (
            SWEEP | {"methods": {"ssgnet_generators": GENERATORS}, "objective": "accuracy"},
            "'accuracy' is none of generation, which ssgnet_generators does; choose one of kid, fid",
        ),
        (
            with_changes("ssgnet_generators", presets=["paper"], settings={}) | {"images": 9_000},
            "ssgnet_generators: 'paper' needs more than the 9,000 images of a run; raise images, or leave it out",
        ),
        (
            with_changes("ssgnet_generators", search={"generator_images": {"low": 160, "high": 321}}),
            "the longest configuration of its search needs more than the 320 images of a run",
        ),
        (
            SWEEP | {"methods": {"resnet": {}, "convnet": {"settings_from": "resnet"}}},
            "method convnet: ConvnetConfig.image_size: 16 is impossible with tail 'dr', expected at least 25",
        ),
    ],
)
def test_errors_name_the_mistake(values, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_sweep(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"search": ["r1_weight", "generator_lr"]}, {"objective": "fid"}])
def test_another_search_before_is_another_study(change):
    plain, other = (studies_of(parse_sweep(values)) for values in (SWEEP, with_changes("ssgnet_generators", **change)))
    assert plain[1].name != other[1].name


def test_keys_without_a_value_mean_nothing():
    plan = parse_sweep(with_changes("ssgnet", objective=None)).methods[1]
    assert (plan.objective, plan.settings_from) == ("balanced_accuracy", "ssgnet_generators")
    assert parse_sweep(with_changes("ssgnet", settings_from=None)).methods[1].inherited == {}


def test_the_first_rung_comes_after_the_longest_generators():
    changes = {"search": {"generator_images": {"low": 160, "high": 480, "log": True}}}
    sweep = parse_sweep(with_changes("ssgnet_generators", **changes) | {"images": 2160, "pruner": "halving"})
    assert [rung.images for rung in studies_of(sweep)[1].rungs] == [720, 2160]
    assert [rung.images for rung in studies_of(sweep)[0].rungs] == [2160]


@pytest.fixture
def journals(tmp_path):
    def make():
        storage = Journal(tmp_path / "journal.log")
        return [StudyJournal(study, storage) for study in studies_of(parse_sweep(SWEEP))]

    return make


def finished(journal, kid):
    trial, planned = journal.ask()
    journal.complete(trial, -kid)
    return planned.config


def test_a_study_takes_the_best_settings_once(journals):
    before, after = journals()
    before.propose_starts()
    configs = [finished(before, kid) for kid in (0.3, 0.1)]
    assert (before.status().best, before.status().objective) == (0.1, "kid")
    assert after.is_blocked
    taken = after.take_settings(before)
    assert taken == write_config(configs[1])
    after.propose_starts()
    assert not after.is_blocked
    for _ in range(4):  # the default, `real`, and two that are searched
        _, planned = after.ask()
        assert {name: getattr(planned.config, name) for name in taken} == taken
    again = journals()[1]
    assert not again.is_blocked
    assert [planned.config.r1_weight for _, planned in again.running()] == [taken["r1_weight"]] * 4


def test_all_settings_of_a_preset_are_taken_where_it_is_the_best(tmp_path):
    values = with_changes("ssgnet_generators", presets=["paper"], settings={}) | {"images": 6_000_000}
    storage = Journal(tmp_path / "journal.log")
    before, after = (StudyJournal(study, storage) for study in studies_of(parse_sweep(values)))
    before.propose_starts()
    configs = [finished(before, kid) for kid in (0.3, 0.1)]
    assert configs[1].z_dim == 512
    after.take_settings(before)
    after.propose_starts()
    config = write_config(after.ask()[1].config)
    assert {name: config[name] for name in write_config(configs[1])} == write_config(configs[1])
    assert after.resolved.plan.settings.z_dim == 512, "what a warm start compares with"


def test_a_search_that_found_nothing_leaves_the_settings_as_they_are(journals):
    before, after = journals()
    before.propose_starts()
    for _ in range(2):
        trial, _ = before.ask()
        before.reject(trial, "diverged", "loss became nan")
    assert before.status().is_over
    assert after.take_settings(before) == {}
    after.propose_starts()
    _, planned = after.ask()
    assert planned.config == after.study.plan.settings


def test_what_diverged_is_worse_than_any_distance(journals):
    before, _ = journals()
    before.propose_starts()
    finished(before, 12.5)
    trial, _ = before.ask()
    before.reject(trial, "diverged", "loss became nan")
    values = {frozen.state: frozen.values for frozen in before._trials()}
    assert set(values) == {TrialState.COMPLETE}
    assert min(frozen.values[0] for frozen in before._trials()) < -12.5
    assert before.status().best == 12.5


def searcher_of(before, after, store, tmp_path):
    storage = Journal(tmp_path / "journal.log")
    confirmations = [StudyJournal(each.study.confirming(), storage) for each in (before, after)]
    before.propose_starts()
    return JournalSearcher([before, after], confirmations, store, checkpoints=tmp_path / "c", data_root=None)


def test_a_search_waits_while_all_before_has_failed_and_may_be_tried_again(journals, store, tmp_path):
    before, after = journals()
    searcher = searcher_of(before, after, store, tmp_path)
    for _ in range(2):
        before.fail(before.ask()[0], "no space left on device", retry=False)
    assert before.status().is_over
    assert searcher.suggest("a") == searcher.FINISHED
    assert after.is_blocked
    assert not after.status().is_over
    before.retry_given_up()
    assert json.loads(searcher.suggest("b")["job"])["trial"]["method"] == "ssgnet_generators"


def test_a_search_begins_when_the_space_before_is_exhausted(store, tmp_path):
    values = with_changes("ssgnet_generators", trials=5, search=["augment"])
    storage = Journal(tmp_path / "journal.log")
    before, after = (StudyJournal(study, storage) for study in studies_of(parse_sweep(values)))
    searcher = searcher_of(before, after, store, tmp_path)
    for kid in (0.1, 0.2, 0.3):
        finished(before, kid)
    assert json.loads(searcher.suggest("a")["job"])["trial"]["method"] == "ssgnet"


def test_a_search_that_waits_begins_when_the_one_before_is_over(journals, store, tmp_path):
    before, after = journals()
    searcher = searcher_of(before, after, store, tmp_path)
    jobs = [json.loads(searcher.suggest(name)["job"]) for name in ("a", "b")]
    assert {job["trial"]["method"] for job in jobs} == {"ssgnet_generators"}
    assert {job["objective"] for job in jobs} == {"kid"}
    assert searcher.suggest("c") is None
    for journal, trial in ((live.journal, live.trial) for live in searcher._live.values()):
        journal.complete(trial, -0.5)
    searcher._live.clear()
    job = json.loads(searcher.suggest("d")["job"])
    assert (job["trial"]["method"], job["objective"], job["start"]) == ("ssgnet", "balanced_accuracy", "default")


def scored(kid, **changes):
    values = {"num_images": 8, "kid": kid, "fid": 30.0, "manifold_precision": 0.5, "manifold_recall": 0.25}
    return values | {"confusion": []} | changes


@pytest.fixture
def make_generator_record(make_record):
    def make(number, kid, features="random"):
        found = {"ssgnet_generators": scored(kid)}
        point = {"epoch": 1, "images": 32, "seconds": 1.0, "losses": [], "scores": found, "selected": found}
        config = {"image_size": 32, "feature_network": features}
        changes = {"method": "ssgnet_generators", "kind": "generation", "curve": [point], "config": config}
        return make_record(number, **changes)

    return make


def test_generators_rank_by_the_smallest_distance_and_apart(store, make_record, make_generator_record):
    for record in (make_record(0), make_generator_record(1, 0.02), make_generator_record(2, -0.001)):
        store.write(record)
    store.write(make_generator_record(3, -0.5, "timm:resnet18"))
    found = [(shared, rows) for shared, rows in rankings(board(store, every=True).ranked)]
    kids = {
        shared["pretrained"]: [row["kid"] for row in rows] for shared, rows in found if shared["level"] == "generator"
    }
    assert kids == {"random": [-0.001, 0.02], "timm:resnet18": [-0.5]}, "features do not compare"
    assert [len(rows) for shared, rows in found if shared["level"] == "image"] == [1]
    assert export(store.folder, dataset="digits", shots=5, metric="accuracy")["method"] == "supervised"
    page = report(store.folder, store.folder / "report.html").read_text()
    assert page.count("<h4>Learning curves</h4>") == 1, "a single evaluation is no curve"
    assert page.index("supervised leads with balanced accuracy") < page.index("ssgnet_generators leads with kernel")
    assert "kernel distance (KID) -0.001." in page, "no zero where a distance is small"


def test_generators_are_compared_by_distance(store, make_record, make_generator_record):
    for record in (make_record(0), make_record(5, method="convnet")):
        store.write(record)
    for number, (kid, gamma) in enumerate([(0.02, 1.0), (-0.001, 2.0)], 1):
        record = make_generator_record(number, kid)
        store.write(record | {"config": record["config"] | {"r1_weight": gamma}})
    frame = board(store, every=True).ranked.to_pandas()
    ids = frame[frame["level"] == "generator"].sort_values("kid")["config_id"]
    found = compare(store.folder, *ids)
    assert found.metric == "kid"
    assert found.difference > 0, "smaller is better"
    assert compare(store.folder, "supervised", "convnet").metric == "balanced_accuracy"
    with pytest.raises(ConfigError, match="metric 'foo' is unknown"):
        compare_all(store.folder, metric="foo")


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_sweep_of_two_studies(tmp_path, one_ray, monkeypatch):
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(one_ray))
    results, sweep = tmp_path / "results", parse_sweep(SWEEP | {"objective": "auroc", "workers": 1})
    assert run(sweep, results).ok
    assert run(sweep, results).ok, "the same again does nothing"
    assert [each.objective for each in status(sweep, results)] == ["kid", "auroc"]
    frame = leaderboard(results)
    best = frame[frame["level"] == "generator"].sort_values("kid").iloc[0]
    config = json.loads(best["config_json"])
    classifiers = [json.loads(text) for text in frame[frame["level"] == "image"]["config_json"]]
    downstream = [each for each in classifiers if "members" not in each]  # and averages of these
    assert len(downstream) == 2
    for name in ("r1_weight", "augment"):
        assert {each[name] for each in downstream} == {config[name]}
    facts = [json.loads(path.read_text()) for path in results.glob("artefacts/**/method=ssgnet/*/stages.json")]
    assert {stage["origin"] for stages in facts for stage in stages.values()} == {"found"}
    assert list(results.glob("artefacts/**/method=ssgnet_generators/*/class-0.png"))
    assert best_so_far(results, method="ssgnet_generators")["score"].notna().any()
    page = report(results, tmp_path / "report.html").read_text()
    assert "kernel distance (KID)" in page
    assert page.count("what its generator makes below") > 10, "a sheet for each class"
    path = tmp_path / "best.yaml"
    write_export(export(results, dataset="digits", shots=2, method="ssgnet_generators"), path)
    assert reproduce(path).is_equal
    look = evaluate(path, results, why="decided", unlock_test=True)
    assert look.test["ssgnet_generators"]["kid"] != best["kid"]
    assert look_table(list(looks(read_store(results).folder))).row_count == 1
    printed = CliRunner().invoke(app, ["leaderboard", "--results", str(results)]).output
    assert "kernel distance" in printed
    asked = ["--results", str(results), "--dataset", "digits", "--shots", "2", "--single", "-o", str(path)]
    said = CliRunner().invoke(app, ["export", *asked])
    assert "ssgnet, balanced_accuracy" in said.output
