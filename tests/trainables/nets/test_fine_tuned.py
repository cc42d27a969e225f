"""What learns of a network that goes on from given weights, and how fast."""

import pytest
import torch

from search_spaces.core.errors import ConfigError
from search_spaces.supervised import SupervisedConfig
from trainables.components.optimised_model import OptimisedModel
from trainables.nets.backbone import build_classifier, normalisation
from trainables.nets.fine_tuned import FineTunedNetwork, rates
from trainables.training.accelerator import new_accelerator


def new(classifier="test_resnet", **settings):
    torch.manual_seed(0)
    network = build_classifier(classifier, channels=1, num_classes=3)
    config = SupervisedConfig(classifier=classifier, **settings)
    return FineTunedNetwork(network, config, *normalisation(network, "", 1)), config


def learning(network):
    return {name.removeprefix("network.") for name, each in network.named_parameters() if each.requires_grad}


def test_it_sees_images_as_its_weights_did():
    network, _ = new()
    images_BCHW = torch.rand(2, 1, 8, 8)
    network.eval()
    assert network(images_BCHW).equal(network.network(2 * images_BCHW - 1))
    logits_BK = network.last(network.features(images_BCHW))
    assert torch.allclose(network(images_BCHW), logits_BK)


def test_all_or_the_last_layer_or_the_last_block_learn():
    assert learning(new()[0]) == {name for name, _ in new()[0].network.named_parameters()}
    assert learning(new(trained_layers="head")[0]) == {"fc.weight", "fc.bias"}
    block = learning(new(trained_layers="last_block")[0]) - {"fc.weight", "fc.bias"}
    assert block == {name for name, _ in new()[0].network.named_parameters() if name.startswith("layer4.")}


def test_normalisation_and_biases_learn_alone():
    network, _ = new(trained_layers="norms")
    convolutions = {
        f"{name}.weight" for name, each in network.network.named_modules() if isinstance(each, torch.nn.Conv2d)
    }
    assert learning(network) == {name for name, _ in network.network.named_parameters()} - convolutions


def test_a_low_rank_change_begins_at_nothing_and_is_of_that_rank():
    plain, _ = new("test_vit")
    network, _ = new("test_vit", trained_layers="low_rank", low_rank=2)
    images_BCHW = torch.rand(4, 1, 160, 160)
    plain.eval(), network.eval()
    assert torch.allclose(network(images_BCHW), plain(images_BCHW))
    model = OptimisedModel(network, new_accelerator(precision="no", cpu=True), lr=0.1, beta1=0.9, weight_decay=0.0)
    before = {name: each.clone() for name, each in network.named_parameters()}
    for _ in range(2):
        model.backward_and_step(torch.nn.functional.cross_entropy(model(images_BCHW), torch.arange(4) % 3))
    changed = {name for name, each in network.named_parameters() if not each.equal(before[name])}
    assert changed == {f"network.{name}" for name in learning(network)}
    layer = network.network.blocks[0].attn.qkv
    change_OI = layer.weight - layer.parametrizations.weight.original
    assert torch.linalg.matrix_rank(change_OI) == 2


def test_a_low_rank_change_needs_attention():
    with pytest.raises(ConfigError, match="has none"):
        new(trained_layers="low_rank")


def test_rates_fall_from_the_last_layer_down():
    network, config = new(lr_ratio_body=0.5, layer_decay=0.8)
    by_name = rates(network, config)
    assert set(by_name) == {name for name, _ in network.named_parameters()}
    assert by_name["network.fc.weight"] == by_name["network.fc.bias"] == 1
    assert by_name["network.layer4.0.conv1.weight"] == pytest.approx(0.5 * 0.8)
    assert by_name["network.layer1.0.conv1.weight"] == pytest.approx(0.5 * 0.8**4)
    stem = {rate for name, rate in by_name.items() if name.startswith("network.conv1.")}
    assert list(stem) == [pytest.approx(0.5 * 0.8**5)]


def test_an_optimiser_steps_by_these_rates():
    network, config = new(lr_ratio_body=0.5, layer_decay=0.8)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # of some it is 0, and nothing below them has a gradient
    accelerator = new_accelerator(precision="no", cpu=True)
    by_name = rates(network, config)
    model = OptimisedModel(network, accelerator, lr=1e-3, beta1=0.9, weight_decay=0.0, rates=by_name)
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    model.backward_and_step(model(torch.rand(6, 1, 16, 16)).square().sum())
    for name, each in network.named_parameters():  # the first step of Adam is as large as its step size
        assert (each.detach() - before[name]).abs().max() == pytest.approx(1e-3 * by_name[name], rel=1e-2), name


def test_frozen_statistics_never_change():
    network, _ = new(frozen_statistics=True)
    before = [each.clone() for each in network.buffers()]
    network.train()
    network(torch.rand(4, 1, 16, 16))
    assert all(now.equal(then) for now, then in zip(network.buffers(), before, strict=True))
    assert network.training
    assert network.last.training
