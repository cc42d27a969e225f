import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch import nn

from trainables.stylegan.generator_scores import (
    Memorisation,
    feature_network_hash,
    features_of,
    frechet_distance,
    kernel_distance,
    memorisation,
    nearest_distances,
    precision_and_recall,
    save_grid,
)


def two_clouds(num_real=60, num_fake=50, size=6):
    random = torch.Generator().manual_seed(0)
    real = torch.randn(num_real, size, generator=random)
    return real, 1.3 * torch.randn(num_fake, size, generator=random) + 0.2


def test_fid_is_its_formula():
    real, fake = two_clouds()
    x, y = real.double().numpy(), fake.double().numpy()
    covariances = np.cov(x.T), np.cov(y.T)
    cross = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * cross)
    assert abs(frechet_distance(real, fake) - expected) < 1e-6


def test_kid_is_its_formula_where_subsets_are_everything():
    real, fake = two_clouds(40, 40)
    x, y = real.double().numpy(), fake.double().numpy()

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal(matrix):
        return (matrix.sum() - np.trace(matrix)) / (40 * 39)

    expected = off_diagonal(kernel(x, x)) + off_diagonal(kernel(y, y)) - 2 * kernel(x, y).mean()
    kid, deviation = kernel_distance(real, fake)
    assert abs(kid - expected) < 1e-9
    assert deviation < 1e-9


def test_kid_is_unbiased_and_draws_the_same_subsets_every_time():
    real = two_clouds(400, 2)[0]
    state = torch.get_rng_state()
    assert abs(kernel_distance(real[:200], real[200:])[0]) < 0.1
    real, fake = two_clouds(60, 40)
    assert kernel_distance(real, fake) == kernel_distance(real, fake)
    assert kernel_distance(real, fake)[1] > 0
    assert torch.get_rng_state().equal(state)


def test_precision_and_recall_of_lines():
    line = torch.arange(10.0)[:, None]  # balls reach 3 at the ends, 2 inside
    assert precision_and_recall(line, line + 0.4) == (1.0, 1.0)
    assert precision_and_recall(line, line + 100) == (0.0, 0.0)
    one_place = 4 + torch.arange(5.0)[:, None] / 100
    precision, recall = precision_and_recall(line, one_place)
    assert precision == 1.0
    assert recall == pytest.approx(0.1)  # only the image at 4 is where generated ones are


def test_copies_are_found_out(monkeypatch):
    monkeypatch.setattr("trainables.stylegan.generator_scores._AT_A_TIME", 7)
    trained, others = two_clouds(30, 30)
    torch.testing.assert_close(nearest_distances(others, trained), torch.cdist(others, trained).amin(1))
    copied = memorisation(trained[:10] + 1e-3, others, trained)
    assert copied.ratio < 0.01
    assert memorisation(others, others, trained).ratio == 1.0
    assert Memorisation(1.0, 0.0).ratio == float("inf")


def new_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())


def test_features_are_evaluated_in_batches():
    network, images = new_network(), torch.rand(10, 3, 8, 8)
    features = features_of(images, network, batch=4)
    assert features.shape == (10, 36)
    assert network.training
    torch.testing.assert_close(features_of(images[3:5], network), features[3:5])


def test_a_hash_is_of_layers_and_weights():
    known = feature_network_hash(new_network())
    assert len(known) == 16
    assert known == feature_network_hash(new_network())
    assert known != feature_network_hash(new_network(seed=1))
    other = new_network()
    other[0].stride = (1, 1)
    assert known != feature_network_hash(other)
    buffer = new_network()
    buffer[1].running_mean += 1
    assert known != feature_network_hash(buffer)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_goes_row_by_row(channels, tmp_path):
    values = torch.linspace(-1, 1, 5)
    images = values[:, None, None, None].expand(-1, channels, 4, 6)
    save_grid(images, tmp_path / "new" / "grid.png", columns=3)
    pixels = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert pixels.shape == ((8, 18) if channels == 1 else (8, 18, 3))
    corners = pixels[::4, ::6].reshape(6, -1)[:, 0]
    assert corners.tolist() == [0, 64, 128, 191, 255, 0]
