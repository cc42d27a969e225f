from itertools import count

import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.comparison import compare, compare_all
from sparse_search.analysis.published import published
from sparse_search.analysis.significance import MIN_DATASETS, critical_difference, wilcoxon_p_value
from sparse_search.analysis.statistics import selection_optimism

DATASETS = [f"set{d}" for d in range(MIN_DATASETS)]


@pytest.fixture
def add(store, make_record):
    """A writer of one trial: its hits of 100 images in each of two classes, per label set."""
    numbers = count()

    def write(method, hits, *, dataset="set0", first=0, **changes):
        number = next(numbers)
        label_sets = range(first, first + len(hits))
        for label_set, right in zip(label_sets, hits, strict=True):
            settings = {
                "method": method,
                "dataset": dataset,
                "label_set": label_set,
                "label_sets": ", ".join(map(str, label_sets)),
                "num_runs": len(hits),
                "record_id": f"{number:04x}{label_set:04x}",
                "run_id": f"run-{number}-{label_set}",
                "trial_id": f"trial-{number}",
                "confusion": ((right, 100 - right), (100 - right, right)),
                "lr": 1e-3 * (1 + number),
            }
            store.write(make_record(**settings | changes))
        return store.folder

    return write


def test_two_methods_over_datasets(add):
    ours = {dataset: [70 + d, 75, 80] for d, dataset in enumerate(DATASETS)}
    theirs = {dataset: [71, 74 - d, 78] for d, dataset in enumerate(DATASETS)}
    for dataset in DATASETS:
        add("mine", ours[dataset], dataset=dataset)
        folder = add("theirs", theirs[dataset], dataset=dataset)
    found = compare(folder, "mine", "theirs")
    differences = [sum(ours[d]) / 300 - sum(theirs[d]) / 300 for d in DATASETS]
    assert [each.dataset for each in found.datasets] == DATASETS
    assert [each.difference for each in found.datasets] == pytest.approx(differences)
    assert found.difference == pytest.approx(sum(differences) / len(DATASETS))
    assert str(found.record) == "6-0-0"
    assert found.p_value == wilcoxon_p_value(differences) == 2 / 2**6
    assert found.rank_biserial == 1
    assert found.probability_of_improvement == pytest.approx((3 * 6 - 1 - 0.5) / (3 * 6))
    assert found.about_others
    assert found.interval[0] < found.difference < found.interval[1]
    assert all(each.interval[0] < each.difference < each.interval[1] for each in found.datasets)
    assert found.notes == ()


def test_the_other_way_round_is_the_negative(add):
    add("mine", [70, 75, 80])
    folder = add("theirs", [71, 71, 71])
    forth, back = compare(folder, "mine", "theirs"), compare(folder, "theirs", "mine")
    assert forth.difference == -back.difference
    assert forth.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=0.02)
    assert forth.probability_of_improvement == pytest.approx(1 - back.probability_of_improvement)


def test_few_datasets_are_not_tested(add):
    add("mine", [90, 90])
    folder = add("theirs", [50, 50])
    found = compare(folder, "mine", "theirs")
    assert found.p_value is None
    assert not found.about_others
    assert found.notes == ("1 dataset is too few to test, 6 are needed: nothing is said about other datasets",)


def test_the_best_of_many_is_optimistic_by_as_much_as_its_replicates_say(add):
    hits = [[90, 60, 70], [70, 88, 60], [75, 75, 71]]
    for each in hits:
        add("mine", each)
    add("mine", [50], status="pruned", label_set=0, label_sets="0, 1, 2", num_runs=3)
    folder = add("theirs", [70, 70, 70])
    found = compare(folder, "mine", "theirs")
    (cell,) = found.cells
    assert (cell.a.num_ranked, cell.a.num_tried, cell.b.num_tried) == (3, 4, 1)
    assert cell.a.score == pytest.approx(221 / 300)
    bias = selection_optimism([[h / 100 for h in each] for each in hits]).bias
    assert found.optimism == pytest.approx((bias, 0))
    assert any("best of up to 4 configurations" in note and f"by about {bias:.3f}" in note for note in found.notes)
    assert "unequal search effort: 4 configurations of mine, 1 of theirs" in found.notes


