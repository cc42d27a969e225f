"""The classifier that `ssl_gan` and `convnet` share: how it is built and started, what it sees, how it predicts.

Shapes: B batch, N labelled, C channels, H W pixels, K classes.
"""

from typing import Any

import torch
from torch import Tensor

from search_spaces.convnet import ConvnetConfig
from search_spaces.ssl_gan import SslGanConfig
from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import Pace
from trainables.components.prediction import (
    NetworkPredictor,
    class_probabilities,
    classifier_predictor,
    predict_in_chunks,
)
from trainables.core.accelerator import Accelerator
from trainables.core.method import Task, TaskForm
from trainables.data.augment import to_signed, to_unit
from trainables.nets.ssl_gan import Discriminator
from trainables.nets.weight_norm import initialise_by_data

_EXAMPLES, _AT_SIDE, _MIN_EXAMPLES = 500, 32, 100
"""Images that the start is fitted to at 32 px; of larger ones fewer, as they have more pixels and need memory."""

Config = ConvnetConfig | SslGanConfig


def new_discriminator(config: Config, task: Task, accelerator: Accelerator, pace: Pace) -> OptimisedModel[Any]:
    """A discriminator with Adam and an average of its weights, started on the task's labelled images."""
    network = _network(config, TaskForm.of(task)).to(accelerator.device)
    if config.ddi:
        examples_BCHW = _examples(task.labelled.images_NCHW, config.image_size).to(accelerator.device)
        initialise_by_data(network, to_signed(to_unit(examples_BCHW, config.image_size)), output=network.output)
    # Without decay AdamW is Adam.
    return OptimisedModel(
        network,
        accelerator,
        lr=config.lr,
        beta1=config.beta1,
        weight_decay=0.0,
        pace=pace,
        average=config.average,
    )


def _network(config: Config, form: TaskForm) -> Discriminator:
    return Discriminator(
        channels=form.channels,
        num_classes=form.num_classes,
        width=config.width,
        tail=config.tail,
        drop_in=config.drop_in,
        drop_hidden=config.drop_hidden,
        negative_slope=config.negative_slope,
        init_std=config.init_std,
        train_gain=config.train_gain,
    )


def discriminator_predictor(config: Config, form: TaskForm, *, name: str) -> NetworkPredictor:
    """A discriminator that predicts under that name, its weights to be loaded: those of `classifier`."""
    network = _network(config, form)
    return classifier_predictor(
        network, name=name, side=config.image_size, forward=lambda unit_BCHW: network(to_signed(unit_BCHW))[0]
    )


def _examples(images_NCHW: Tensor, side: int) -> Tensor:
    """Images in a random order, from the first again where there are too few: dropout makes each another one."""
    count = max(_MIN_EXAMPLES, min(_EXAMPLES, _EXAMPLES * _AT_SIDE**2 // side**2))
    order_N = torch.randperm(len(images_NCHW))
    return images_NCHW[order_N[torch.arange(count) % len(order_N)]]


def predict_by_discriminator(
    discriminator: OptimisedModel[Any], images_BCHW: Tensor, *, name: str, side: int
) -> dict[str, Tensor]:
    """Probabilities (B, K), under that name, of the discriminator, or its average, given bytes."""
    network = discriminator.predicting
    return predict_in_chunks(
        lambda unit_BCHW: {name: class_probabilities(discriminator.predict(to_signed(unit_BCHW))[0])},
        images_BCHW,
        side=side,
        device=next(network.parameters()).device,
        networks=(network,),
    )
