"""Views of images: what is cropped, mirrored, lit and blurred."""

from dataclasses import replace

import pytest
import torch

from search_spaces.core.self_supervision import PretextConfig
from trainables.self_supervision.views import Views
from trainables.testing.tasks import make_task


def views(channels=1, asymmetric=(), **settings):
    still = {"pretext_side": 16, "pretext_crop": 1.0, "pretext_light": 0.0, "pretext_blur": 0.0}
    task = replace(make_task(channels=channels), asymmetric=asymmetric)
    return Views(PretextConfig(**{**still, **settings}), task)


def ramp(batch=64, side=16):
    """Bytes that rise from left to right, and in the second half of the channels not at all."""
    return (torch.arange(side, dtype=torch.uint8) * 10).expand(batch, 1, side, side).contiguous()


def test_whole_images_are_themselves_or_mirrored_where_that_is_allowed():
    torch.manual_seed(0)
    images, unit = ramp(), ramp().float() / 255
    seen = views()(images)
    mirrored = torch.tensor(
        [torch.allclose(each, one.flip(-1), atol=1e-5) for each, one in zip(seen, unit, strict=True)]
    )
    torch.testing.assert_close(seen[~mirrored], unit[~mirrored])
    assert 20 < mirrored.sum() < 44
    torch.testing.assert_close(views(asymmetric=("horizontal",))(images), unit)


def test_a_crop_shows_a_part_of_the_image_of_the_size_that_is_asked_for():
    torch.manual_seed(0)
    seen = views(asymmetric=("horizontal",), pretext_crop=0.25)(ramp(batch=500)) * 255
    steps = (seen[:, 0, 8, 12] - seen[:, 0, 8, 4]) / 8 / 10  # slope beside the image's: the side of the crop
    assert 0.5 <= steps.min() < 0.55
    assert 0.95 < steps.max() <= 1.0001
    assert seen.min() >= 0
    assert seen.max() <= 150.001  # nothing from beyond the edges
    left = seen[:, 0, 8, 8]
    assert left.min() < 60 < 95 < left.max()  # crops lie everywhere
    assert views(pretext_crop=0.25)(ramp(side=28)).shape == (64, 1, 16, 16)


def test_light_changes_all_pixels_of_an_image_alike_and_fades_colours():
    torch.manual_seed(0)
    flat = torch.full((200, 1, 16, 16), 100, dtype=torch.uint8)
    lit = views(pretext_light=0.2)(flat)
    torch.testing.assert_close(lit, lit[:, :, :1, :1].expand_as(lit))
    assert 0.15 < (lit[:, 0, 0, 0] - 100 / 255).abs().max() <= 0.2001
    red = torch.tensor([200, 50, 50], dtype=torch.uint8)[None, :, None, None].repeat(200, 1, 16, 16)
    torch.manual_seed(0)
    plain = views(pretext_light=0.2)(red[:, :2])  # contrast and brightness are drawn first
    torch.manual_seed(0)
    faded = views(channels=3, pretext_light=0.2)(red)
    assert not torch.allclose(faded[:, :2], plain)
    width = (faded.amax(1) - faded.amin(1))[:, 0, 0]
    assert width.min() < 0.65 * 150 / 255 < width.max() < 1.2 * 150 / 255
    torch.testing.assert_close(faded, faded[:, :, :1, :1].expand_as(faded))
    same = views(channels=3)(red)
    torch.testing.assert_close(same, red.float() / 255)


def test_every_second_view_is_smoothed_by_a_gaussian():
    torch.manual_seed(0)
    point = torch.zeros(400, 3, 16, 16, dtype=torch.uint8)
    point[:, :, 8, 8] = 255
    seen = views(channels=3, asymmetric=("horizontal",), pretext_blur=0.06)(point)
    torch.testing.assert_close(seen.sum((2, 3)), torch.ones(400, 3))
    blurred = seen[:, 0, 8, 8] < 0.999
    assert 150 < blurred.sum() < 230
    widest = seen[seen[:, 0, 8, 8].argmin(), 0]
    ratio = widest[8, 9] / widest[8, 8]
    torch.testing.assert_close(widest[8, 10] / widest[8, 8], ratio**4)
    torch.testing.assert_close(widest[9, 9] / widest[8, 8], ratio**2)
    assert 0.9 < (-0.5 / ratio.log()).sqrt() <= 0.96 + 1e-3  # of 16 px


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_views_differ_from_each_other_and_follow_from_the_seed(channels):
    images = make_task(channels=channels, side=20).unlabelled_NCHW
    look = views(channels=channels, pretext_crop=0.3, pretext_light=0.2, pretext_blur=0.03)
    torch.manual_seed(0)
    first, second = look(images), look(images)
    torch.manual_seed(0)
    assert torch.equal(first, look(images))
    assert not torch.allclose(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