def test_one_label_set_tells_no_optimism_and_holds_it_fixed(add):
    add("mine", [80])
    add("mine", [70])
    folder = add("theirs", [70])
    found = compare(folder, "mine", "theirs")
    assert found.optimism == (None, 0)
    assert any("how much cannot be estimated here" in note for note in found.notes)
    assert "1 of 1 cells have a single label set: their intervals say nothing about others" in found.notes
    assert found.interval[0] < found.difference < found.interval[1]


def test_only_shared_label_sets_count(add):
    add("mine", [80, 60])
    folder = add("theirs", [70, 70], label_sets="0, 1")
    add("theirs", [99], first=2, label_sets="2", num_runs=1)
    found = compare(folder, "mine", "theirs")
    assert found.difference == pytest.approx(0)
    assert [cell.num_label_sets for cell in found.cells] == [2]


def test_other_labels_under_the_same_number_are_not_shared(add):
    add("mine", [80])
    folder = add("theirs", [70], label_set_hash="other")
    with pytest.raises(ResultsError, match="'mine' and 'theirs' have no label set in common"):
        compare(folder, "mine", "theirs")


@pytest.mark.parametrize("change", [{"content_hash": "other"}, {"validation": "official"}, {"protocol": 2}])
def test_what_is_not_comparable_is_not_compared(add, change):
    add("mine", [80])
    folder = add("theirs", [70], **change)
    with pytest.raises(ResultsError, match="no label set in common"):
        compare(folder, "mine", "theirs")


def test_what_was_confirmed_counts(add):
    for method, searched, confirmed in (("mine", 95, [80, 81, 82]), ("theirs", 60, [70, 71, 72])):
        add(method, [searched])
        folder = add(method, confirmed)
    found = compare(folder, "mine", "theirs")
    assert found.difference == pytest.approx(0.1)
    assert [cell.ranking["label_sets"] for cell in found.cells] == ["0, 1, 2"]


def test_shots_of_a_dataset_are_cells_of_one(add):
    for shots, right in ((5, 80), (10, 90)):
        add("mine", [right, right], shots=shots)
        folder = add("theirs", [70, 70], shots=shots)
    found = compare(folder, "mine", "theirs")
    assert [(each.difference, each.num_cells) for each in found.datasets] == [(pytest.approx(0.15), 2)]
    assert compare(folder, "mine", "theirs", shots=10).difference == pytest.approx(0.2)


def test_folds_of_a_label_set_are_one_replicate(add):
    changes = {"label_sets": "0", "num_runs": 2, "label_set": 0}
    for method, hits in (("mine", (80, 60)), ("theirs", (50, 70))):
        trial = {"trial_id": method, **changes}
        for fold, right in enumerate(hits):
            identity = {"record_id": f"{method}{fold}", "run_id": f"{method}{fold}", "fold": fold}
            folder = add(method, [right], **trial, **identity)
    found = compare(folder, "mine", "theirs")
    assert found.difference == pytest.approx(0.1)
    assert found.cells[0].num_label_sets == 1


def test_a_loss_is_better_when_smaller(add, store, make_record):
    for method, loss in (("mine", 0.4), ("theirs", 0.6)):
        record = make_record(method=method)
        record["curve"][-1]["selected"][method]["log_loss"] = loss
        store.write(record)
    found = compare(store.folder, "mine", "theirs", metric="log_loss")
    assert found.difference == pytest.approx(0.2)
    assert str(found.record) == "1-0-0"
    assert found.interval is None


def test_predictors_and_configurations_have_names_too(add, store, make_record):
    record = make_record(method="sparse", predictors=["sparse", "sparse_ens"])
    for point in record["curve"]:
        point["selected"]["sparse_ens"] = point["selected"]["sparse"] | {"balanced_accuracy": 0.9}
        point["scores"]["sparse_ens"] = point["scores"]["sparse"]
    store.write(record)
    found = compare(store.folder, "sparse_ens", "sparse")
    assert found.difference == pytest.approx(0.2)
    assert [(cell.a.predictor, cell.b.predictor) for cell in found.cells] == [("sparse_ens", "sparse")]
    add("mine", [80])
    add("mine", [70])
    best, other = sorted(
        ((row["balanced_accuracy"], row["config_id"]) for row in store.runs(method="mine").to_pylist()), reverse=True
    )
    by_name = compare(store.folder, best[1], other[1][:6])
    assert by_name.difference == pytest.approx(0.1)
    assert by_name.optimism == (None, None)
    assert all(cell.a.num_tried == 2 for cell in by_name.cells)
    assert (
        f"{best[1]} is one of 2 configurations that were tried: optimistic if picked by these scores" in by_name.notes
    )


