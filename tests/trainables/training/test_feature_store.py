"""Features by the pixels of an image: computed once, whoever asks, and after a kill only what is left."""

import pytest
import torch

from trainables.data.cache import CACHE_VARIABLE
from trainables.training.feature_store import FeatureStore


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))


@pytest.fixture
def images():
    return torch.randint(0, 256, (7, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Counting:
    """Computes sums of the pixels, and counts what it is given."""

    def __init__(self, fails_after=10**9):
        self.parts, self._fails_after = [], fails_after

    def __call__(self, images_BCHW):
        if len(self.parts) == self._fails_after:
            raise KeyboardInterrupt
        self.parts.append(len(images_BCHW))
        return images_BCHW.double().sum((1, 2, 3))[:, None]

    def store(self, **determined_by):
        return FeatureStore("sums", determined_by, lambda: self)


def test_features_are_those_of_each_image_in_order_and_are_made_once(images):
    counting = Counting()
    store = counting.store()
    sums_71 = images.double().sum((1, 2, 3))[:, None].float()
    torch.testing.assert_close(store.of(images[:5]), sums_71[:5])
    torch.testing.assert_close(store.of(images[[4, 4, 0]]), sums_71[[4, 4, 0]])  # another order, and one twice
    torch.testing.assert_close(counting.store().of(images.flip(0)), sums_71.flip(0))  # another process asks for more
    torch.testing.assert_close(store.of(images), sums_71)  # and what it left is found
    assert counting.parts == [5, 2]


def test_equal_bytes_of_another_shape_and_other_circumstances_are_other_features(images):
    counting = Counting()
    counting.store(side=1).of(images)
    counting.store(side=2).of(images)
    counting.store(side=1).of(images.reshape(7, 1, 2, 8))
    assert counting.parts == [7, 7, 7]


def test_a_killed_pass_goes_on_after_its_last_part(images, monkeypatch):
    monkeypatch.setattr("trainables.training.feature_store.PART_IMAGES", 3)
    with pytest.raises(KeyboardInterrupt):
        Counting(fails_after=2).store().of(images)
    counting = Counting()
    features_71 = counting.store().of(images)
    assert counting.parts == [1]
    torch.testing.assert_close(features_71, images.double().sum((1, 2, 3))[:, None].float())


def test_a_damaged_part_is_made_again(images, tmp_path):
    counting = Counting()
    counting.store().of(images[:3])
    counting.store().of(images)
    parts = tmp_path.glob("stages/features-*/part-*.pt")
    damaged = next(path for path in parts if torch.load(path)["features"].numel() == 4)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    torch.testing.assert_close(counting.store().of(images), images.double().sum((1, 2, 3))[:, None].float())
    assert counting.parts == [3, 4, 4]
