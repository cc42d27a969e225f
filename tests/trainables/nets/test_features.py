import pytest
import torch

from search_spaces.core.errors import ConfigError
from trainables.nets.features import feature_network


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "width"), [("random", 384), ("timm:test_resnet", 96)])
def test_the_same_features_every_time(name, width, channels):
    torch.manual_seed(3)
    first, expected = feature_network(name, channels), torch.rand(2)
    images = torch.rand(2, channels, 16, 16)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), expected), "it leaves the random numbers alone"
    features = feature_network(name, channels).eval()(images)
    assert torch.equal(first.eval()(images), features)
    assert features.shape == (2, width)


def test_weights_from_a_file(tmp_path):
    source = feature_network("timm:test_resnet", 3)
    with torch.no_grad():
        source.conv1[0].weight.fill_(0.5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    loaded = feature_network(f"timm:test_resnet:{tmp_path}/weights.pth", 3)
    assert torch.equal(loaded.conv1[0].weight, source.conv1[0].weight)


@pytest.mark.parametrize("name", ["", "Random", "timm", "timm:", "inception:x"])
def test_another_name_is_told(name):
    with pytest.raises(ConfigError, match="is unknown; expected random, timm:MODEL or timm:MODEL:WEIGHTS"):
        feature_network(name, 1)
