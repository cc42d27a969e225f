"""SSL-GAN: a discriminator D that classifies, and a generator G that matches D's features of real images.

    for each batch of labelled images x with classes y, unlabelled images u and uniform numbers z:
        D: cross-entropy(D(x), y) + w · (be real on u + be generated on G(z)), as K + 1 classes with K logits
        D̄: moving average of D's weights
    and, with other images u' and other numbers z':
        G: |mean of D's features of u' - mean of D's features of G(z')|
Prediction uses D̄; G helps training only, and how its images look does not matter.

The unlabelled images are all training images, the labelled ones without their labels included. Two presets:
`paper` and `improved_gan`, the code that the paper builds on; the defaults are ours, with step sizes at which a small
budget moves the generator at all. Departures, and why:
- Images are 32 px, as in the paper's text; its Table 4 generates 96. Any other size of 4 to 7 times a power of two
  follows by rule (96 is Table 4's generator). Output is K logits; the 10 of Table 3 are those of another data set.
- A labelled, an unlabelled and a generated batch pass D as one: it has no BatchNorm, so the numbers are the same.
- Passes over images go on across epochs, and a batch may hold an image twice where there are fewer: no rest is dropped.
- The average starts at D's weights after data-dependent initialisation (improved-gan's starts at zero).
- Step sizes and the average follow the share of the budget, not epochs or steps; a budget counts the real images seen.
- Several processes share each batch, and feature means are those of all of it.
Entropy of unlabelled predictions and a pull-away term may join the losses (both 0 by default).

Published AUC of the image score on 50 IDRiD images, from 64 patches each, 10 / 20 / 40 / 80 / 149 labelled images:
0.845 / 0.890 / 0.947 / 0.985 / 0.991; of the patches 0.758 / 0.794 / 0.817 / 0.833 / 0.845.

Sources: Lecouat et al., arXiv:1812.07832 (2018); Salimans et al., arXiv:1606.03498, and its published code.
Shapes: B batch, L U G labelled, unlabelled, generated of it, N labelled, M unlabelled, C channels, H W pixels,
K classes, Z latent, D features.
"""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ssl_gan import SslGanConfig, first_map
from trainables.components.augmentation import ImageAugmentation
from trainables.components.batches import epoch_steps
from trainables.components.gan_losses import feature_matching, generated_loss, pull_away, real_loss, realness
from trainables.components.losses import entropy_loss
from trainables.components.meters import Means
from trainables.components.modes import frozen
from trainables.components.optimised_model import OptimisedModel
from trainables.components.orders import InfiniteSampler
from trainables.components.pace import Pace, pace_of
from trainables.components.prediction import network_state
from trainables.components.ssl_gan_classifier import (
    discriminator_predictor,
    new_discriminator,
    predict_by_discriminator,
)
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.data.augment import to_signed
from trainables.nets.ssl_gan import SslGanGenerator, pooled_features
from trainables.nets.weight_norm import initialise_by_data


