"""Logistic regression whose classes weigh the same, by scikit-learn.

    W and b minimise Σ_n w(y_n) · cross-entropy(y_n, W x_n + b) + ‖W‖² / (2 C),   w(k) = N / (K N_k)

With two known classes the one row of scikit-learn's binary form is penalised.

Shapes: N labelled images, D features, K classes.
"""

import torch

from trainables.heads.head import Features, barred
from trainables.heads.linear import LinearHead

_MAX_STEPS = 5_000


def fit(features: Features, *, c: float = 0.01) -> LinearHead:
    """The head at inverse penalty `c`, above 0; with a single known class, that class for everything."""
    from sklearn.linear_model import LogisticRegression  # half a second, which no other method should wait for

    weights_DK = torch.zeros(features.labelled_ND.shape[1], features.num_classes, dtype=torch.float64)
    biases_K = barred(features.known_K())
    if int(features.known_K().sum()) > 1:
        model = LogisticRegression(C=c, class_weight="balanced", max_iter=_MAX_STEPS)
        model.fit(features.labelled_ND.double().numpy(), features.labels_N.numpy())
        rows_KD, offsets_K = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        if len(model.classes_) == 2:  # one row, of the second class against the first
            rows_KD, offsets_K = torch.cat([-rows_KD, rows_KD]) / 2, torch.cat([-offsets_K, offsets_K]) / 2
        known = torch.from_numpy(model.classes_).long()
        weights_DK[:, known], biases_K[known] = rows_KD.T, offsets_K
    return LinearHead(weights_DK, biases_K)
