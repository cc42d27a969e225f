import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tests.trainables.heads.features import clusters, new_images
from trainables.heads.discriminant import fit


@pytest.mark.parametrize("size", [4, 30])
def test_it_is_that_of_scikit_learn_with_equal_priors(size):
    features = clusters((4, 4, 4), size=size)  # of equal counts: scikit-learn weighs covariances by the priors
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.4, priors=[1 / 3] * 3)
    model.fit(features.labelled_ND.numpy(), features.labels_N.numpy())
    rows = new_images(features)
    expected = torch.from_numpy(model.predict_proba(rows.numpy()))
    torch.testing.assert_close(fit(features, shrinkage=0.4, pooled=False).probabilities(rows), expected)


@pytest.mark.parametrize("pool", [10, 60])
def test_the_covariance_may_be_that_of_the_pool(pool):
    features = clusters((1, 5, 2), pool=pool, size=20)
    means = torch.stack([features.labelled_ND[features.labels_N == k].mean(0) for k in range(3)])
    covariance = torch.cov(features.pool_UD.T, correction=0)
    shrunken = 0.7 * covariance + 0.3 * covariance.trace() / 20 * torch.eye(20, dtype=torch.float64)
    inverse, rows = torch.linalg.inv(shrunken), new_images(features)
    away = rows[:, None] - means
    expected = (-(away @ inverse * away).sum(2) / 2).softmax(1)
    torch.testing.assert_close(fit(features, shrinkage=0.3, pooled=True).probabilities(rows), expected)


def test_fully_shrunken_it_is_the_nearest_mean():
    features = clusters()
    rows = new_images(features, 50)
    means = torch.stack([features.labelled_ND[features.labels_N == k].mean(0) for k in range(3)])
    found = fit(features, shrinkage=1.0, pooled=False).probabilities(rows).argmax(1)
    assert torch.equal(found, torch.cdist(rows, means).argmin(1))
