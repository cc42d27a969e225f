import pytest
import torch
import torch.nn.functional as F

from trainables.stylegan.discriminator import StyleganDiscriminator, blurred, group_spread


@pytest.mark.parametrize(
    ("resolution", "base", "most", "parameters"), [(16, 128, 16, 13_401), (32, 256, 16, 18_297), (32, 512, 32, 72_561)]
)
def test_as_many_parameters_as_measured_for_the_small_profiles(resolution, base, most, parameters):
    network = StyleganDiscriminator(resolution=resolution, channel_base=base, channel_max=most)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("resolution", [4, 28, 48])
def test_other_resolutions_are_refused(resolution):
    with pytest.raises(ValueError, match=f"{resolution} px.*power of two"):
        StyleganDiscriminator(resolution=resolution)


def test_the_spread_is_that_of_each_group():
    features = torch.stack([torch.full((2, 3, 3), float(value)) for value in (0, 2, 5, 5, 1, 3)])
    spread = group_spread(features, 2)
    assert spread.shape == (6, 1, 3, 3)
    torch.testing.assert_close(spread[:, 0, 1, 1], torch.tensor([1.0, 1.0, 1e-4, 1e-4, 1.0, 1.0]))
    torch.testing.assert_close(group_spread(features[:2], 4)[:, 0, 0, 0], torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match="6 images is no multiple of 4"):
        group_spread(features, 4)


def test_images_are_judged_within_their_group_whatever_their_order():
    torch.manual_seed(0)
    discriminator, images = (
        StyleganDiscriminator(resolution=16, channel_base=64, channel_max=8),
        torch.randn(8, 3, 16, 16),
    )
    logits = discriminator(images)
    assert logits.shape == (8,)
    order = torch.tensor([2, 0, 3, 1, 7, 6, 4, 5])
    torch.testing.assert_close(discriminator(images[order]), logits[order])
    torch.testing.assert_close(discriminator(images[4:]), logits[4:])
    mixed = discriminator(images[[0, 1, 2, 4, 3, 5, 6, 7]])
    assert not torch.allclose(mixed[0], logits[0])


@pytest.mark.parametrize(("padding", "stride", "size"), [(2, 1, 9), (1, 2, 4)])
def test_the_low_pass_is_1_3_3_1(padding, stride, size):
    features = torch.randn(1, 2, 8, 8)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 64
    found = blurred(features, padding=padding, stride=stride)
    assert found.shape == (1, 2, size, size)
    for channel in range(2):
        one = F.conv2d(features[:, channel : channel + 1], kernel[None, None], padding=padding, stride=stride)
        torch.testing.assert_close(found[:, channel : channel + 1], one)


def test_gradients_of_gradients():
    torch.manual_seed(0)
    discriminator = StyleganDiscriminator(resolution=8, channels=1, channel_base=16, channel_max=2, group=2).double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(discriminator, (images,), fast_mode=True)
    torch.autograd.gradgradcheck(discriminator, (images,), fast_mode=True)


def test_reduced_precision_begins_above_64_px():
    torch.manual_seed(0)
    differences = []
    for resolution in (64, 128):
        discriminator = StyleganDiscriminator(resolution=resolution, channels=1, channel_base=512, channel_max=8)
        images = torch.randn(4, 1, resolution, resolution)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = discriminator(images)
        assert mixed.dtype == torch.float32
        differences.append((mixed - discriminator(images)).abs().max())
    assert differences[0] == 0
    assert 0 < differences[1] < 0.1


def test_its_convolutions_begin_at_the_image():
    discriminator = StyleganDiscriminator(resolution=16, channel_base=64, channel_max=8)
    found = discriminator.convolutions()
    assert found[0] is discriminator.from_image
    assert found[-1] is discriminator.joint
    assert len(found) == 2 + 3 * 2
