import errno
import logging
import os
import pickle
import subprocess
import sys
import threading

import pytest
import torch

from trainables.training.checkpoint import KEPT, Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "run")


@pytest.fixture
def gate(monkeypatch):
    """What a write waits for before anything of it is written."""
    opened, write = threading.Event(), torch.save
    monkeypatch.setattr(torch, "save", lambda *args: opened.wait(60) and write(*args))
    return opened


@pytest.fixture
def full_disk(monkeypatch):
    """Makes every write fail until it is called."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    return monkeypatch.undo


def state(epoch):
    return {"weights": torch.full((3,), float(epoch)), "count": epoch}


def files(checkpoints):
    return sorted(path.name[:12] for path in checkpoints.folder.iterdir())


def test_nothing_there(checkpoints):
    assert checkpoints.load() is None


def test_the_newest_comes_back_and_few_are_kept(checkpoints):
    for epoch in range(1, 6):
        checkpoints.save(epoch, state(epoch))
    epoch, loaded = checkpoints.load()
    assert (epoch, loaded["count"]) == (5, 5)
    assert torch.equal(loaded["weights"], state(5)["weights"])
    assert len(list(checkpoints.folder.iterdir())) == KEPT


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_newest_falls_back_and_is_named(checkpoints, damage, caplog):
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2))
    checkpoints.wait()
    newest = max(checkpoints.folder.glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"truncate": content[:-100], "flip": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        epoch, _ = checkpoints.load()
    assert epoch == 1
    assert newest.name in caplog.text
    assert not newest.exists()


def test_all_damaged_is_a_fresh_start(checkpoints):
    checkpoints.save(1, state(1))
    checkpoints.wait()
    for path in checkpoints.folder.glob("*.pt"):
        path.write_bytes(b"x")
    assert checkpoints.load() is None


def test_an_interrupted_write_is_invisible(checkpoints):
    checkpoints.save(1, state(1))
    checkpoints.wait()
    (checkpoints.folder / ".partial-123").write_bytes(b"half")
    assert checkpoints.load()[0] == 1


def test_nothing_read_can_execute(checkpoints, tmp_path):
    import hashlib

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").touch, ())

    checkpoints.folder.mkdir()
    path = checkpoints.folder / "x"
    torch.save({"epoch": 1, "state": Evil()}, path)
    digest = hashlib.blake2b(path.read_bytes()).hexdigest()[:16]
    path.rename(checkpoints.folder / f"epoch-000001-{digest}.pt")
    assert checkpoints.load() is None
    assert not (tmp_path / "owned").exists()


def test_what_is_saved_is_the_state_at_that_moment(checkpoints, gate):
    network = torch.nn.BatchNorm1d(2)
    live = {"network": network.state_dict(), "moments": [network.weight, (torch.ones(3), 0.5)], "epoch": 1}
    checkpoints.save(1, live)
    with torch.no_grad():
        for tensor in (network.weight, network.running_mean, live["moments"][1][0]):
            tensor.fill_(7)
    live["network"].clear()
    live["epoch"] = 2
    gate.set()
    loaded = checkpoints.load()[1]
    assert loaded["epoch"] == 1
    assert loaded["network"].keys() == torch.nn.BatchNorm1d(2).state_dict().keys()
    assert loaded["network"]._metadata == network.state_dict()._metadata
    assert torch.equal(loaded["network"]["weight"], torch.ones(2))
    assert torch.equal(loaded["network"]["running_mean"], torch.zeros(2))
    assert torch.equal(loaded["moments"][0], torch.ones(2))
    assert torch.equal(loaded["moments"][1][0], torch.ones(3))


def test_training_goes_on_while_a_file_is_written(checkpoints, gate):
    checkpoints.save(1, state(1))
    assert not list(checkpoints.folder.glob("*.pt"))
    gate.set()
    checkpoints.wait()
    assert files(checkpoints) == ["epoch-000001"]


def test_a_save_waits_for_the_one_before(checkpoints, monkeypatch):
    running, most, write = [], [], torch.save

    def slow(*args):
        running.append(args)
        most.append(len(running))
        threading.Event().wait(0.05)
        write(*args)
        running.pop()

    monkeypatch.setattr(torch, "save", slow)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, state(epoch))
    assert checkpoints.load()[0] == 3
    assert most == [1, 1, 1]
    assert files(checkpoints) == ["epoch-000002", "epoch-000003"]


@pytest.mark.parametrize("then", ["save", "wait", "load", "context"])
def test_a_failed_write_is_told_once_and_leaves_nothing(checkpoints, full_disk, then):
    def context():
        with checkpoints:
            pass

    calls = {"save": lambda: checkpoints.save(2, state(2)), "wait": checkpoints.wait, "load": checkpoints.load,
             "context": context}  # fmt: skip
    checkpoints.save(1, state(1))
    with pytest.raises(OSError, match="No space left"):
        calls[then]()
    assert not files(checkpoints)
    full_disk()
    checkpoints.save(3, state(3))
    assert checkpoints.load()[0] == 3


def test_a_failed_write_leaves_the_checkpoint_before(checkpoints, request):
    checkpoints.save(1, state(1))
    checkpoints.wait()
    request.getfixturevalue("full_disk")
    checkpoints.save(2, state(2))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.wait()
    assert checkpoints.load()[0] == 1


@pytest.mark.usefixtures("full_disk")
def test_a_failed_write_hides_no_other_exception(checkpoints, caplog):
    def fail():
        with checkpoints:
            checkpoints.save(1, state(1))
            raise KeyError("the reason")

    with caplog.at_level(logging.WARNING), pytest.raises(KeyError, match="the reason"):
        fail()
    assert "No space left" in caplog.text


def test_a_process_that_ends_has_written(tmp_path):
    program = (
        "import os, time, pathlib, torch; from trainables.training.checkpoint import Checkpoints\n"
        "sync = os.fsync; os.fsync = lambda file: time.sleep(0.3) or sync(file)\n"
        f"Checkpoints(pathlib.Path({str(tmp_path)!r})).save(4, {{'weights': torch.ones(2)}})"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert Checkpoints(tmp_path).load()[0] == 4


def test_it_can_be_sent_to_another_process(checkpoints):
    checkpoints.save(1, state(1))
    checkpoints.wait()
    assert pickle.loads(pickle.dumps(checkpoints)).load()[0] == 1


def test_remove_does_not_mind_a_failed_write(checkpoints, full_disk):
    checkpoints.save(1, state(1))
    checkpoints.remove()
    full_disk()
    checkpoints.wait()
    assert not checkpoints.folder.exists()


def test_remove(checkpoints):
    checkpoints.save(1, state(1))
    checkpoints.remove()
    checkpoints.remove()
    assert not checkpoints.folder.exists()
