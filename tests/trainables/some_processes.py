"""SPARSE, SSL-GAN and a segmenter trained in double precision, in as many processes as there are."""

from typing import Any

import torch

from search_spaces.segmenter import SegmenterConfig
from search_spaces.ssl_gan import SslGanConfig
from trainables import segmenter, ssl_gan
from trainables.training.accelerator import new_accelerator

from .test_segmenter import SMALL
from .test_segmenter import task as masks_task
from .test_sparse import build, make_task, networks, train

CASES = {
    "paper": {"percentile": 0.7},
    "labels": {"mask_scope": "labels", "percentile": 0.4},
    "reference": {"preset": "reference"},
    "one kept image for each process": {"percentile": 0.95},
    "accumulated": {"accumulate": 2},
}
GAN_CASES = {
    "gan": {"pull_away_weight": 0.1, "entropy_weight": 0.1},
    "gan, accumulated": {"accumulate": 2, "batch_size": 7, "batch_unlabelled": 5},
}
MASK_CASES: dict[str, dict[str, Any]] = {
    "masks": {},
    "masks, t-vMF, accumulated": {"loss": "adaptive_tvmf_dice", "accumulate": 2},
}
EPOCHS = 2


def result(case):
    """Weights of the networks and predictions after some epochs."""
    torch.set_num_threads(1)
    if case in GAN_CASES:
        return gan_result(**GAN_CASES[case])
    if case in MASK_CASES:
        return mask_result(**MASK_CASES[case])
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


def gan_result(accumulate=1, **changes):
    """The same of SSL-GAN."""
    small = {"width": 4, "generator_width": 8, "batch_size": 6, "batch_unlabelled": 8, "steps_per_epoch": 3}
    torch.manual_seed(1)
    learner = ssl_gan.build(
        SslGanConfig(**{**small, "drop_in": 0.0, "drop_hidden": 0.0, "average": 0.2, **changes}),
        make_task(),
        new_accelerator(precision="no", cpu=True, accumulate=accumulate),
    )
    networks = [learner._discriminator.module, learner._discriminator.predicting, learner._generator.module]
    for network in networks:
        network.double()
    images = learner._images
    learner._images = lambda index: images(index).double()
    torch.set_default_dtype(torch.float64)  # of the generator's numbers
    train(learner, 0, EPOCHS)
    torch.set_default_dtype(torch.float32)
    trained = {f"{i}.{k}": v.clone() for i, net in enumerate(networks) for k, v in net.state_dict().items()}
    for network in networks:
        network.float()
    return trained | learner.predict(make_task().unlabelled_NCHW)


def mask_result(accumulate=1, **changes):
    """The same of a segmenter."""
    torch.manual_seed(1)
    config, own = SegmenterConfig(**{**vars(SMALL), "rotation": 20.0, **changes}), masks_task()
    learner = segmenter.build(config, own, new_accelerator(precision="no", cpu=True, accumulate=accumulate))
    learner._segmenter._network.module.double()
    pair = segmenter.pixels_and_masks
    segmenter.pixels_and_masks = lambda *given: tuple(each.double() for each in pair(*given))
    try:
        train(learner, 0, EPOCHS)
    finally:
        segmenter.pixels_and_masks = pair
    network = learner._segmenter._network.module
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    network.float()
    return trained | learner.predict(own.labelled.images_NCHW)
