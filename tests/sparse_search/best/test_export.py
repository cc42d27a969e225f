import pytest

from search_spaces.core.errors import ResultsError
from search_spaces.core.yaml_files import read_yaml
from search_spaces.supervised import SupervisedConfig
from sparse_search.best.export import export, read_export, write_export
from trainables.core.shots import ALL_SHOTS
from trainables.training.trial import Trial

GOOD = ((5, 0), (0, 5))


@pytest.fixture
def filled(store, make_record):
    from search_spaces.core.config import write_config

    for number, lr in enumerate((1e-3, 2e-3)):
        config = write_config(SupervisedConfig(lr=lr, image_size=32))
        for label_set in (0, 1):
            confusion = GOOD if number else ((3, 2), (2, 3))
            store.write(
                make_record(
                    number,
                    label_set=label_set,
                    label_sets="0, 1",
                    num_runs=2,
                    config=config,
                    confusion=confusion,
                    selection="mean3",
                    accumulate=4,
                    compile=True,
                )
            )
    return store


def test_the_file_is_a_trial_with_evidence(filled, tmp_path):
    values = export(filled.folder, dataset="digits", shots=5)
    path = tmp_path / "best.yaml"
    write_export(values, path)
    read = read_yaml(path)
    assert read == values
    evidence = read.pop("evidence")
    trial = Trial.from_dict(read)
    assert (trial.config.lr, trial.label_sets, trial.conditions.images) == (2e-3, (0, 1), 200)
    assert (trial.conditions.selection, trial.conditions.accumulate, trial.conditions.compile) == ("mean3", 4, True)
    assert evidence["scored_on"].startswith(
        "validation, mean of the last evaluations (3 at most), mean over label sets"
    )
    assert evidence["scores"]["balanced_accuracy"] == 1.0
    assert evidence["best_of"].startswith("2 configurations")
    assert evidence["over_label_sets"] == {
        "scores": {0: 1.0, 1: 1.0}, "mean": 1.0, "median": 1.0, "interquartile_mean": 1.0,
    }  # fmt: skip


def test_a_named_configuration(filled):
    worse = {row["config_id"] for row in rows(filled)} - {
        export(filled.folder, dataset="digits", shots=5)["evidence"]["config_id"]
    }
    values = export(filled.folder, dataset="digits", shots=5, config_id=worse.pop()[:8])
    assert values["config"]["lr"] == 1e-3


def rows(store):
    return store.runs().to_pylist()


def test_no_answer(filled):
    with pytest.raises(ResultsError, match="no complete trial of configuration zzz"):
        export(filled.folder, dataset="digits", shots=5, config_id="zzz")
    with pytest.raises(ResultsError, match="no finished run"):
        export(filled.folder, dataset="digits", shots=50)


def test_rankings_that_must_not_be_compared_need_a_choice(filled, make_record):
    filled.write(make_record(7, label_sets="0, 1", config={"image_size": 32, "pretrained": "tag"}))
    filled.write(make_record(7, label_set=1, content_hash="other"))
    with pytest.raises(
        ResultsError,
        match="3 rankings fit, which differ in selection, accumulate, label_sets, pretrained, content_hash",
    ):
        export(filled.folder, dataset="digits", shots=5)


def test_an_unwritable_file(filled, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot write"):
        write_export(export(filled.folder, dataset="digits", shots=5), tmp_path / "file" / "best.yaml")


def test_all_labels_are_written_as_a_word_and_read_as_a_number(store, make_record, tmp_path):
    store.write(make_record(0, shots=ALL_SHOTS, validation="labelled-cv"))
    path = tmp_path / "best.yaml"
    write_export(export(store.folder, dataset="digits", shots=ALL_SHOTS), path)
    assert path.read_text().startswith("# supervised for digits, all labelled images.\n")
    assert read_yaml(path)["shots"] == "all"
    values, _ = read_export(path)
    assert values["shots"] == ALL_SHOTS
    write_export(export(store.folder, dataset="digits", shots=ALL_SHOTS) | values, path)
    assert read_yaml(path)["shots"] == "all"


@pytest.mark.parametrize("floor", ["constant", "pixels"])
def test_a_floor_that_is_confirmed_first_is_not_the_answer(store, make_record, floor):
    store.write(make_record(0, method=floor))
    store.write(make_record(1, confusion=GOOD))
    confirmed = {"method": floor, "label_sets": "1, 2", "num_runs": 2, "study": "study confirmation"}
    for label_set in (1, 2):
        store.write(make_record(0, label_set=label_set, trial_id="again", **confirmed))
    assert export(store.folder, dataset="digits", shots=5, single=True)["method"] == "supervised"
    asked = export(store.folder, dataset="digits", shots=5, method=floor, single=True)
    assert asked["label_sets"] == [1, 2], "alone it stands by its confirmation"
