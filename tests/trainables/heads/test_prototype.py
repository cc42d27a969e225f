import torch

from tests.trainables.heads.features import clusters, new_images, unit
from trainables.heads.prototype import fit


def test_classes_are_near_by_the_cosine_to_their_mean():
    features = clusters()
    rows, directions = new_images(features), unit(features.labelled_ND)
    means = unit(torch.stack([directions[features.labels_N == k].mean(0) for k in range(3)]))
    expected = torch.stack([torch.nn.functional.cosine_similarity(rows, mean[None]) for mean in means], 1) / 0.3
    torch.testing.assert_close(fit(features, temperature=0.3).probabilities(rows), expected.softmax(1))
