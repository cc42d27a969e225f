import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from tests.trainables.heads.features import clusters, new_images
from trainables.heads.logistic import fit


@pytest.mark.parametrize("labelled", [(3, 5, 4), (2, 6)])
def test_it_is_balanced_regression_of_scikit_learn(labelled):
    features = clusters(labelled)
    model = LogisticRegression(C=0.5, class_weight="balanced", max_iter=5_000)
    model.fit(features.labelled_ND.numpy(), features.labels_N.numpy())
    rows = new_images(features)
    torch.testing.assert_close(
        fit(features, c=0.5).probabilities(rows), torch.from_numpy(model.predict_proba(rows.numpy()))
    )


def test_its_loss_is_the_least_of_what_is_written():
    features, c = clusters((1, 4, 2)), 0.2
    counts = torch.bincount(features.labels_N)
    weights_N = (len(features.labels_N) / (3 * counts))[features.labels_N].double()

    def loss(flat):
        weights_DK, biases_K = torch.as_tensor(flat).view(7, 3).split([6, 1])
        logits = features.labelled_ND @ weights_DK + biases_K
        losses = torch.nn.functional.cross_entropy(logits, features.labels_N, reduction="none")
        return float((weights_N * losses).sum() + weights_DK.square().sum() / (2 * c))

    head = fit(features, c=c)
    found = loss(torch.cat([head.weights_DK, head.biases_K[None]]).flatten())
    assert found == pytest.approx(minimize(loss, torch.zeros(21).double().numpy()).fun, rel=1e-4)
