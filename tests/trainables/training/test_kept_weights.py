"""Weights as a file: what was written is read, and nothing else."""

import pytest
import torch

from trainables.training.kept_weights import encode_weights, read_weights

STATE = {
    "weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7), "half": torch.ones(3, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]), "none": torch.zeros(0, 4),
}  # fmt: skip


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "file").write_bytes(encode_weights(STATE))
    found = read_weights(tmp_path / "file")
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert encode_weights(dict(reversed(STATE.items()))) == encode_weights(STATE)


def test_whatever_was_changed_is_noticed(tmp_path):
    content = bytearray(encode_weights(STATE))
    for place in (3, len(content) // 2, len(content) - 1):
        spoiled = content.copy()
        spoiled[place] ^= 1
        (tmp_path / "file").write_bytes(spoiled)
        with pytest.raises(ValueError, match=r"\w"):
            read_weights(tmp_path / "file")
    for spoiled in (content[:-1], content[: len(content) // 2], b""):
        (tmp_path / "file").write_bytes(spoiled)
        with pytest.raises(ValueError, match=r"\w"):
            read_weights(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "gone")
