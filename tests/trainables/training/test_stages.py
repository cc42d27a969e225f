import gc
import logging
import multiprocessing
import os
import socket
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from search_spaces.core.errors import DataError
from trainables.training import stages
from trainables.training.accelerator import new_accelerator
from trainables.training.stage_cache import StageEntry
from trainables.training.stages import SharedStage

EPOCHS = 4


class Walk:
    """A random walk that counts its steps."""

    steps = 0

    def __init__(self):
        self.place = torch.zeros(3)

    def train_epoch(self):
        Walk.steps += 1
        self.place = self.place + torch.randn(3)
        return {"place": self.place.norm()}

    def result(self):
        return {"place": self.place}

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


@pytest.fixture(autouse=True)
def no_steps():
    Walk.steps = 0


def stage(seed=0, begin=Walk, num_epochs=EPOCHS, **changes):
    entry = StageEntry("walk", {"seed": seed, **changes})
    accelerator = new_accelerator(precision="no", cpu=True)
    return SharedStage("walk", entry, num_epochs=num_epochs, seed=seed, begin=begin, accelerator=accelerator)


def walked(one):
    return [one.epoch(number) for number in range(EPOCHS)], one.result()["place"]


def made_file(one):
    (path,) = one.entry.folder.glob("made-*.pt")
    return path


def test_who_comes_later_is_told_the_same():
    first, second = stage(), stage()
    losses, place = walked(first)
    torch.manual_seed(99)  # what happens outside does not matter
    told, found = walked(second)
    assert (losses, Walk.steps) == (told, EPOCHS)
    assert torch.equal(place, found)
    assert (first.origin, second.origin) == ("made", "found")


def test_it_leaves_the_random_numbers_of_the_trial_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    for _ in ("made", "found"):
        torch.manual_seed(5)
        walked(stage())
        assert torch.equal(torch.rand(3), expected)


def test_what_determines_it_tells_stages_apart():
    walked(stage(gamma=1.0))
    walked(stage(gamma=2.0))
    walked(stage(gamma=1.0))
    assert Walk.steps == 2 * EPOCHS


def test_the_seed_decides():
    assert walked(stage(seed=1))[0] != walked(stage(seed=2))[0]


def test_the_result_is_made_without_asking_for_epochs():
    assert torch.equal(stage().result()["place"], walked(stage(other=1))[1])


def test_no_epochs_are_just_a_result():
    one = stage(num_epochs=0)
    assert torch.equal(one.result()["place"], torch.zeros(3))
    assert one.origin == "made"


def test_the_place_is_named_after_what_determines_it(cache):
    one = stage()
    walked(one)
    assert len(one.entry.key) == 64
    assert one.entry.folder == cache / "stages" / f"walk-{one.entry.key[:32]}"
    assert (one.entry.folder / "about.json").read_text() == '{"seed":0}'
    assert sorted(p.name for p in one.entry.folder.iterdir()) == ["about.json", made_file(one).name]


@pytest.mark.parametrize("done", range(1, EPOCHS))
def test_another_trial_goes_on_where_one_ended(done, caplog):
    straight = walked(stage(other=1))
    first = stage()
    losses = [first.epoch(number) for number in range(done)]
    first.close()
    Walk.steps = 0
    with caplog.at_level(logging.INFO):
        second = stage()
        assert [second.epoch(number) for number in range(EPOCHS)][:done] == losses
    assert walked(second)[0] == straight[0]
    assert torch.equal(second.result()["place"], straight[1])
    assert Walk.steps == EPOCHS - done
    assert f"walk: goes on after {done} of {EPOCHS} epochs" in caplog.text


