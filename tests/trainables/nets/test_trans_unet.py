from functools import partial

import pytest
import torch
from timm.layers import GroupNormAct, HybridEmbed
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer

from search_spaces.core.errors import ConfigError
from trainables.nets.trans_unet import TransUNet, build_trans_unet

SKIPS = [8, 16, 32]


def tiny_hybrid(side=64, channels=3):
    backbone = ResNetV2(
        [1, 1, 1], (16, 32, 48), num_classes=0, in_chans=channels, global_pool="", preact=False, stem_type="same",
        stem_chs=8, norm_layer=partial(GroupNormAct, num_groups=4),
    )  # fmt: skip
    return VisionTransformer(
        img_size=side, patch_size=1, in_chans=channels, num_classes=0, embed_dim=24, depth=2, num_heads=2,
        embed_layer=partial(HybridEmbed, backbone=backbone),
    )  # fmt: skip


def tiny(side=64, channels=3, num_classes=2, **options):
    torch.manual_seed(0)
    return TransUNet(tiny_hybrid(side, channels), num_classes=num_classes, **options)


def joins(network):
    """What each doubling of the side takes in: shapes of the deep features and of the skip."""
    seen = []

    def look(module, inputs):
        deep, skip = inputs
        seen.append((tuple(deep.shape[1:]), None if skip is None else tuple(skip.shape[1:])))

    for up in network.ups:
        up.register_forward_pre_hook(look)
    return seen


@pytest.mark.parametrize(("side", "channels", "num_classes"), [(64, 3, 2), (96, 1, 1)])
def test_shapes_and_skips(side, channels, num_classes):
    network = tiny(side, channels, num_classes)
    seen = joins(network)
    assert network(torch.rand(2, channels, side, side)).shape == (2, num_classes, side, side)
    parts = [side // divisor for divisor in (16, 8, 4, 2)]
    assert seen == [
        ((512, parts[0], parts[0]), (32, parts[1], parts[1])),
        ((256, parts[1], parts[1]), (16, parts[2], parts[2])),
        ((128, parts[2], parts[2]), (8, parts[3], parts[3])),
        ((64, parts[3], parts[3]), None),
    ]


def test_the_encoder_is_timms_but_for_its_class_token():
    """Where no patch listens to another one, the class token makes no difference."""
    hybrid = tiny_hybrid()
    network = TransUNet(hybrid, num_classes=2).eval()
    hybrid.eval()
    for block in hybrid.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
        torch.nn.init.zeros_(block.attn.proj.bias)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        deep = network._transform(network._convolve(images)[1])
        expected = hybrid.forward_features(images)[:, 1:]
    torch.testing.assert_close(deep.flatten(2).transpose(1, 2), expected)


def test_every_parameter_learns():
    network = tiny()
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_dropout_is_where_it_should_be():
    network = tiny(dropout=0.3)
    rates = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
    assert rates == [0.3] * (1 + 2 * 2)  # positions, and two in each of two perceptrons
    images = torch.rand(2, 3, 64, 64)
    assert not network(images).equal(network(images))
    network.eval()
    assert network(images).equal(network(images))


@pytest.mark.slow
def test_at_full_size():
    network = build_trans_unet(num_classes=2, image_size=64)
    seen = joins(network.eval())
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)
    assert [skip for _, skip in seen] == [(512, 8, 8), (256, 16, 16), (64, 32, 32), None]
    backbone = sum(p.numel() for p in network.backbone.parameters())
    block = 2 * 2 * 768 + 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768
    assert sum(p.numel() for p in network.blocks.parameters()) == 12 * block
    convolutions = [
        (768, 512),
        (1024, 256),
        (256, 256),
        (512, 128),
        (128, 128),
        (192, 64),
        (64, 64),
        (64, 16),
        (16, 16),
    ]
    decoder = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in convolutions)
    between = (1024 + 1) * 768 + 16 * 768 + 2 * 768  # projection, positions of 4 x 4 patches, norm
    head = 9 * 16 * 2 + 2
    assert sum(p.numel() for p in network.parameters()) == backbone + 12 * block + decoder + between + head


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet18"}, "encoder 'resnet18' is no transformer on a ResNetV2; use one such as"),
        ({"encoder": "vit_tiny_r_s16_p8_224"}, "encoder 'vit_tiny_r_s16_p8_224' is no transformer on a ResNetV2"),
        ({"encoder": "vit_base_r50_s16"}, "is no timm model; did you mean"),
        ({"encoder": "vit_small_r26_s32_224"}, "needs 5 of them"),
        ({"encoder": "vit_small_r26_s32_224", "image_size": 100}, "image_size 100: TransUNet takes sides that are "
         "multiples of 16"),
    ],
)  # fmt: skip
def test_messages(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_trans_unet(num_classes=2, **options)
    assert "\n" not in str(caught.value)
