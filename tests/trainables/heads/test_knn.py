import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from tests.trainables.heads.features import clusters, new_images, unit
from trainables.heads.knn import fit


@pytest.mark.parametrize("k", [1, 4, 12, 99])
def test_it_is_the_weighted_vote_of_scikit_learn(k):
    features = clusters()
    rows = new_images(features)
    model = KNeighborsClassifier(min(k, 12), weights=lambda distances: math.e ** ((1 - distances**2 / 2) / 0.4))
    model.fit(unit(features.labelled_ND).numpy(), features.labels_N.numpy())
    expected = torch.from_numpy(model.predict_proba(unit(rows).numpy()))
    torch.testing.assert_close(fit(features, k=k, temperature=0.4).probabilities(rows), expected)
