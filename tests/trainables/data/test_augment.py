import numpy as np
import pytest
import torch
from scipy import ndimage

from trainables.data.augment import affine, affine_maps, random_flip, to_signed, to_unit


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


def moved(images, degrees=0.0, shift=(0.0, 0.0), mirrored=(False, False)):
    """All images, moved alike."""
    exact = {"dtype": torch.float64}
    maps = affine_maps(torch.tensor([degrees], **exact), torch.tensor([shift], **exact), torch.tensor([mirrored]))
    return affine(images, maps.expand(len(images), 2, 3))


def one_moved(image_CHW, degrees, shift, mirrored, zoom=1.0):
    """The same of one image, from the definition in pixels: mirrored, turned, enlarged about the centre, moved."""
    image, side = image_CHW.numpy(), image_CHW.shape[-1]
    image = image[..., ::-1] if mirrored[0] else image
    image = image[..., ::-1, :] if mirrored[1] else image
    angle, centre = np.deg2rad(float(degrees)), np.full(2, (side - 1) / 2)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / float(zoom)  # row, column
    offset = centre - back @ (centre + side * np.array([float(shift[1]), float(shift[0])]))
    planes = [ndimage.affine_transform(plane, back, offset, order=1, mode="reflect") for plane in image]
    return torch.from_numpy(np.stack(planes))


@pytest.fixture
def pictures():
    return torch.rand(3, 2, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_no_motion_leaves_images_as_they_are(pictures):
    torch.testing.assert_close(moved(pictures), pictures, rtol=0, atol=1e-12)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
def test_quarter_turns(pictures, turns):
    expected = torch.rot90(pictures, turns, dims=(-2, -1))
    torch.testing.assert_close(moved(pictures, 90.0 * turns), expected, rtol=0, atol=1e-12)


def test_mirrors_come_before_turns_and_moves_last(pictures):
    torch.testing.assert_close(moved(pictures, mirrored=(True, False)), pictures.flip(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(moved(pictures, mirrored=(False, True)), pictures.flip(-2), rtol=0, atol=1e-12)
    expected = torch.rot90(pictures.flip(-1), 1, dims=(-2, -1)).roll(2, -1)[..., 2:]
    found = moved(pictures, 90.0, shift=(2 / 7, 0.0), mirrored=(True, False))[..., 2:]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_what_a_move_uncovers_is_mirrored(pictures):
    padded = torch.cat([pictures[..., :2].flip(-1), pictures], -1)
    torch.testing.assert_close(moved(pictures, shift=(2 / 7, 0.0)), padded[..., :7], rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [6, 7])
def test_a_batch_of_motions_is_each_image_moved_alone(side):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(40, 2, side, side, dtype=torch.float64, generator=generator)
    degrees = 360 * torch.rand(40, dtype=torch.float64, generator=generator) - 180
    shifts = 1.2 * torch.rand(40, 2, dtype=torch.float64, generator=generator) - 0.6
    mirrored = torch.rand(40, 2, generator=generator) < 0.5
    zooms = 0.6 + torch.rand(40, dtype=torch.float64, generator=generator)
    for more in ([], [zooms]):
        motions = (degrees, shifts, mirrored, *more)
        expected = [one_moved(*motion) for motion in zip(images, *motions, strict=True)]
        found = affine(images, affine_maps(*motions))
        torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-10)


def test_a_zoom_enlarges_about_the_middle():
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    image[..., 3:5, 3:5] = 1
    exact = {"dtype": torch.float64}
    maps = affine_maps(torch.zeros(1, **exact), torch.zeros(1, 2, **exact), torch.zeros(1, 2).bool(),
                       torch.tensor([2.0], **exact))  # fmt: skip
    enlarged = affine(image, maps)[0, 0] >= 0.5
    assert enlarged.nonzero().amin(0).tolist() == [2, 2]
    assert enlarged.nonzero().amax(0).tolist() == [5, 5]


def test_signed():
    assert to_signed(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]


def test_empty_batch():
    assert random_flip(torch.empty(0, 1, 4, 4)).shape == (0, 1, 4, 4)
