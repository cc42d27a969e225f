import pytest
import timm
import torch

from search_spaces.core.errors import ConfigError
from trainables.nets.backbone import LastLayerOnly, build_classifier


@pytest.mark.parametrize(("num_classes", "expected"), [(2, 10_699_306), (8, 10_708_528), (11, 10_713_139)])
def test_efficientnet_has_as_many_parameters_as_the_paper_code(num_classes, expected):
    with torch.device("meta"):
        network = build_classifier("efficientnet_b3", channels=3, num_classes=num_classes, drop_path=0.2)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_classifies(channels):
    network = build_classifier("test_resnet", channels=channels, num_classes=5, dropout=0.3)
    assert network(torch.rand(2, channels, 32, 32)).shape == (2, 5)
    assert network.drop_rate == 0.3


@pytest.mark.parametrize("name", ["resnet10", "efficientnet-b3", "resnet10t.a1_in1k", "zzzzqqqq"])
def test_an_unknown_model_is_one_line_with_a_way_out(name):
    with pytest.raises(ConfigError, match=r"no timm model; (did you mean|timm.list_models)") as caught:
        build_classifier(name, channels=3, num_classes=2)
    assert "\n" not in str(caught.value)


def test_no_stochastic_depth_says_what_to_change():
    with pytest.raises(ConfigError, match="set drop_path to 0"):
        build_classifier("vgg11", channels=3, num_classes=2, drop_path=0.1)


def test_weights_from_a_file(tmp_path):
    source = timm.create_model("test_resnet", num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    options = {"channels": 3, "num_classes": 4, "pretrained": str(tmp_path / "weights.pth")}
    network = build_classifier("test_resnet", **options)
    torch.testing.assert_close(network.conv1[0].weight, source.conv1[0].weight)
    assert network.fc.out_features == 4
    grey = build_classifier("test_resnet", **(options | {"channels": 1}))
    torch.testing.assert_close(grey.conv1[0].weight, source.conv1[0].weight.sum(1, keepdim=True))


def test_unusable_weights_are_one_line(tmp_path):
    damaged, foreign = tmp_path / "damaged.pth", tmp_path / "foreign.pth"
    damaged.write_bytes(b"not weights at all")
    torch.save({"somewhere.weight": torch.zeros(3)}, foreign)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    for pretrained in (str(damaged), str(foreign), str(cut), str(tmp_path / "absent.pth"), "no_such_tag"):
        with pytest.raises(ConfigError) as caught:
            build_classifier("test_resnet", channels=3, num_classes=2, pretrained=pretrained)
        assert "\n" not in str(caught.value)
        assert pretrained in str(caught.value)


def test_weights_that_cannot_be_reached_are_one_line(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("trainables.nets.backbone.timm.create_model", offline)
    with pytest.raises(ConfigError, match="'r160_in1k' of classifier 'test_resnet' cannot be used: no route to host"):
        build_classifier("test_resnet", channels=3, num_classes=2, pretrained="r160_in1k")


def test_of_a_frozen_classifier_the_last_layer_alone_learns():
    network = LastLayerOnly(build_classifier("test_resnet", channels=1, num_classes=3))
    assert [name for name, p in network.named_parameters() if p.requires_grad] == [
        "network.fc.weight",
        "network.fc.bias",
    ]
    for mode in (True, False, True):
        network.train(mode)
        assert network.network.fc.training is mode
        assert not any(part.training for part in network.network.modules() if part is not network.network.fc)
