import logging

import pytest
import torch

from trainables.core.checkpoint import KEPT, Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "run")


def state(epoch):
    return {"weights": torch.full((3,), float(epoch)), "count": epoch}


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
    for path in checkpoints.folder.glob("*.pt"):
        path.write_bytes(b"x")
    assert checkpoints.load() is None


def test_an_interrupted_write_is_invisible(checkpoints):
    checkpoints.save(1, state(1))
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


def test_remove(checkpoints):
    checkpoints.save(1, state(1))
    checkpoints.remove()
    checkpoints.remove()
    assert not checkpoints.folder.exists()
