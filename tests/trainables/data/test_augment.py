import pytest
import torch

from trainables.data.augment import random_flip, random_shift, to_signed, to_unit


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 5, 20])
def test_to_unit(channels, side):
    images = torch.randint(0, 256, (4, channels, 8, 8), dtype=torch.uint8)
    unit = to_unit(images, side)
    assert unit.shape == (4, channels, side, side)
    assert unit.dtype == torch.float32
    assert 0 <= unit.min() <= unit.max() <= 1


@pytest.mark.parametrize("side", [8, 3, 31])
@pytest.mark.parametrize(("byte", "expected"), [(0, 0.0), (255, 1.0)])
def test_black_and_white_stay(byte, expected, side):
    unit = to_unit(torch.full((2, 1, 8, 8), byte, dtype=torch.uint8), side)
    torch.testing.assert_close(unit, torch.full((2, 1, side, side), expected))


def test_to_unit_leaves_its_input_alone():
    images = torch.full((1, 1, 4, 4), 7, dtype=torch.uint8)
    to_unit(images, 4)
    assert (images == 7).all()


def test_shrinking_is_antialiased():
    stripes = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255
    assert to_unit(stripes, 8)[..., 1:-1].std() < 0.05


def test_flip_mirrors_about_half_of_the_images():
    images = torch.randint(0, 256, (400, 3, 4, 4), dtype=torch.uint8)
    flipped = random_flip(images)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 140 < mirrored.sum() < 260


def test_flip_follows_the_global_generator():
    images = torch.rand(64, 1, 4, 4)
    torch.manual_seed(3)
    first = random_flip(images)
    torch.manual_seed(3)
    assert torch.equal(random_flip(images), first)
    assert not torch.equal(random_flip(images), first)


def test_flip_along_another_axis():
    images = torch.randint(0, 256, (64, 1, 4, 4), dtype=torch.uint8)
    torch.manual_seed(3)
    upside_down = random_flip(images, axis=-2)
    torch.manual_seed(3)
    assert upside_down.transpose(-1, -2).equal(random_flip(images.transpose(-1, -2)))


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_shift_is_a_crop_of_the_mirrored_image(pixels):
    images = torch.rand(300, 2, 5, 6)
    padded = torch.nn.functional.pad(images, (pixels,) * 4, mode="reflect")
    num = 2 * pixels + 1
    crops = [padded[..., y : y + 5, x : x + 6] for y in range(num) for x in range(num)]
    torch.manual_seed(0)
    shifted = random_shift(images, pixels)
    equal = torch.stack([(shifted == crop).flatten(1).all(1) for crop in crops])
    assert equal.sum(0).eq(1).all()
    assert equal.any(1).all()
    torch.manual_seed(0)
    assert random_shift(images, pixels).equal(shifted)


def test_signed():
    assert to_signed(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]


def test_empty_batch():
    assert random_flip(torch.empty(0, 1, 4, 4)).shape == (0, 1, 4, 4)
    assert random_shift(torch.empty(0, 1, 4, 4), 2).shape == (0, 1, 4, 4)
