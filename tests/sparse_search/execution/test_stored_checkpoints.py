"""Checkpoints at a URI, on two machines."""

import pickle

import pytest
import torch

from sparse_search.execution.stored_checkpoints import checkpoint_folders, checkpoints_at, finish_removing, forget_here
from sparse_search.results.mirror import store_at
from trainables.training.checkpoint import Checkpoints

FOLDER = "sweeps/test/checkpoints/study/3"
RUN = f"{FOLDER}/run"


def save(place, *epochs):
    with checkpoints_at(place, RUN) as checkpoints:
        for epoch in epochs:
            checkpoints.save(epoch, {"weight": torch.full((2,), float(epoch))})
            checkpoints.wait()


def load(place):
    found = checkpoints_at(place, RUN).load()
    return found and (found[0], found[1]["weight"][0].item())


def test_in_a_folder_they_are_plain(tmp_path):
    made = checkpoints_at(tmp_path, RUN)
    assert type(made) is Checkpoints
    assert made.folder == tmp_path / RUN
    save(tmp_path, 1)
    forget_here(tmp_path, FOLDER)
    assert load(tmp_path) == (1, 1.0)
    assert checkpoint_folders(tmp_path, "sweeps/test/checkpoints/study") == {"3"}


def test_a_trial_goes_on_elsewhere(bucket, move_to):
    assert load(bucket) is None
    save(bucket, 1, 2, 3)
    there = store_at(bucket).objects.sizes(RUN)
    assert [name[len(RUN) + 1 :][:12] for name in sorted(there)] == ["epoch-000002", "epoch-000003"]
    move_to("elsewhere")
    assert load(bucket) == (3, 3.0)
    save(bucket, 4)
    move_to("here")
    assert load(bucket) == (4, 4.0)
    move_to("elsewhere")
    (left,) = (store_at(bucket).folder / RUN).glob("epoch-000004*")
    left.rename(left.with_name(left.name.replace("4-", "9-")))  # of another history: the storage does not know it
    assert load(bucket) == (4, 4.0)
    move_to("here")
    forget_here(bucket, FOLDER)
    assert not (store_at(bucket).folder / FOLDER).exists()
    assert load(bucket) == (4, 4.0)


def test_one_that_is_damaged_here_is_fetched_again(bucket, caplog):
    save(bucket, 1, 2)
    newest = max((store_at(bucket).folder / RUN).glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert load(bucket) == (2, 2.0)
    assert "set aside damaged checkpoint" in caplog.text


def test_removed_they_are_gone_everywhere(bucket, move_to):
    save(bucket, 1)
    move_to("elsewhere")
    assert checkpoint_folders(bucket, "sweeps/test/checkpoints/study") == {"3"}
    checkpoints_at(bucket, FOLDER).remove()
    finish_removing()
    assert not store_at(bucket).objects.sizes("sweeps")
    assert checkpoint_folders(bucket, "sweeps/test/checkpoints/study") == set()
    assert load(bucket) is None


def test_a_silent_storage_costs_only_what_it_missed(bucket, move_to, monkeypatch, caplog):
    monkeypatch.setattr("sparse_search.execution.stored_checkpoints.PATIENCE_SECONDS", 0.0)
    save(bucket, 1)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with checkpoints_at(bucket, RUN) as checkpoints:
            checkpoints.save(2, {"weight": torch.zeros(2)})
        assert "was written here only" in caplog.text
        with pytest.raises(OSError, match="cannot be reached"):
            load(bucket)
    save(bucket, 3)
    move_to("elsewhere")
    assert load(bucket) == (3, 3.0)


def test_they_travel_to_the_processes_of_a_trial(bucket):
    save(bucket, 1)
    assert pickle.loads(pickle.dumps(checkpoints_at(bucket, RUN))).load()[0] == 1
