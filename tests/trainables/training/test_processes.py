"""Runs in several processes that are watched from this one: real processes, real gloo."""

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe, active_children
from pathlib import Path

import pytest
import torch

from search_spaces.core.errors import ConfigError
from trainables.training.checkpoint import Checkpoints
from trainables.training.processes import LocalRanks, LostProcessError
from trainables.training.run import runs_of_trial
from trainables.training.train import DivergedError
from trainables.training.trial import Trial

NETWORK = {"classifier": "test_resnet", "image_size": 16, "drop_path": 0.0, "dropout": 0.0}
SETTINGS = {**NETWORK, "lr": 1e-3, "batch_size": 8, "steps_per_epoch": 5}


def a_run(processes=2, **changes):
    values = {"method": "supervised", "dataset": "digits", "shots": 2, "images": 80, "evaluate_every": 40}
    (run,) = runs_of_trial(Trial.from_dict(values | {"config": SETTINGS, "processes": processes} | changes))
    return run


def members():
    """Processes that this one has started."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@pytest.fixture(scope="module")
def together():
    run = a_run()
    return list(run.train(run.task(None)))


@pytest.mark.slow
def test_two_processes_are_one_to_rounding(together):
    run = a_run(processes=1)
    alone = list(run.train(run.task(None)))
    assert [each.images for each in together] == [each.images for each in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.losses == pytest.approx(dict(other.losses), rel=1e-4)
        assert one.scores.keys() == other.scores.keys()
    torch.testing.assert_close(
        torch.from_numpy(together[-1].predictions["supervised"]),
        torch.from_numpy(alone[-1].predictions["supervised"]),
        rtol=1e-3,
        atol=1e-4,
    )
    assert a_run().run_id("c") != run.run_id("c"), "their digits differ"


@pytest.mark.slow
def test_closed_after_an_evaluation_it_leaves_no_process_and_goes_on_from_its_checkpoint(tmp_path, together):
    run, checkpoints = a_run(), Checkpoints(tmp_path / "run")
    before, progress = set(members()), run.train(run.task(None), checkpoints=checkpoints)
    seen = next(each for each in progress if each.scores)
    assert len(set(members()) - before) >= 2
    progress.close()
    assert not [pid for pid in set(members()) - before if "spawn_main" in command(pid)]
    resumed = list(run.train(run.task(None), checkpoints=checkpoints))
    assert resumed[0].replayed
    assert resumed[0].scores == seen.scores
    assert resumed[-1].scores == together[-1].scores


class Beside:
    """Another machine, played by this one, that sees nothing of the folder of checkpoints."""

    num_machines = 2

    def __init__(self, folder, doomed=False):
        self._folder, self._doomed, self._members = folder, doomed, None

    def variables(self):
        return {"MASTER_ADDR": "127.0.0.1"}

    def start(self, run, shares, place, options):
        (share,) = shares
        assert share == range(1, 2)
        self._members = LocalRanks(run, share, place, dict(options) | {"checkpoints": Checkpoints(self._folder)})
        before = {child.pid for child in active_children()}
        self._members.start()
        (pid,) = {child.pid for child in active_children()} - before
        ours, theirs = Pipe(duplex=False)
        threading.Thread(target=self._tell, args=(theirs,), daemon=True).start()
        if self._doomed:
            threading.Timer(15, os.kill, (pid, signal.SIGKILL)).start()
        return [ours]

    def end(self):
        self._members.end()

    def _tell(self, connection):
        with suppress(OSError):  # nobody listens any more
            connection.send(self._members.watch())


@pytest.mark.slow
def test_another_machine_goes_on_from_the_checkpoint_that_the_first_one_has(tmp_path, together):
    run, checkpoints = a_run(), Checkpoints(tmp_path / "run")
    progress = run.train(run.task(None), checkpoints=checkpoints, remote=Beside(tmp_path / "none"))
    assert next(each for each in progress if each.scores).scores
    progress.close()
    resumed = list(run.train(run.task(None), checkpoints=checkpoints, remote=Beside(tmp_path / "none")))
    assert [each.replayed for each in resumed if each.scores] == [True, False]
    assert resumed[-1].scores == together[-1].scores
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_on_another_machine_ends_the_run(tmp_path):
    run = a_run(images=1_000_000)
    started, before = time.monotonic(), set(members())
    with pytest.raises(LostProcessError, match="process 1 of a run ended with exit code -9"):
        list(run.train(run.task(None), remote=Beside(tmp_path, doomed=True)))
    assert time.monotonic() - started < 60
    assert not [pid for pid in set(members()) - before if "spawn_main" in command(pid)]


def command(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.slow
def test_a_killed_process_is_noticed():
    run = a_run(images=100_000)
    before, progress = set(members()), run.train(run.task(None))
    next(progress)
    victim = max(pid for pid in set(members()) - before if "spawn_main" in command(pid))
    os.kill(victim, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(LostProcessError, match="exit code -9"):
        list(progress)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_what_a_process_raises_is_raised_here():
    wild = {"lr": 1.0, "lr_ratio_critic": 1e3, "mu": 1, "unsup_fraction": 0.05, "width": 4, "critic_width": 4}
    run = a_run(method="sparse", images=400, config=NETWORK | wild)
    with pytest.raises(DivergedError, match="loss"):
        list(run.train(run.task(None)))


def test_impossible():
    with pytest.raises(ConfigError, match="processes: 0 is impossible"):
        replace(a_run().trial.conditions, processes=0)
