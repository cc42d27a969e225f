"""The learner against SSL-GAN in plain form (naive_ssl_gan.py): the same weights after the same steps, in float64."""

from copy import deepcopy

import pytest
import torch

from search_spaces.core.augmentation import NO_MOTION
from search_spaces.core.schedule import CONSTANT_RATE
from search_spaces.ssl_gan import SslGanConfig
from trainables import ssl_gan
from trainables.components import ssl_gan_classifier as discriminator
from trainables.components.meters import Means
from trainables.training.accelerator import new_accelerator

from . import naive_ssl_gan as naive

SIDE, STEPS = 28, 3
EXACT = {
    "image_size": SIDE, "width": 4, "generator_width": 8, "z_dim": 5, "batch_size": 4, "batch_unlabelled": 6,
    "drop_in": 0.0, "drop_hidden": 0.0, "lr": 1e-3, "average": 0.3, "flip": False, **NO_MOTION, **CONSTANT_RATE,
    # So that no weight is 1 and none could be missing.
    "unsup_weight": 0.7, "fm_weight": 1.3, "lr_ratio_generator": 0.6,
}  # fmt: skip


class Script:
    """Given indices, one batch after the other."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def take(self, count):
        batch = next(self.batches)
        assert len(batch) == count
        return batch


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def largest_difference(net, expected):
    pairs = zip(net.state_dict().items(), expected.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for (name, a), b in pairs if "num_batches" not in name)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tail": "conv_large", "train_gain": True, "beta1": 0.0},
        {"tail": "conv_large", "fm_layer": "nin_map", "entropy_weight": 0.2, "pull_away_weight": 0.3},
    ],
    ids=str,
)
def test_every_weight_is_that_of_the_plain_form(options, make_task, monkeypatch):
    task = make_task(channels=3, side=SIDE, shots=2, num_unlabelled=10)
    config = SslGanConfig(**(EXACT | options))
    torch.manual_seed(1)
    with monkeypatch.context() as start:  # fitted to images in double precision as well
        start.setattr(discriminator, "to_unit", lambda images, side: images.double() / 255)
        learner = ssl_gan.SslGanLearner(config, task, new_accelerator(precision="no", cpu=True))
    learner._augmented = lambda images_BCHW: images_BCHW.double() / 255  # which draws nothing
    learner.begin_epoch(0, STEPS * (4 + 6 + 6))
    trainees = (learner._discriminator, learner._generator)
    nets = {name: deepcopy(model.module) for name, model in zip(naive.NAMES, trainees, strict=True)}
    before = deepcopy(nets)
    optimisers, average = naive.new_optimisers(nets, config), naive.new_average(nets)

    known, unknown, other = ([torch.randperm(n)[:b] for _ in range(STEPS)] for n, b in [(6, 4), (16, 6), (16, 6)])
    learner._labelled, learner._unlabelled, learner._matched = Script(known), Script(unknown), Script(other)
    images = torch.cat([task.labelled.images_NCHW, task.unlabelled_NCHW]).double() / 127.5 - 1
    for number in range(STEPS):
        torch.manual_seed(number)
        learner._discriminator_step(Means())
        learner._generator_step(Means())
        torch.manual_seed(number)
        batches = images[known[number]], task.labelled.labels_N[known[number]], images[unknown[number]]
        share = (number * (4 + 6 + 6) + (4 + 6) / 2) / (STEPS * (4 + 6 + 6))
        naive.step(nets, optimisers, average, config, *batches, images[other[number]], share)

    for name, model in zip(naive.NAMES, trainees, strict=True):
        assert largest_difference(model.module, nets[name]) < 1e-9
        assert largest_difference(model.module, before[name]) > 1e-4
    assert largest_difference(learner._discriminator.predicting, average.network) < 1e-9
    assert largest_difference(average.network, nets["discriminator"]) > 1e-4
