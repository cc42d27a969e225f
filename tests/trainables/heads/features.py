"""Features to fit heads to: clusters, and what is awkward."""

import torch

from trainables.heads.head import Features


def clusters(labelled=(3, 5, 4), pool=60, size=6, spread=1.0, seed=0):
    """Normal clouds around a point for each class; a class may have no labelled image."""
    torch.manual_seed(seed)
    centres_KD = 2 * torch.randn(len(labelled), size, dtype=torch.float64)
    labels_N = torch.arange(len(labelled)).repeat_interleave(torch.tensor(labelled))
    hidden_U = torch.arange(pool) % len(labelled)
    noisy = [centres_KD[of] + spread * torch.randn(len(of), size, dtype=torch.float64) for of in (labels_N, hidden_U)]
    return Features(noisy[0], labels_N, noisy[1], len(labelled))


def new_images(features, count=7, seed=1):
    torch.manual_seed(seed)
    return 2 * torch.randn(count, features.labelled_ND.shape[1], dtype=torch.float64)


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)
