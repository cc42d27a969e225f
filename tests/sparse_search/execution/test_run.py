"""Whole sweeps on a real Ray: to the end, killed, failing, exported and trained again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing import event_accumulator

from search_spaces.core.yaml_files import read_yaml
from sparse_search.execution.run import _rungs_text
from sparse_search.results.store import Store
from sparse_search.search.sweep import Rung
from trainables.__main__ import main as train

from .. import command
from ..conftest import TINY
from .scenes import CALL, ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("one_ray")]

MEASURED = ("train_seconds", "wall_seconds", "gpu_seconds", "peak_memory_bytes", "finished_at")
"""Columns of a run that no seed determines."""


@pytest.fixture
def folder(tmp_path):
    write_sweep(tmp_path)
    return tmp_path


def write_sweep(folder, **changes):
    (folder / "sweep.yaml").write_text(yaml.safe_dump(TINY | changes))


def start(folder, *arguments, **environment):
    command = [sys.executable, "-c", CALL, *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def call(folder, *arguments):
    """In this process, on its Ray."""
    done = command.call(*arguments, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def finished(folder):
    """(method, number, label set) of every finished run."""
    rows = Store(folder / "results").runs().to_pylist()
    return Counter((row["method"], row["number"], row["label_set"]) for row in rows)


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def num_records(folder):
    return len(records(folder))


def records(folder):
    """Every record that is there, by name."""
    return {record["record_id"]: record for record in Store(folder / "results").records()}


def tracked(folder):
    """Images at each point of the validation accuracy, by study, trial and label set, from event files."""
    found = {}
    for place in sorted((folder / "results/tracking/tensorboard/tiny").glob("*/*")):
        events = event_accumulator.EventAccumulator(str(place)).Reload()
        (tag,) = (name for name in events.Tags()["scalars"] if re.fullmatch(r"\w+/accuracy", name))
        assert f"final/{tag}" in events.Tags()["scalars"]
        found[place.relative_to(place.parents[1]).as_posix()] = [
            (event.step, pytest.approx(event.value)) for event in events.Scalars(tag)
        ]
    return found


def recorded(folder):
    return {
        f"{record['study'].replace(' ', '_')}/trial_{record['number']:05}-set_{record['label_set']}-fold_0": [
            (point["images"], point["scores"][record["method"]]["accuracy"]) for point in record["curve"]
        ]
        for record in records(folder).values()
    }


def test_a_killed_sweep_is_finished_by_the_same_command_and_exported_exactly(folder, capsys):
    # a mean of three can round in two ways
    write_sweep(folder, label_sets=[2, 0, 1], tracker="tensorboard")
    killed = start(folder, "run", "sweep.yaml")
    wait_for(lambda: num_records(folder) >= 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    code, out, error = call(folder, "run", "sweep.yaml")
    assert code == 0, error
    assert "5/5" in out
    assert "1/1" in out
    runs = finished(folder)
    assert len({(method, number) for method, number, _ in runs}) == 6
    assert set(runs.values()) == {1}
    before = records(folder)

    assert call(folder, "run", "sweep.yaml")[0] == 0
    assert records(folder) == before
    assert tracked(folder) == recorded(folder)

    code, out, _ = call(folder, "leaderboard", "--dataset", "digits", "--shots", "2")
    assert re.search(r"constant[^\n]*0\.100", out), out

    code, out, error = call(folder, "export", "--dataset", "digits", "--shots", "2", "-o", "best.yaml")
    assert code == 0, error
    expected = read_yaml(folder / "best.yaml")["evidence"]["scores"]
    assert train(["--config", str(folder / "best.yaml")]) == 0
    printed = dict(re.findall(r"(\w+) (\d\.\d+)", capsys.readouterr().out.partition("validation scores")[2]))
    for metric in ("balanced_accuracy", "accuracy", "auroc"):
        assert float(printed[metric]) == expected[metric]


def test_the_best_is_confirmed_on_further_label_sets(folder):
    write_sweep(folder, label_sets=[0, 1], confirm=1, confirm_label_sets=2, images=400, evaluate_every=200,
                methods={"supervised": TINY["methods"]["supervised"] | {"presets": [], "trials": 4}})  # fmt: skip
    code, out, error = call(folder, "run", "sweep.yaml")
    assert code == 0, error
    assert "confirmation" in out
    rows = Store(folder / "results").runs().to_pylist()
    searched, confirmed = ({(row["config_id"], row["label_set"]): row for row in rows if row["label_sets"] == text}
                           for text in ("0, 1", "2, 3"))  # fmt: skip
    assert {label_set for _, label_set in confirmed} == {2, 3}  # s11: what chose says nothing of what was chosen
    complete = {name for (name, _), row in searched.items() if row["status"] == "complete"}
    scores = {name: sum(searched[name, s]["balanced_accuracy"] for s in (0, 1)) for name in complete}
    assert max(scores.values()) == max(scores[name] for name, _ in confirmed)
    assert any(row["start"] == "default" for row in confirmed.values())
    code, _, error = call(folder, "export", "--dataset", "digits", "--shots", "2", "-o", "best.yaml")
    assert code == 0, error
    exported = read_yaml(folder / "best.yaml")
    assert exported["label_sets"] == [2, 3]
    assert exported["evidence"]["best_of"].startswith("4 configurations")
    before = num_records(folder)
    assert call(folder, "run", "sweep.yaml")[0] == 0
    assert num_records(folder) == before


@pytest.mark.long
def test_drawn_at_random_by_one_worker_a_sweep_is_the_same_to_the_last_digit(folder):
    write_sweep(folder, sampler="random", workers=1, images=40, evaluate_every=20, label_sets=[0, 1], seed=7)
    tables = []
    for results in ("first", "second"):
        code, _, error = call(folder, "run", "sweep.yaml", "--results", results)
        assert code == 0, error
        order = [("record_id", "ascending"), ("predictor", "ascending")]
        tables.append(Store(folder / results).runs().sort_by(order).drop_columns(list(MEASURED)))
    assert len(tables[0]) > 6
    assert tables[0].equals(tables[1])


@pytest.mark.long
def test_every_kind_of_failure_has_its_outcome(folder, monkeypatch):
    shutil.copy(Path(__file__).with_name("flaky.py"), folder)  # a user's own method and data, beside the sweep
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(folder / "my scans.npz", train_images=images, train_labels=np.arange(40) % 2)
    flaky = {"flaky:METHOD": {"trials": 6, "search": ["behaviour"]}}
    write_sweep(
        folder, methods=flaky, datasets=["./my scans.npz"], retries=1, pruner="none", images=16, evaluate_every=8
    )
    monkeypatch.setenv("FLAKY_LOG", str(folder / "log"))
    first = start(folder, "run", "sweep.yaml")
    _, error = first.communicate(timeout=300)
    assert first.returncode == 1
    assert "the disk is on fire" in error
    assert "the worker process died" in error
    assert "Traceback" not in error
    rows = Store(folder / "results").runs().to_pylist()
    outcomes = Counter((row["config.behaviour"], row["status"]) for row in rows)
    assert outcomes == {
        ("fine", "complete"): 1, ("nan", "diverged"): 1, ("die once", "complete"): 1, ("raise", "failed"): 2,
        ("one class", "collapsed"): 1,
    }  # fmt: skip
    (reason,) = {row["reason"] for row in rows if row["status"] == "failed"}
    assert "Traceback" in reason
    log = Counter((folder / "log").read_text().splitlines())
    assert log["die once 1"] == 1  # went on from its checkpoint after the second epoch
    assert log["die once 3"] == 2
    assert log["die 3"] == 2
    out = call(folder, "leaderboard")[1]
    told = [line for line in out.splitlines() if line.startswith("not ranked: ")]
    assert [re.sub(r"^.*? \(", "(", line) for line in told] == [
        "(nan): diverged, loss 'loss' became nan in epoch 3",
        "(one class): collapsed, flaky names class 0 for all 4 validation images",
        "(raise): failed, RuntimeError: the disk is on fire",
    ]
    assert call(folder, "run", "sweep.yaml")[0] == 1
    assert Counter((folder / "log").read_text().splitlines()) == log
    again = start(folder, "run", "sweep.yaml", "--retry-failed")
    again.communicate(timeout=300)
    assert again.returncode == 1
    log = Counter((folder / "log").read_text().splitlines())
    assert (log["die 3"], log["raise 3"], log["fine 3"]) == (4, 4, 1)


@pytest.mark.long
def test_one_driver_a_sweep_and_ctrl_c_says_how_to_go_on(folder):
    write_sweep(folder, images=8000, evaluate_every=1000)
    first = start(folder, "run", "sweep.yaml")
    wait_for(lambda: (folder / "results" / "sweeps" / "tiny" / "holder").exists())
    code, _, error = call(folder, "run", "sweep.yaml")
    assert code == 2
    assert f"being run by process {first.pid}" in error
    code, out, _ = call(folder, "status", "sweep.yaml")
    assert code == 0
    assert "supervised" in out
    wait_for(lambda: num_records(folder) >= 1)
    first.send_signal(signal.SIGINT)
    out, error = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "the same command goes on" in out
    assert "Traceback" not in error


@pytest.mark.long
def test_the_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples/search_from_python.py"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "balanced_accuracy" in done.stdout
    best = Path(done.stdout.strip().splitlines()[-1].split()[0])
    assert read_yaml(best)["method"] == "supervised"
    shutil.rmtree(best.parent)


@pytest.mark.long
def test_a_trial_of_two_processes_finds_what_one_finds(tmp_path):
    curves = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        settings = {"classifier": "test_resnet", "dropout": 0.0, "drop_path": 0.0}  # whose masks differ
        methods = {"supervised": {"trials": 1, "presets": [], "search": ["lr"], "settings": settings}}
        write_sweep(folder, processes=processes, cpus_per_trial=2, methods=methods)
        code, out, error = call(folder, "run", "sweep.yaml")
        assert code == 0, out + error
        (record,) = records(folder).values()
        assert record["processes"] == processes
        curves[processes] = record["curve"]
    for one, two in zip(curves[1], curves[2], strict=True):
        assert one["images"] == two["images"]
        for losses in zip(one["losses"], two["losses"], strict=True):
            assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        log_losses = [each["scores"]["supervised"]["log_loss"] for each in (one, two)]
        assert log_losses[1] == pytest.approx(log_losses[0], rel=1e-4)
        assert one["scores"]["supervised"]["confusion"] == two["scores"]["supervised"]["confusion"]


@pytest.mark.parametrize(
    ("rungs", "words"),
    [
        ([(100, 1)], "100 images × 1 label set"),
        ([(56, 2), (1500, 2)], "56 → 1,500 images × 2 label sets"),
        ([(56, 1), (1500, 3)], "56 images × 1 label set → 1,500 images × 3 label sets"),
    ],
)
def test_what_a_trial_takes_is_told_in_few_words(rungs, words):
    assert _rungs_text([Rung(number, *rung) for number, rung in enumerate(rungs)]) == words