@final
class SslGanLearner:
    """Two networks with an optimiser each, an average of one, and all images on the device, counted labelled first."""

    def __init__(self, config: SslGanConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._device = config, accelerator.device
        labelled = task.labelled
        self._labelled_NCHW = labelled.images_NCHW.to(self._device)
        self._unlabelled_MCHW = task.unlabelled_NCHW.to(self._device)
        self._labels_N = labelled.labels_N.to(self._device)
        self._augmented = ImageAugmentation(config, task)
        self._pace = pace_of(config)
        self._discriminator = new_discriminator(config, task, accelerator, self._pace)
        self._generator = _new_generator(config, task.channels, accelerator, self._pace)
        self._labelled = InfiniteSampler(len(labelled), labelled.labels_N if config.class_balance else None)
        num_images = len(labelled) + len(self._unlabelled_MCHW)
        self._unlabelled, self._matched = (InfiniteSampler(num_images) for _ in range(2))

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """A few steps of D and G in turn per epoch."""
        while True:
            means = Means()
            for _ in range(epoch_steps(self._config.steps_per_epoch, _step_images(self._config))):
                self._discriminator_step(means)
                self._generator_step(means)
            self._discriminator.finish()
            self._generator.finish()
            yield means.read()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its budget the training is."""
        self._pace.begin_epoch(seen, budget)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the averaged D, given that an image is real."""
        return predict_by_discriminator(self._discriminator, images_BCHW, name="ssl_gan", side=self._config.image_size)

    def prediction_state(self) -> dict[str, Tensor]:
        """The network that predicts, or its average."""
        return network_state(classifier=self._discriminator.predicting)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers, average, passes; the tensors are the live ones, not copies."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, OptimisedModel[Any] | InfiniteSampler]:
        networks = {"discriminator": self._discriminator, "generator": self._generator}
        orders = {"labelled": self._labelled, "unlabelled": self._unlabelled, "matched": self._matched}
        return {**networks, **orders}

    def _discriminator_step(self, means: Means) -> None:
        """Step D on the class of labelled images, and on what is real, in one pass over images of all three kinds."""
        config = self._config
        self._pace.advance(config.batch_size + config.batch_unlabelled)
        known_L, unknown_U = self._labelled.take(config.batch_size), self._unlabelled.take(config.batch_unlabelled)
        index_B = torch.cat([known_L, unknown_U]).to(self._device, non_blocking=True)
        with torch.no_grad():
            generated_GCHW = self._generate()
        logits_BK, _ = self._discriminator(torch.cat([self._images(index_B), generated_GCHW]))
        known_LK, unknown_UK, generated_GK = logits_BK.split([len(known_L), len(unknown_U), len(generated_GCHW)])

        real_U, generated_G = realness(unknown_UK), realness(generated_GK)
        supervised = F.cross_entropy(known_LK, self._labels_N[index_B[: len(known_L)]])
        real, generated = real_loss(real_U), generated_loss(generated_G)
        loss = supervised + config.unsup_weight * (real + generated)
        if config.entropy_weight:
            entropy = entropy_loss(unknown_UK)
            loss = loss + config.entropy_weight * entropy
            means.add(len(unknown_U), entropy=entropy)
        self._discriminator.backward_and_step(loss)
        means.add(len(known_L), sup=supervised)
        means.add(len(unknown_U), unsup=real, real_frac=(real_U > 0).float().mean())
        means.add(len(generated_G), fake=generated, fake_frac=(generated_G < 0).float().mean())

    def _generator_step(self, means: Means) -> None:
        """Step G on the mean features of other unlabelled images; D passes gradients on and gathers none."""
        config = self._config
        self._pace.advance(config.batch_unlabelled)
        index_U = self._matched.take(config.batch_unlabelled).to(self._device, non_blocking=True)
        with frozen(self._discriminator.module):
            with torch.no_grad():
                real_UD = self._features(self._images(index_U))
            generated_GD = self._features(self._generate())
            matching = feature_matching(real_UD, generated_GD)
            loss = config.fm_weight * matching
            if config.pull_away_weight:
                alike = pull_away(generated_GD)
                loss = loss + config.pull_away_weight * alike
                means.add(len(generated_GD), pull_away=alike)
            self._generator.backward_and_step(loss)
        means.add(len(generated_GD), fm=matching)

    def _images(self, index_B: Tensor) -> Tensor:
        """Training images by number: labelled ones, then unlabelled ones, which may be too many for a joint copy."""
        last = len(self._labelled_NCHW) - 1
        images_BCHW = self._labelled_NCHW[index_B.clamp(max=last)]
        if len(self._unlabelled_MCHW):
            others_BCHW = self._unlabelled_MCHW[(index_B - last - 1).clamp(min=0)]
            images_BCHW = torch.where((index_B <= last)[:, None, None, None], images_BCHW, others_BCHW)
        return to_signed(self._augmented(images_BCHW))

    def _generate(self) -> Tensor:
        """Generate as many images as a batch has unlabelled ones; their numbers are drawn on the CPU."""
        numbers_GZ = torch.rand(self._config.batch_unlabelled, self._config.z_dim)
        generated_GCHW: Tensor = self._generator(numbers_GZ.to(self._device, non_blocking=True))
        return generated_GCHW

    def _features(self, images_BCHW: Tensor) -> Tensor:
        _, map_BDhw = self._discriminator(images_BCHW)
        return pooled_features(map_BDhw) if self._config.fm_layer == "pooled" else map_BDhw.flatten(1)


def _new_generator(config: SslGanConfig, channels: int, accelerator: Accelerator, pace: Pace) -> OptimisedModel[Any]:
    """A generator with Adam; its last layer starts as D's do."""
    first_side, num_doublings = first_map(config.image_size)
    network = SslGanGenerator(
        channels=channels,
        first_side=first_side,
        num_doublings=num_doublings,
        width=config.generator_width,
        z_dim=config.z_dim,
        init_std=config.init_std,
    ).to(accelerator.device)
    if config.ddi:
        numbers_GZ = torch.rand(config.batch_unlabelled, config.z_dim).to(accelerator.device)
        initialise_by_data(network, numbers_GZ, output=network.output)
    lr = config.lr * config.lr_ratio_generator
    return OptimisedModel(network, accelerator, lr=lr, beta1=config.beta1, weight_decay=0.0, pace=pace)


def _step_images(config: SslGanConfig) -> int:
    """Real images of a step: those of D's, labelled and unlabelled, and those of G's."""
    return config.batch_size + 2 * config.batch_unlabelled


def _epoch_images(config: SslGanConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Images of its steps."""
    return epoch_steps(config.steps_per_epoch, _step_images(config)) * _step_images(config)


def predictor(config: SslGanConfig, form: TaskForm) -> Predictor:
    """The network that predicts, its weights to be loaded."""
    return discriminator_predictor(config, form, name="ssl_gan")


def build(config: SslGanConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with fresh networks."""
    return SslGanLearner(config, task, accelerator)


METHOD = Method(
    SslGanConfig,
    ("classification",),
    build,
    predictors=("ssl_gan",),
    predictor=predictor,
    epoch_images=_epoch_images,
    step_images=_step_images,
)
