"""Every operation against what Pillow does with one image, or, where that differs, against its definition."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from trainables.data.rand_augment import NO_COLOUR, OPERATIONS, cut_out

MAGNITUDES = torch.tensor([0.0, 0.13, 0.37, 0.5, 0.77, 1.0])
MOTIONS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def batch(channels=3, side=20):
    """Images of bytes, in [0, 1], of different ranges."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (len(MAGNITUDES), channels, side, side), generator=generator)
    scale_B111 = torch.tensor([1.0, 0.6, 0.3, 0.8, 0.5, 1.0])[:, None, None, None]
    return ((noise * scale_B111).floor() + torch.tensor([0, 30, 90, 0, 100, 0])[:, None, None, None]) / 255


def as_picture(image_CHW):
    pixels = (image_CHW * 255).round().byte().numpy()
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def bytes_of(picture):
    pixels = np.array(picture)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def share(magnitude):
    return 0.05 + 0.9 * magnitude


PILLOW = {
    "identity": lambda picture, magnitude: picture,
    "auto_contrast": lambda picture, magnitude: ImageOps.autocontrast(picture),
    "brightness": lambda picture, magnitude: ImageEnhance.Brightness(picture).enhance(share(magnitude)),
    "contrast": lambda picture, magnitude: ImageEnhance.Contrast(picture).enhance(share(magnitude)),
    "colour": lambda picture, magnitude: ImageEnhance.Color(picture).enhance(share(magnitude)),
    "sharpness": lambda picture, magnitude: ImageEnhance.Sharpness(picture).enhance(share(magnitude)),
    "posterise": lambda picture, magnitude: ImageOps.posterize(picture, round(4 + 4 * magnitude)),
    "solarise": lambda picture, magnitude: ImageOps.solarize(picture, 256 * magnitude),
}


def test_every_operation_is_compared_with_something():
    assert set(OPERATIONS) == {*PILLOW, *MOTIONS, "equalise"}
    assert set(NO_COLOUR) <= set(OPERATIONS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_pillows_within_a_grey_level(name, channels):
    images = batch(channels)
    found = OPERATIONS[name](images, MAGNITUDES)
    for image, magnitude, one in zip(images, MAGNITUDES.tolist(), found, strict=True):
        expected = bytes_of(PILLOW[name](as_picture(image), magnitude)).int()
        bytes_CHW = (one * 255 + 1e-3).floor().int()  # Pillow cuts fractions off
        assert (bytes_CHW - expected).abs().max() <= 1
        assert (bytes_CHW == expected).float().mean() > 0.5


def test_equalise_is_the_share_that_is_not_brighter_of_those_above_the_darkest():
    images = batch(3, side=16)
    images[5] = 0.4  # even: it stays
    found = OPERATIONS["equalise"](images, MAGNITUDES)
    for plane, one in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        darkest = int((plane == plane.min()).sum())
        if darkest == plane.numel():
            assert one.equal(plane)
            continue
        not_brighter = (plane.flatten() <= plane.flatten()[:, None]).sum(1)
        expected = (not_brighter - darkest) / (plane.numel() - darkest)
        torch.testing.assert_close(one.flatten(), expected)


def test_what_equalise_leaves_is_even():
    dark = 0.4 + 0.2 * batch(1, side=64)[:1]
    equal = OPERATIONS["equalise"](dark, torch.zeros(1))
    counts = torch.histc(equal, bins=8, min=0, max=1)
    assert counts.min() > 0.7 * counts.max()


def matrix(name, magnitude):
    """Where a position (column, row) about the middle looks for its pixel, and the shift of the image in sides."""
    size = 2 * magnitude - 1
    angle = np.deg2rad(30 * size)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return {
        "rotate": (turned, (0, 0)),
        "shear_x": (np.array([[1, 0.3 * size], [0, 1]]), (0, 0)),
        "shear_y": (np.array([[1, 0], [0.3 * size, 1]]), (0, 0)),
        "translate_x": (np.eye(2), (0.3 * size, 0)),
        "translate_y": (np.eye(2), (0, 0.3 * size)),
    }[name]


@pytest.mark.parametrize("name", MOTIONS)
def test_a_motion_is_that_of_each_plane_mirrored_at_its_edges(name):
    images = batch(2).double()
    found = OPERATIONS[name](images, MAGNITUDES)
    side = images.shape[-1]
    for image, magnitude, one in zip(images, MAGNITUDES.tolist(), found, strict=True):
        from_xy, shift_xy = matrix(name, magnitude)
        rows_first, shift = from_xy[::-1, ::-1], side * np.array(shift_xy[::-1])
        centre = np.full(2, (side - 1) / 2)
        offset = centre - rows_first @ centre - shift
        planes = [ndimage.affine_transform(plane, rows_first, offset, order=1, mode="reflect") for plane in image]
        torch.testing.assert_close(one, torch.from_numpy(np.stack(planes)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*MOTIONS])
def test_half_a_magnitude_is_no_motion_and_its_ends_are_opposite(name):
    images = torch.rand(1, 1, 9, 9)
    still = OPERATIONS[name](images, torch.tensor([0.5]))
    torch.testing.assert_close(still, images, rtol=0, atol=1e-6)
    low, high = (OPERATIONS[name](images, torch.tensor([end])) for end in (0.0, 1.0))
    mirrored = OPERATIONS[name](images.flip(-1), torch.tensor([1.0 if name != "translate_y" else 0.0])).flip(-1)
    torch.testing.assert_close(low, mirrored, rtol=0, atol=1e-5)
    assert not torch.allclose(low, high, atol=0.1)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images_and_come_one_by_one(name, channels):
    images = batch(channels)
    before = images.clone()
    together = OPERATIONS[name](images, MAGNITUDES)
    assert images.equal(before)
    assert together.shape == images.shape
    assert together.dtype == images.dtype
    assert together.min() >= -1e-6
    assert together.max() <= 1 + 1e-6
    for number in range(len(images)):
        one = slice(number, number + 1)
        torch.testing.assert_close(OPERATIONS[name](images[one], MAGNITUDES[one]), together[one], rtol=0, atol=1e-6)


def test_a_square_is_cut_out_of_each_image():
    images = torch.ones(200, 2, 10, 10)
    torch.manual_seed(4)
    found = cut_out(images, 0.5)
    torch.manual_seed(4)
    side_B, down_B, right_B = torch.rand(3, 200)
    middles = [(pixel + 0.5) / 10 for pixel in range(10)]
    for one, side, down, right in zip(found, side_B.tolist(), down_B.tolist(), right_B.tolist(), strict=True):
        for row, y in enumerate(middles):
            for column, x in enumerate(middles):
                inside = abs(y - down) < side * 0.5 / 2 and abs(x - right) < side * 0.5 / 2
                assert one[:, row, column].tolist() == [0.5, 0.5] if inside else [1.0, 1.0]
    assert (found == 0.5).any(1).flatten(1).sum(1).max() <= 25
    assert cut_out(images, 0.0).equal(images)