@pytest.mark.parametrize("cache_survives", [True, False])
def test_a_trial_goes_on_from_its_own_checkpoint(cache_survives, monkeypatch, tmp_path):
    straight = walked(stage(other=1))[0]
    first = stage()
    losses = [first.epoch(0), first.epoch(1)]
    state = dict(first.state_dict())
    first.close()
    if not cache_survives:
        monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "another"))
    Walk.steps = 0
    second = stage()
    second.load_state_dict(state)
    assert [*losses, second.epoch(2), second.epoch(3)] == straight
    assert Walk.steps == 2


@pytest.mark.parametrize("cache_survives", [True, False])
def test_a_trial_that_goes_on_still_knows_what_was_made(cache_survives, monkeypatch, tmp_path):
    first = stage()
    losses, place = walked(first)
    if not cache_survives:
        monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "another"))
    second = stage()
    second.load_state_dict(first.state_dict())
    assert (second.losses, second.origin) == (losses, "made")
    assert [second.epoch(number) for number in range(EPOCHS)] == losses
    assert Walk.steps == EPOCHS
    assert torch.equal(second.result()["place"], place)
    assert Walk.steps == (EPOCHS if cache_survives else 2 * EPOCHS)


def test_a_checkpoint_of_another_stage_is_not_used():
    other = stage(code="old")
    other.epoch(0)
    now = stage(code="new")
    now.load_state_dict(other.state_dict())
    now.epoch(0)
    assert (now.origin, Walk.steps) == ("made", 2)


def test_closed_in_the_middle_its_state_is_still_there():
    one = stage()
    one.epoch(0)
    before = one.state_dict()["work"]["place"]
    one.close()
    assert torch.equal(one.state_dict()["work"]["place"], before)
    one.epoch(1)
    assert Walk.steps == 2


def test_it_is_saved_now_and_then(monkeypatch):
    monkeypatch.setattr(stages, "SAVE_SECONDS", 0.0)
    one = stage()
    one.epoch(0)
    one.epoch(1)
    one.entry.begun.wait()
    assert one.entry.begun.load()[0] == 2
    one.close()


class Breaking(Walk):
    def train_epoch(self):
        losses = super().train_epoch()
        if Walk.steps == 3:
            raise KeyboardInterrupt
        return losses


def test_nothing_half_trained_is_kept():
    straight = walked(stage(other=1))[0]
    Walk.steps = 0
    broken = stage(begin=Breaking)
    broken.epoch(0)
    broken.close()
    with pytest.raises(KeyboardInterrupt):
        walked(broken)
    broken.close()
    assert walked(stage())[0] == straight


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_stage_is_set_aside_and_made_again(damage, caplog):
    first = stage()
    losses, place = walked(first)
    damaged = made_file(first)
    damage(damaged)
    second = stage()
    told, again = walked(second)
    assert (told, second.origin, Walk.steps) == (losses, "made", 2 * EPOCHS)
    assert torch.equal(place, again)
    assert damaged.with_suffix(".damaged").exists()
    assert "set aside damaged" in caplog.text


def test_a_stage_damaged_after_its_epochs_were_told_is_made_again():
    first = stage()
    losses, place = walked(first)
    flip(made_file(first))
    assert torch.equal(first.result()["place"], place)
    assert Walk.steps == 2 * EPOCHS
    assert walked(first)[0] == losses


class Slow(Walk):
    def train_epoch(self):
        time.sleep(0.2)
        return super().train_epoch()


