"""SSL-GAN's step in plain form: every batch a forward of its own, every loss as the explicit K + 1 classes.

What `trainables.ssl_gan` has to equal (test_ssl_gan_equality.py) and is timed against (bench/ssl_gan_step.py). Written
for reading, from the mathematics alone; of `trainables` it runs the networks and uses nothing else. Wasteful where
plain code is: generated images with a graph that D's step does not walk, gradients of D in G's step that are thrown
away.

Networks and optimisers come as dicts by NAMES. Images are in [-1, 1].

Shapes: L labelled, U unlabelled, G generated, C channels, H W pixels, K classes, Z latent.
"""

from copy import deepcopy
from math import exp

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from search_spaces.ssl_gan import SslGanConfig

NAMES = ("discriminator", "generator")

Networks = dict[str, nn.Module]
Optimisers = dict[str, Optimizer]


def new_optimisers(nets: Networks, config: SslGanConfig) -> Optimisers:
    """Adam for each network."""
    rates = {"discriminator": config.lr, "generator": config.lr * config.lr_ratio_generator}
    return {n: Adam(nets[n].parameters(), lr=rates[n], betas=(config.beta1, 0.999), eps=1e-8) for n in NAMES}


class Average:
    """An average of D's weights over a share of the budget, at first over few steps."""

    def __init__(self, network: nn.Module) -> None:
        self.network = deepcopy(network)
        self._updates, self._share = 0, 0.0

    @torch.no_grad()
    def take_in(self, network: nn.Module, share: float, time_constant: float) -> None:
        """The weights as they are now, with that share of the budget behind."""
        decay = min(exp(-(share - self._share) / time_constant), (1 + self._updates) / (10 + self._updates))
        for mean, now in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.copy_(decay * mean + (1 - decay) * now)
        self._updates, self._share = self._updates + 1, share


def new_average(nets: Networks) -> Average:
    """D as it is now."""
    return Average(nets["discriminator"])


def step(
    nets: Networks,
    optimisers: Optimisers,
    average: Average,
    config: SslGanConfig,
    known_LCHW: Tensor,
    labels_L: Tensor,
    unknown_UCHW: Tensor,
    other_UCHW: Tensor,
    share: float = 0.0,
) -> None:
    """One step of D, of its average, and of G, with that share of the budget behind in the middle of D's batch."""
    discriminator_step(nets, optimisers, config, known_LCHW, labels_L, unknown_UCHW)
    average.take_in(nets["discriminator"], share, config.average)
    generator_step(nets, optimisers, config, other_UCHW)


def discriminator_step(
    nets: Networks,
    optimisers: Optimisers,
    config: SslGanConfig,
    known_LCHW: Tensor,
    labels_L: Tensor,
    unknown_UCHW: Tensor,
) -> None:
    """Class, real, generated: three forwards."""
    discriminator, generator = (nets[name] for name in NAMES)
    generated_GCHW = generator(_numbers(unknown_UCHW, config)).detach()
    known_LK, unknown_UK, generated_GK = (
        discriminator(images)[0] for images in (known_LCHW, unknown_UCHW, generated_GCHW)
    )
    probs_LK = known_LK.softmax(1)
    supervised = -probs_LK[torch.arange(len(labels_L)), labels_L].log().mean()
    real = -(1 - _is_generated(unknown_UK)).log().mean()
    generated = -_is_generated(generated_GK).log().mean()
    probs_UK = unknown_UK.softmax(1)
    entropy = -(probs_UK * probs_UK.log()).sum(1).mean()
    loss = supervised + config.unsup_weight * (real + generated) + config.entropy_weight * entropy
    _learn(optimisers, "discriminator", loss)


def generator_step(nets: Networks, optimisers: Optimisers, config: SslGanConfig, other_UCHW: Tensor) -> None:
    """The mean features of real images, and features that differ from each other."""
    discriminator, generator = (nets[name] for name in NAMES)
    real_UDhw = discriminator(other_UCHW)[1]
    generated_GDhw = discriminator(generator(_numbers(other_UCHW, config)))[1]
    if config.fm_layer == "pooled":
        real_UDhw, generated_GDhw = real_UDhw.mean((2, 3)), generated_GDhw.mean((2, 3))
    real_UD, generated_GD = real_UDhw.flatten(1).detach(), generated_GDhw.flatten(1)
    loss = config.fm_weight * (real_UD.mean(0) - generated_GD.mean(0)).abs().mean()
    if config.pull_away_weight:
        loss = loss + config.pull_away_weight * _likeness(generated_GD)
    _learn(optimisers, "generator", loss)


def _is_generated(logits_BK: Tensor) -> Tensor:
    """Probability (B,) of the last of K + 1 classes, whose logit is 0."""
    zero_B1 = torch.zeros_like(logits_BK[:, :1])
    return torch.cat([logits_BK, zero_B1], 1).softmax(1)[:, -1]


def _likeness(features_GD: Tensor) -> Tensor:
    cosines = [
        torch.dot(one, other) / (one.norm() * other.norm())
        for i, one in enumerate(features_GD)
        for j, other in enumerate(features_GD)
        if i != j
    ]
    return torch.stack(cosines).pow(2).mean()


def _numbers(like_UCHW: Tensor, config: SslGanConfig) -> Tensor:
    return torch.rand(len(like_UCHW), config.z_dim).to(like_UCHW)


def _learn(optimisers: Optimisers, name: str, loss: Tensor) -> None:
    for optimiser in optimisers.values():
        optimiser.zero_grad()
    loss.backward()
    optimisers[name].step()