def test_questions_without_an_answer(add):
    add("mine", [80])
    folder = add("mime", [80], dataset="set1")
    with pytest.raises(ConfigError, match="'mine' was given twice"):
        compare(folder, "mine", "mine")
    with pytest.raises(ConfigError, match="'mina' is unknown; did you mean 'mine'"):
        compare(folder, "mina", "mime")
    with pytest.raises(ConfigError, match="metric 'acc' is unknown"):
        compare(folder, "mine", "mime", metric="acc")
    with pytest.raises(ResultsError, match="no finished run with dataset set9"):
        compare(folder, "mine", "mime", dataset="set9")
    with pytest.raises(ResultsError, match=r"no ranking holds a score of all of them \(rankings with one: mime 1"):
        compare_all(folder)
    with pytest.raises(ConfigError, match="only mine is there to compare"):
        compare_all(folder, methods=["mine"])


@pytest.fixture
def printed(add):
    """What the SPARSE paper prints for 5 shots, as if it had been run here on a thousand images a class."""
    for row in published(shots=5).to_pylist():
        right = round(1000 * row["value"])
        folder = add(
            row["method"], [0], dataset=row["dataset"], confusion=((right, 1000 - right), (1000 - right, right))
        )
    return folder


def test_a_store_of_printed_scores_gives_the_printed_decisions(printed):
    """Adjusted p-values below 0.05 in the paper: against SPARSE, SGAN, MatchGAN, CISSL and EC-GAN."""
    overall = compare_all(printed, metric="accuracy")
    assert len(overall.methods) == 8
    assert len(overall.datasets) == 11
    assert overall.notes == ()
    won = {
        test.a if test.b == "SPARSE_ens" else test.b
        for test in overall.tests
        if "SPARSE_ens" in (test.a, test.b) and test.adjusted_p_value < 0.05
    }
    assert won == {"SPARSE", "SGAN", "MatchGAN", "CISSL", "EC-GAN"}
    assert overall.ranks.methods[0] == "SPARSE_ens"
    scores = dict(zip(overall.methods, overall.scores, strict=True))
    assert overall.ranks == critical_difference(scores)
    holm = compare_all(printed, metric="accuracy", correction="holm")
    assert all(h.adjusted_p_value >= t.adjusted_p_value for h, t in zip(holm.tests, overall.tests, strict=True))


def test_a_store_of_printed_scores_compares_as_printed(printed):
    found = compare(printed, "SPARSE_ens", "SPARSE", metric="accuracy")
    assert str(found.record) == "10-0-1"
    assert found.difference == pytest.approx(0.6622 - 0.6321, abs=3e-4)
    assert found.p_value == pytest.approx(0.0127, abs=5e-5)
    assert found.interval[0] > 0


def test_some_methods_on_what_all_of_them_have(add):
    for dataset in DATASETS:
        for method, right in (("good", 90), ("fair", 80), ("poor", 70)):
            folder = add(method, [right], dataset=dataset)
    add("good", [10], dataset="alone")
    overall = compare_all(folder, methods=["poor", "good", "fair"])
    assert overall.methods == ("poor", "good", "fair")
    assert overall.datasets == tuple(DATASETS)
    assert overall.scores[0] == pytest.approx([0.7] * 6)
    assert overall.ranks.methods == ("good", "fair", "poor")
    assert overall.notes == ("rankings left out, as not all methods have a score there: 1",)
    few = compare_all(folder, methods=["good", "poor"], dataset="set0")
    assert (few.ranks, few.tests) == (None, ())
    assert len(few.notes) == 2