@pytest.fixture(scope="module")
def context():
    """Maker of processes that come from one which has imported what they need; their variables are those it had."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([stages.__name__, new_accelerator.__module__])
    return made


def make_in_another_process(folder, results):
    os.environ["SPARSE_SEARCH_CACHE"] = str(folder)
    losses, place = walked(one := stage(begin=Slow))
    results.put((losses, place.tolist(), one.origin, Walk.steps))


def test_two_processes_at_once_make_it_once(context, cache):
    results = context.Queue()
    both = [context.Process(target=make_in_another_process, args=(cache, results)) for _ in range(2)]
    for process in both:
        process.start()
    told = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join()
    assert told[0][:2] == told[1][:2]
    assert sorted(one[2:] for one in told) == [("found", 0), ("made", EPOCHS)]


def make_beside_another(rank, port, folder, results):
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= place | {"RANK": str(rank), "LOCAL_RANK": "0", "SPARSE_SEARCH_CACHE": f"{folder}/{rank}"}
    begun, made, found = stage(), stage(), stage()
    begun.epoch(1)
    begun.close()
    told = [(*walked(one), one.origin) for one in (made, found)]
    results.put([(losses, place.tolist(), origin) for losses, place, origin in told])
    torch.distributed.destroy_process_group()


def test_processes_on_machines_with_a_cache_each_share_what_the_first_one_has(context, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = context.Queue()
    both = [context.Process(target=make_beside_another, args=(rank, port, tmp_path, results)) for rank in (0, 1)]
    for process in both:
        process.start()
    first, second = (results.get(timeout=120) for _ in both)
    for process in both:
        process.join()
    losses, place = walked(stage())
    assert first == second == [(losses, place.tolist(), origin) for origin in ("continued", "found")]
    assert list(tmp_path.glob("0/stages/*/made-*"))
    assert not list(tmp_path.glob("1/stages/*/made-*"))


def test_who_waits_says_so_and_takes_over(caplog, monkeypatch):
    monkeypatch.setattr(stages, "_POLL_SECONDS", 0.05)
    first, second = stage(), stage()
    first.epoch(0)
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.epoch, 1)
        time.sleep(0.3)
        assert not waiting.done()
        first.close()
        waiting.result(timeout=60)
    assert second.origin == "continued"
    assert caplog.text.count("walk: another trial is at it; this one waits") == 1


def test_who_waits_does_something_else_meanwhile():
    straight = walked(stage(other=1))
    Walk.steps = 0
    first, second, later = stage(), stage(), stage(seed=1)
    expected = walked(stage(seed=1, other=1))[0]
    first.epoch(0)
    done = []

    def help_and_let_go():
        done.append(later.help())
        first.close()
        return True

    second.meanwhile = help_and_let_go
    assert walked(second)[0] == straight[0]
    assert (done, later.origin) == ([True], "made")
    assert [later.epoch(number) for number in range(EPOCHS)] == expected
    assert Walk.steps == 3 * EPOCHS


def test_help_ends_in_time_and_leaves_what_it_did(monkeypatch):
    monkeypatch.setattr(stages, "HELP_SECONDS", -1.0)
    one = stage()
    one.epoch(0)
    one.close()
    other = stage()
    assert other.help()
    assert not other.entry.is_taken
    assert other.state_dict() == {}
    assert walked(stage())[0] == walked(stage(again=1))[0]
    assert Walk.steps == 2 * EPOCHS


def test_who_helps_again_and_again_holds_on_to_no_network(monkeypatch):
    monkeypatch.setattr(stages, "HELP_SECONDS", -1.0)
    accelerator = new_accelerator(precision="no", cpu=True)
    networks = weakref.WeakSet()

    class Learning(Walk):
        def __init__(self):
            super().__init__()
            self.network = accelerator.prepare_model(torch.nn.Linear(2, 2), evaluation_mode=True)
            networks.add(self.network)

    one = SharedStage(
        "walk", StageEntry("walk", {}), num_epochs=EPOCHS, seed=0, begin=Learning, accelerator=accelerator
    )
    assert all(one.help() for _ in range(3))
    gc.collect()
    assert len(networks) == 0


@pytest.mark.parametrize("case", ["made", "taken", "at work"])
def test_there_is_nothing_to_help(case):
    one, other = stage(), stage()
    if case == "made":
        walked(one)
    else:
        one.epoch(0)
    assert not (one if case == "at work" else other).help()
    one.close()


def test_a_place_that_cannot_be_written_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(DataError, match=r"a stage cannot be written .* name another folder in \$SPARSE_SEARCH_CACHE"):
        stage().epoch(0)
