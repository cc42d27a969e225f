"""The folder of a model: whole or not there, and named when it is damaged."""

import os
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces.core.errors import ModelError
from search_spaces.core.yaml_files import dump_yaml, read_yaml
from trainables.model import load_model
from trainables.model.folder import Saved, read_model, write_model
from trainables.model.saved import assembled

from .models import CARD, model_of


@pytest.fixture
def folder(tmp_path):
    saved, _ = model_of("pixels")
    write_model(tmp_path / "model", saved, CARD)
    return tmp_path / "model"


def test_it_reads_what_it_wrote(tmp_path):
    saved, _ = model_of("pixels", temperature=1.25, trained_on={"dataset": "synthetic", "labels": 9}, decision="pool")
    write_model(tmp_path / "model", saved, CARD)
    read = read_model(tmp_path / "model")
    assert read.facts.members[0].sha256
    assert read.facts.as_dict() | {"members": []} == saved.facts.as_dict() | {"members": []}
    assert read.calibration == saved.calibration
    (own,), (wrote,) = read.states, saved.states
    assert own.keys() == wrote.keys()
    assert all(torch.equal(own[name], wrote[name]) for name in own)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md", "calibration.json", "model.safetensors", "model.yaml",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_its_files_are_as_readable_as_others(folder):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o666 & ~_umask()}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_nothing_is_overwritten(folder):
    saved, _ = model_of("pixels")
    before = (folder / "model.yaml").read_bytes()
    with pytest.raises(ModelError, match="exists already"):
        write_model(folder, saved, CARD)
    assert (folder / "model.yaml").read_bytes() == before


def test_a_write_that_fails_leaves_nothing(tmp_path):
    saved, _ = model_of("pixels")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write"):
        write_model(tmp_path / "file" / "model", saved, CARD)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(ModelError, match="does not exist; expected the folder of a model"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"holds no model\.yaml"):
        load_model(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is no folder"):
        load_model(tmp_path / "file")


def test_a_changed_byte_of_the_weights_is_noticed(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: its bytes are not those"):
        load_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"members": []}, "no members"),
        ({"members": [{"method": "pixels"}]}, "does not describe a model"),
        ({"class_names": "normal"}, "class_names is no list"),
        ({"kind": "regression"}, "kind 'regression'"),
        ({"side": "large"}, "no size"),
        ({"decision": "guess"}, "decision 'guess'"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"grid": {"rows": 2}}, "does not describe a model"),
        ({"surprise": 1}, "surprise"),
        ({"side": 100_000}, "no size"),
        ({"channels": 2}, "no size"),
        ({"class_names": ["a", "a", "b"]}, "two classes of one name"),
        ({"temperature": 1e-300}, "temperature 1e-300"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"aggregate": "median"}, "aggregate 'median' is unknown"),
        ({"grid": {"rows": -1, "columns": -1, "overlap": 0}}, "grid -1x-1"),
        ({"grid": {"rows": 3, "columns": 3, "overlap": 0}}, "does not divide into 3"),
        ({"reduction": {"smallest": [0, 9], "compression": None}}, "reduction to"),
    ],
)
def test_odd_facts_are_told_in_a_line(folder, change, words):
    values = read_yaml(folder / "model.yaml")
    (folder / "model.yaml").write_text(dump_yaml(values | change))
    with pytest.raises(ModelError, match=words) as problem:
        load_model(folder)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": 5}, "method of a member: 5"),
        ({"config": None}, "config of a member: None"),
        ({"predictor": ["pixels"]}, "predictor of a member"),
        ({"predictor": "sparse"}, "predictor 'sparse', which pixels does not have: it has pixels"),
        ({"pool_mean": [0.5]}, "pool_mean of a member"),
        ({"pool_mean": [0.5, float("nan"), 0.5]}, "pool_mean of a member"),
    ],
)
def test_odd_members_are_told_in_a_line(folder, change, words):
    values = read_yaml(folder / "model.yaml")
    values["members"][0] |= change
    (folder / "model.yaml").write_text(dump_yaml(values))
    with pytest.raises(ModelError, match=words) as problem:
        load_model(folder)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: torch.full_like(tensor, float("nan")), "no number"),
        (lambda tensor: tensor.reshape(-1)[:1].clone(), "predict no images of 1x16x16"),
    ],
)
def test_weights_that_predict_nothing_are_told(change, words):
    saved, _ = model_of("pixels")
    (state,) = saved.states
    edited = saved._replace(states=[{name: change(tensor) for name, tensor in state.items()}])
    with pytest.raises(ModelError, match=words):
        assembled(edited, "it").predict(np.zeros((2, 16, 16), np.uint8))


def test_a_model_of_classes_marks_no_pixels():
    saved, _ = model_of("pixels")
    edited = saved._replace(facts=replace(saved.facts, kind="segmentation", class_names=("lesion", "other")))
    with pytest.raises(ModelError, match="mark no pixels"):
        assembled(edited, "it").predict(np.zeros((2, 16, 16), np.uint8))


def test_a_file_outside_of_the_folder_is_not_read(folder):
    values = read_yaml(folder / "model.yaml")
    values["members"][0]["file"] = "../model.safetensors"
    (folder / "model.yaml").write_text(dump_yaml(values))
    with pytest.raises(ModelError, match="is not in the folder"):
        load_model(folder)


def test_tensors_of_another_method_are_told(folder, tmp_path):
    values = read_yaml(folder / "model.yaml")
    values["members"][0] |= {"method": "constant", "config": {}, "predictor": "constant"}
    (folder / "model.yaml").write_text(dump_yaml(values))
    with pytest.raises(ModelError, match="does not fit constant"):
        load_model(folder)
    values["members"][0]["method"] = "unheard_of"
    (folder / "model.yaml").write_text(dump_yaml(values))
    with pytest.raises(ModelError, match="cannot be used here: method 'unheard_of' is unknown"):
        load_model(folder)


def test_a_module_that_a_folder_names_is_not_imported_unasked(folder):
    values = read_yaml(folder / "model.yaml")
    values["members"][0]["method"] = "trainables.pixels:METHOD"
    (folder / "model.yaml").write_text(dump_yaml(values))
    with pytest.raises(ModelError, match="if you trust its code"):
        load_model(folder)
    assert load_model(folder, own_code=True).class_names == ("a", "b", "c")


def test_a_lost_calibration_costs_the_sets_alone(folder):
    (folder / "calibration.json").unlink()
    assert not load_model(folder).calibration.scores
    (folder / "calibration.json").write_text("{")
    with pytest.raises(ModelError, match="do without sets"):
        load_model(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"origin": "", "scores": [NaN]}',
        '{"origin": "", "scores": [0.9, 0.1]}',
        '{"origin": "", "scores": [2.0]}',
        '{"origin": "", "scores": [0.1], "num_images": 2}',
    ],
)
def test_a_calibration_that_is_none_is_told(folder, text):
    (folder / "calibration.json").write_text(text)
    with pytest.raises(ModelError, match=r"calibration\.json is damaged"):
        load_model(folder)


def test_states_are_saved_member_by_member(tmp_path):
    saved, _ = model_of("pixels", "constant", weights=[0.25, 0.75])
    write_model(tmp_path / "model", Saved(*saved), CARD)
    assert {"member-1.safetensors", "member-2.safetensors"} < {p.name for p in (tmp_path / "model").iterdir()}
    assert [set(state) for state in read_model(tmp_path / "model").states] == [{"weights", "biases"}, {"probs"}]
