import pytest
import torch
import torch.nn.functional as F

from trainables.nets.attention_unet import AttentionUNet


@pytest.mark.parametrize(
    ("num_classes", "expected"),
    [
        (2, 8_177_029), (4, 8_179_207), (5, 8_180_296), (7, 8_182_474),
        (8, 8_183_563), (9, 8_184_652), (11, 8_186_830),
    ],
)  # fmt: skip
def test_has_as_many_parameters_as_the_paper_code(num_classes, expected):
    with torch.device("meta"):
        network = AttentionUNet(channels=3, num_classes=num_classes)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("side", [16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_classifies_and_translates_at_every_side(side, channels):
    network = AttentionUNet(channels=channels, num_classes=3, width=4)
    images = torch.rand(2, channels, side, side)
    assert network(images).shape == (2, 3)
    assert network(images, F.one_hot(torch.tensor([0, 2]), 3)).shape == images.shape


def test_upsampling_to_the_skip_is_upsampling_by_two():
    deep = torch.rand(2, 3, 4, 4)
    by_two = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=True)
    torch.testing.assert_close(F.interpolate(deep, (8, 8), mode="bilinear", align_corners=True), by_two)


def test_classification_does_not_use_the_decoder():
    network = AttentionUNet(channels=3, num_classes=2, width=4)
    network(torch.rand(2, 3, 16, 16)).sum().backward()
    without = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is None}
    assert without == {"first_generate", "up3", "up2", "up1", "output"}


def test_translation_depends_on_the_class_and_its_range_is_free():
    torch.manual_seed(0)
    network = AttentionUNet(channels=1, num_classes=2, width=4)
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        network.output.bias.fill_(-2.0)  # without it the sign is a matter of luck
    zeros, ones = (network(images, F.one_hot(torch.full((2,), k), 2)) for k in (0, 1))
    assert not torch.allclose(zeros, ones)
    assert zeros.min() < 0
