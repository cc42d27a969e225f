"""Trains SPARSE in as many processes as launch this, in double precision, and saves what each ends with.

torchrun --standalone --nproc-per-node 2 -m tests.trainables.some_processes FOLDER
"""

import sys
from pathlib import Path

import torch

from .test_sparse import build, make_task, networks, train

CASES = {
    "paper": {"percentile": 0.7},
    "labels": {"mask_scope": "labels", "percentile": 0.4},
    "reference": {"preset": "reference"},
    "one kept image for each process": {"percentile": 0.95},
    "accumulated": {"accumulate": 2},
}
EPOCHS = 2


def result(case):
    """Weights of the three networks and predictions after some epochs."""
    torch.set_num_threads(1)
    learner = build(dropout=0.0, lr=2e-4, **CASES[case])
    for network in networks(learner):
        network.double()
    learner._memory.double()
    images = learner._images
    learner._images = lambda *which: images(*which).double()
    train(learner, 0, EPOCHS)
    trained = {f"{i}.{k}": v.clone() for i, net in enumerate(networks(learner)) for k, v in net.state_dict().items()}
    for network in networks(learner):
        network.float()
    images = make_task().unlabelled_NCHW  # one of them alone cannot be divided
    return trained | learner.predict(images) | {"alone": learner.predict(images[:1])["sparse"]}


if __name__ == "__main__":
    results = {case: result(case) for case in CASES}
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(results, Path(sys.argv[1]) / f"{rank}.pt")
