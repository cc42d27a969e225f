"""Weights of a finished run as a file: what its learner predicts by, with a checksum. Loads without torch."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"
"""Name of the file among what is kept of a run."""

_CHECKSUM = "sha256"


def encode_weights(state: Mapping[str, "Tensor"]) -> bytes:
    """Return the bytes of a file that holds tensors of the CPU by name; nothing in it executes."""
    from safetensors.torch import save

    return save(dict(state), {_CHECKSUM: _checksum(state)})


def read_weights(path: Path) -> dict[str, "Tensor"]:
    """Read the tensors of a file that `encode_weights` made.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read, or is not there.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            known = (file.metadata() or {}).get(_CHECKSUM)
    except SafetensorError as problem:
        raise ValueError(" ".join(str(problem).split())) from problem
    if known != _checksum(state):
        raise ValueError("its tensors are not those that were written")
    return state


def _checksum(state: Mapping[str, "Tensor"]) -> str:
    import torch

    found = sha256()
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
