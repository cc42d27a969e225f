import pytest
import torch

from trainables.data.augment import random_flip, to_unit


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


def test_empty_batch():
    assert random_flip(torch.empty(0, 1, 4, 4)).shape == (0, 1, 4, 4)
