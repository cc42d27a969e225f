"""The same model as a graph, under onnxruntime."""

import numpy as np
import pytest
import torch

from search_spaces.core.errors import ConfigError, ModelError
from trainables.model import onnx_file
from trainables.model.saved import assembled
from trainables.testing.tasks import make_task

from .models import model_of


def run(content, images_NCHW):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images_NCHW.numpy()})[0]


@pytest.mark.parametrize(
    "names",
    [
        ("convnet",),
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in (("sparse",), ("resnet", "supervised"), ("segmenter",))
        ),
    ],
    ids="-".join,
)
def test_it_says_what_the_model_says(names):
    pytest.importorskip("onnxscript")
    kind = "segmentation" if names == ("segmenter",) else "classification"
    task = make_task(kind=kind, channels=3, side=20, shots=3)  # resized, as networks are of 16 px
    weights = [0.75, 0.25] if len(names) > 1 else [1.0]
    model = assembled(model_of(*names, weights=weights, task=task)[0], "it")
    content = onnx_file.onnx_of(model)
    for count in (1, 7):
        images_NCHW = task.validation.images_NCHW[:count]
        np.testing.assert_allclose(run(content, images_NCHW), model.outputs(images_NCHW), rtol=0, atol=1e-4)


def test_what_has_no_graph_is_told(monkeypatch):
    model = assembled(model_of("pixels")[0], "it")
    with pytest.raises(ModelError, match="'pixels' there is no ONNX graph"):
        onnx_file.onnx_of(model)
    monkeypatch.setattr(onnx_file, "_NEEDED", ("no_such_library",))
    with pytest.raises(ConfigError, match=r"pip install 'sparse-search\[onnx\]'"):
        onnx_file.check_onnx()


def test_a_graph_that_says_something_else_is_not_given_out(monkeypatch):
    model = assembled(model_of("supervised")[0], "it")
    monkeypatch.setattr(onnx_file, "_exported", lambda model: b"")
    monkeypatch.setattr(onnx_file, "_run", lambda content, images: torch.zeros(len(images), 3).numpy())
    with pytest.raises(ModelError, match="differs from the model by"):
        onnx_file.onnx_of(model)
