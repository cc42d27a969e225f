"""Frozen networks: the pooled output of the network that the name says, normalised as its weights are used to."""

import pytest
import timm
import torch

from search_spaces.core.weights import PACKAGED
from trainables.nets.frozen import FrozenNetwork, frozen_hash
from trainables.nets.weights import in_timm_names, packaged_file


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_timm_s_network(channels):
    plain = timm.create_model(PACKAGED["lite0"].model)
    held = torch.load(packaged_file("lite0"), weights_only=True)
    plain.load_state_dict(in_timm_names(held, PACKAGED["lite0"].model))
    unit_BCHW = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    colours_BCHW = unit_BCHW.expand(-1, 3, -1, -1)  # grey weights are the sum of those of colours
    with torch.inference_mode():
        expected_BD = plain.eval().forward_head(plain.forward_features(colours_BCHW * 2 - 1), pre_logits=True)
        features_BD = FrozenNetwork("lite0", channels)(unit_BCHW)
    torch.testing.assert_close(features_BD, expected_BD, rtol=1e-3, atol=1e-4)


def test_random_weights_are_the_same_every_time_and_known_by_their_hash():
    torch.manual_seed(1)
    first = FrozenNetwork("test_resnet", 1)
    torch.manual_seed(2)
    again = FrozenNetwork("test_resnet", 1)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not any(parameter.requires_grad for parameter in first.parameters())
    hashes = {frozen_hash("test_resnet", 1), frozen_hash("test_resnet", 3), frozen_hash("test_vit", 1)}
    assert len(hashes) == 3
