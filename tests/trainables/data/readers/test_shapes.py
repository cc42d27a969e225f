import numpy as np
import pytest

from trainables.data.readers.shapes import shapes


@pytest.mark.parametrize("side", [8, 32, 100])
def test_form(side):
    images, masks = shapes(6, side, seed=0)
    assert (images.shape, images.dtype) == ((6, side, side, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((6, side, side), np.uint8)
    assert set(np.unique(masks)) == {0, 1}
    shares = masks.mean((1, 2))
    assert (shares > 0.01).all()
    assert (shares < 0.35).all()


def test_the_ellipse_is_inside_and_brighter():
    images, masks = shapes(40, 32, seed=1)
    edge = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], axis=1)
    assert not edge.any()
    for image, mask in zip(images, masks, strict=True):
        assert image[mask == 1].mean() > image[mask == 0].mean() + 15
        assert image[mask == 0].std() > 5, "there is a texture"


def test_a_picture_depends_on_seed_and_number():
    images, masks = shapes(5, 16, seed=0)
    fewer, _ = shapes(3, 16, seed=0)
    assert np.array_equal(images[:3], fewer)
    assert len({image.tobytes() for image in images}) == 5
    other_images, other_masks = shapes(5, 16, seed=1)
    assert not np.array_equal(images, other_images)
    assert not np.array_equal(masks, other_masks)


def test_messages():
    with pytest.raises(ValueError, match="-1 pictures of 32 pixels: expected none or more, of 8 pixels or more"):
        shapes(-1, 32, seed=0)
    with pytest.raises(ValueError, match="2 pictures of 7 pixels"):
        shapes(2, 7, seed=0)
    assert len(shapes(0, 32, seed=0)[0]) == 0
