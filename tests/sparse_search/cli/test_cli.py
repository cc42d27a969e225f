"""The command line as a person meets it, on real files; whole processes where it matters what they load."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

from search_spaces.core.methods import configured_methods
from sparse_search.results.ledger import look_now, write_look
from sparse_search.results.mirror import send_records, store_at

from ..command import call
from ..conftest import TINY


def write_sweep(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def write_npz(path, num_images=40):
    labels = np.arange(num_images)[:, None] % 2
    images = np.zeros((num_images, 28, 28), np.uint8)
    splits = {f"{split}_{kind}": array for split in ("train", "val", "test") for kind, array in
              (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(path, **splits)


def sparse_with(**settings):
    return {"methods": {"sparse": {"settings": settings}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"datasets": ["pneumoniamnist"]}, ["pneumoniamnist.npz"]),
        ({"datasets": ["broken.npz"]}, ["broken.npz"]),
        ({"datasets": ["pneumonia"]}, ["did you mean 'pneumoniamnist'"]),
        ({"shots": [5000]}, ["5000", "class"]),
        ({"methods": {"sprase": {}}}, ["'sprase' is unknown", "did you mean 'sparse'"]),
        (sparse_with(percentile=1.7), ["SparseConfig.percentile: 1.7 is impossible, expected between 0 and 0.99"]),
        (sparse_with(percentil=0.7), ["no field 'percentil'", "did you mean 'percentile'"]),
    ],
    ids=[
        "missing file",
        "truncated npz",
        "unknown data",
        "5000 shots",
        "unknown method",
        "impossible",
        "unknown field",
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(tmp_path, changes, words):
    write_npz(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "broken.npz").write_bytes(whole[: len(whole) // 2])
    sweep = write_sweep(tmp_path, **changes)
    done = call("run", sweep, "--results", tmp_path / "results", "--data-root", tmp_path, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()
    assert len(line) == 1, done.stderr
    assert line[0].startswith("error: ")
    assert all(word in line[0] for word in words), line[0]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "missing.yaml"], "cannot read missing.yaml"),
        (["run", "sweep.yaml", "--results", "file"], "cannot write results to"),
        (["leaderboard"], "no finished run in"),
        (["leaderboard", "--metric", "acuracy"], "did you mean 'accuracy'"),
        (["export", "--dataset", "digits", "--shots", "5"], "no finished run with dataset digits, shots 5"),
        (["recommend", "--dataset", "digits", "--shots", "5"], "no finished run with dataset digits, shots 5"),
        (["export", "--dataset", "digits", "--shots", "5", "--average", "third", "--single"], "are two answers"),
        (["leaderbord"], "No such command"),
        (["compare", "sparse"], "expected two names to compare"),
        (["compare", "sparse", "supervised"], "no finished run"),
        (["reproduce", "missing.yaml"], "cannot read missing.yaml"),
        (["reproduce", "sweep.yaml"], "holds no evidence"),
        (["evaluate", "sweep.yaml"], "the test set is locked"),
        (["transfer", "--method", "supervised"], "no finished run"),
        (["transfer", "--method", "supervized"], "did you mean 'supervised'"),
    ],
)
def test_other_mistakes(tmp_path, arguments, words):
    (tmp_path / "file").write_text("in the way")
    write_sweep(tmp_path)
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "", "run", "status", "leaderboard", "compare", "recommend", "export", "reproduce", "evaluate", "ledger",
        "transfer", "methods", "datasets", "demo",
    ],
    ids=lambda c: c or "help",
)  # fmt: skip
def test_help_teaches(tmp_path, command):
    done = call(*([command] if command else []), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert len(done.stdout) > 100


def test_methods_and_their_settings_are_listed(tmp_path):
    done = call("methods", cwd=tmp_path)
    assert done.returncode == 0
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith("│")} >= set(configured_methods())
    told = call("methods", "sparse", cwd=tmp_path).stdout
    assert "presets: paper, reference" in told
    assert "percentile" in told
    wrong = call("methods", "sprase", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'sparse'" in wrong.stderr


@pytest.mark.parametrize("command", ["--help", "leaderboard", "methods"])
def test_quick_commands_load_neither_torch_nor_ray(tmp_path, command):
    code = (
        f"import sys; sys.argv = ['sparse-search', '{command}']\n"
        "from sparse_search.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'ray', 'optuna', 'pandas', 'accelerate'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "[]" in done.stderr
    assert done.returncode == (2 if command == "leaderboard" else 0), "there is nothing to rank"


def test_after_a_leaderboard_the_process_has_pandas_again(tmp_path, store, make_record):
    """As in a notebook that prints one, asks for it as a frame and runs a sweep: Ray Tune needs pandas."""
    store.write(make_record(0))
    code = (
        "import sys; sys.argv = ['sparse-search', 'leaderboard', '--results', 'results']\n"
        "from sparse_search.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'pandas' not in sys.modules\n"
        "import sparse_search, ray.tune\n"
        "print(len(sparse_search.leaderboard('results')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"


def test_a_leaderboard_in_every_format(tmp_path, store, make_record):
    import csv
    import io
    import json

    for number in range(3):
        store.write(make_record(number, lr=1e-3 * (number + 1), start="" if number else "default"))
    table = call("leaderboard", "--results", store.folder, cwd=tmp_path).stdout
    assert "digits, 5 shots" in table
    assert "lr=0.001" in table
    assert "(default)" in table
    assert "at the last evaluation" in table
    assert "not ranked" not in table
    rows = list(csv.DictReader(io.StringIO(call("leaderboard", "--all", "--format", "csv", "--results", store.folder,
                                                cwd=tmp_path).stdout)))  # fmt: skip
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    loaded = json.loads(call("leaderboard", "--format", "json", "--results", store.folder, cwd=tmp_path).stdout)
    assert loaded[0]["num_tried"] == 3


def test_many_rankings_are_an_overview(tmp_path, store, make_record):
    for number in range(13):
        store.write(make_record(number, shots=number + 1))
    told = call("leaderboard", "--results", store.folder, cwd=tmp_path).stdout
    assert "the best of each ranking" in told
    assert told.count("digits") == 13
    assert "digits, 5 shots" in call("leaderboard", "--shots", "5", "--results", store.folder, cwd=tmp_path).stdout


def test_defaults_that_are_not_ranked_stand_below_their_ranking(tmp_path, store, make_record):
    collapsed = {"start": "default", "status": "collapsed", "reason": "names class 1 for all 10 validation images"}
    error = "Traceback (most recent call last):\n  File …\nRuntimeError: " + "x" * 50 + " " + "y" * 90
    store.write(make_record(0))
    store.write(make_record(1, **collapsed))
    store.write(make_record(2, start="plain", status="failed", reason=error))
    store.write(make_record(3, selection="mean3", method="constant"))
    store.write(make_record(4, shots=9, **collapsed))
    lines = call("leaderboard", "--results", store.folder, cwd=tmp_path).stdout.splitlines()
    (caption,) = [n for n, line in enumerate(lines) if "(3 at most)" in line]
    told = {n: line for n, line in enumerate(lines) if line.startswith("not ranked: ")}
    first, second, last = told.values()
    assert first.endswith("(default): collapsed, names class 1 for all 10 validation images")
    assert second.endswith("(plain): failed, RuntimeError: " + "x" * 50 + " …")
    assert "(default) on digits, 9 shots: collapsed" in last
    assert [n < caption for n in told] == [True, True, False]


@pytest.fixture
def two_methods(store, make_record):
    for label_set in range(3):
        for method, hits in (("supervised", 5), ("constant", 3)):
            confusion = ((hits, 5 - hits), (label_set, 5 - label_set))
            changes = {"label_set": label_set, "label_sets": "0, 1, 2", "num_runs": 3, "dataset": "dermamnist"}
            store.write(make_record(0, method=method, confusion=confusion, **changes))
    return store


def test_two_methods_side_by_side(tmp_path, two_methods):
    done = call("compare", "supervised", "constant", "--results", two_methods.folder, cwd=tmp_path)
    assert "+0.200" in done.stdout
    assert "1-0-0 data sets" in done.stdout
    assert "note: 1 dataset is too few to test" in done.stdout
    every = call("compare", "--results", two_methods.folder, cwd=tmp_path).stdout
    assert "0.900" in every
    assert "0.700" in every


def test_what_papers_print_stands_below_and_looks_are_counted(tmp_path, two_methods):
    look = look_now(
        why="all is decided", dataset="dermamnist", content_hash="c0ffee", shots=5, validation="realistic",
        label_sets=[0, 1, 2], method="supervised", config_id="123456789abc", num_images=20, versions={},
        test={"supervised": {"balanced_accuracy": 0.8125, "accuracy": 0.75, "low": 0.7, "high": 0.9}},
        validated={"supervised": {"balanced_accuracy": 0.9}},
    )  # fmt: skip
    write_look(two_methods.folder, look)
    told = call("leaderboard", "--results", two_methods.folder, cwd=tmp_path).stdout
    assert "SPARSE_ens 0.576" in told
    assert "about the sparse paper: test scores" in told
    assert "looked at 1 time," in told
    ledger = call("ledger", "--results", two_methods.folder, cwd=tmp_path).stdout
    assert all(word in ledger for word in ("all is decided", "0.812", "0.70–0.90", "123456"))
    assert "nobody" in call("ledger", "--results", tmp_path / "elsewhere", cwd=tmp_path).stdout


def test_a_query_is_answered_in_formats_that_fit_it(tmp_path, two_methods):
    asked = ["leaderboard", "--sql", "select method, count(*) n from runs group by all order by all"]
    told = call(*asked, "--format", "csv", "--results", two_methods.folder, cwd=tmp_path)
    assert told.stdout.split() == ['"method","n"', '"constant",3', '"supervised",3']
    assert "supervised" in call(*asked, "--results", two_methods.folder, cwd=tmp_path).stdout
    refused = call(*asked, "--format", "latex", "--results", two_methods.folder, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --format latex is for leaderboards")


def test_data_sets_are_listed(tmp_path):
    write_npz(tmp_path / "pneumoniamnist.npz")
    datasets = call("datasets", "--data-root", tmp_path, cwd=tmp_path).stdout
    (line,) = [line for line in datasets.splitlines() if "pneumoniamnist" in line]
    assert "28 px" in line


def test_a_data_set_is_described(tmp_path):
    made = np.random.default_rng(0).integers(0, 256, (7, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", train_images=made, train_labels=[0, 0, 0, 1, 1, -1, -1])
    done = call("datasets", "mine.npz", cwd=tmp_path)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert rows == [["train", "3", "2", "5"], ["unlabelled", "", "", "2"]]
    assert "no test images: nothing can be evaluated on it" in done.stdout
    refused = call("datasets", "none.npz", cwd=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("given", "words"), [("all", "no finished run with shots all in"), ("0", "expected one from 1, or all")]
)
def test_all_labels_are_asked_for_by_their_word(tmp_path, given, words):
    done = call("leaderboard", "--shots", given, "--results", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_status_before_anything_ran(tmp_path):
    done = call("status", write_sweep(tmp_path), "--results", tmp_path / "results", cwd=tmp_path)
    assert "0/5" in done.stdout
    assert not (tmp_path / "results").exists()


def test_results_at_a_uri(bucket, make_record, tmp_path):
    store = store_at(bucket)
    store.write(make_record(0))
    send_records(store, "test")
    shutil.rmtree(store.folder)
    done = call("leaderboard", "--results", bucket, "--format", "csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "supervised" in done.stdout
    done = call("leaderboard", "--results", "s3://none-of-that-name/results", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: s3://none-of-that-name/results: there is no bucket none-of-that-name (or none that may be seen); "
        "make it first"
    ]
