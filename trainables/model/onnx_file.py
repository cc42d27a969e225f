"""A model as an ONNX graph, for programs that have no PyTorch: checked under onnxruntime before it is given out.

It takes pictures that are prepared already, or patches of them, as bytes (N, C, S, S), resizes them as the networks
need, and gives probabilities (N, K) before the temperature, or of the foreground (N, S, S). Decision rule, temperature
and threshold are in `model.yaml`.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol, cast, final, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.core.errors import ConfigError, ModelError
from trainables.data.patches import boxes
from trainables.model.saved import Model

ONNX = "model.onnx"
MAX_DIFFERENCE = 1e-4
"""Greatest difference of a probability between both programs."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_TRIED = 5
"""Images on which both programs are compared: another number than the graph is made with."""


@runtime_checkable
class Traceable(Protocol):
    """A predictor whose computation does not depend on the number of images."""

    def predict_at_once(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Return what `predict` does, all images in one batch."""


@final
class _Graph(nn.Module):
    """The weighted mean of the members."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._members = model.members

    def forward(self, images_NCSS: Tensor) -> Tensor:
        total: Any = 0.0
        for member, predictor in self._members:
            total = total + member.weight * cast(Traceable, predictor).predict_at_once(images_NCSS)[member.predictor]
        return torch.as_tensor(total)


def check_onnx() -> None:
    """Refuse where the libraries are missing.

    Raises:
        ConfigError: it says what to install.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"--onnx needs {', '.join(missing)}: pip install 'sparse-search[onnx]'; or leave it out")


def onnx_of(model: Model) -> bytes:
    """Return the ONNX file of a model.

    Raises:
        ModelError: of such a method there is none, or it says something else than the model.
    """
    for member, predictor in model.members:
        if not isinstance(predictor, Traceable):
            raise ModelError(f"of method '{member.method}' there is no ONNX graph: leave --onnx out")
    content = _exported(model)
    tried = _some_images(model, _TRIED)
    difference = float(np.abs(_run(content, tried) - model.outputs(tried)).max())
    if not difference <= MAX_DIFFERENCE:
        raise ModelError(f"the ONNX graph differs from the model by {difference:.2g}: leave --onnx out")
    return content


def _exported(model: Model) -> bytes:
    with _silent():
        program: Any = torch.onnx.export(
            _Graph(model).eval(), (_some_images(model, 2),), dynamo=True, input_names=["images"],
            output_names=["probabilities"], dynamic_shapes=({0: torch.export.Dim("images")},), verbose=False,
        )  # fmt: skip
        stream = io.BytesIO()
        program.save(stream)
    return stream.getvalue()


def _run(content: bytes, images_NCSS: Tensor) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: np.ndarray[Any, Any] = session.run(None, {"images": images_NCSS.numpy()})[0]
    return found


def _some_images(model: Model, count: int) -> Tensor:
    """Noise in the form of pictures, or of their patches."""
    facts = model.facts
    side = facts.side
    if facts.grid:
        rows, _ = boxes(facts.grid, side, side)[0]
        side = rows.stop - rows.start
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, facts.channels, side, side), dtype=torch.uint8, generator=generator)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the exporter's words about itself."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
