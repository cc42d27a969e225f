"""Training of StyleGAN3-T on one set of images.

    for each batch of real images x, with normal numbers z, z' and disturbances T (`adaptive_augment`):
        G: softplus(-D(T(G(z))))
        D: softplus(D(T(G(z')))) + softplus(-D(T(x)))
        D, every 16th time: 16 · γ/2 · |∇ₓ D(T(x))|²
        Ḡ: moving average of G, which is what images are sampled from
    p of T follows the signs of D(T(x))

The pass that makes G(z') also updates G's running statistics. D sees the two kinds of images in one pass, as groups of
one kind each. Without style mixing, path-length regularisation or classes, as in the paper.

Several processes share each batch, as everywhere here (`parallel`), in whole groups of the discriminator. All random
numbers come from one generator on the CPU, which is part of the state. The host waits for the device at every fourth
step alone, when p is adjusted.

Sources: Karras et al., arXiv:2106.12423 (2021); losses: arXiv:1406.2661 and arXiv:1801.04406; lazy regularisation:
arXiv:1912.04958, appendix B.
Shapes: B batch, C channels, H W pixels (H = W), Z latent, N images.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.components.modes import frozen
from trainables.components.optimised_model import OptimisedModel
from trainables.components.parallel import data_parallel
from trainables.core.accelerator import Accelerator
from trainables.stylegan.adaptive_augment import Augmentation, Controller, Disturbance, disturbed
from trainables.stylegan.discriminator import StyleganDiscriminator
from trainables.stylegan.generator import EmaStatistics, StyleganGenerator
from trainables.stylegan.generator_config import GeneratorConfig

BETA2 = 0.99
"""Adam's; its β₁ is 0."""

RAMP = 0.05
"""The average's half-life is at most this share of the images seen so far."""

MAX_GRADIENT = 1e5
"""Largest gradient of a weight; an infinite one becomes this."""

TRANSFER_SPEED = 5.0
"""Times as fast does augmentation adapt where training goes on from other weights."""


N = TypeVar("N", bound=nn.Module)


@final
class GeneratorTraining:
    """A generator, its average and a discriminator, at any moment of their training.

    Args:
        seed: of weights and all random numbers.
    """

    def __init__(self, config: GeneratorConfig, accelerator: Accelerator, *, seed: int) -> None:
        self.config, self._accelerator = config, accelerator
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            generator, discriminator = new_networks(config)
        generator, discriminator = generator.to(accelerator.device), discriminator.to(accelerator.device)
        # Before Accelerate puts its precision on `forward`, which a copy would share with the original.
        self._average = deepcopy(generator).requires_grad_(False)
        share = config.penalty_interval / (config.penalty_interval + 1)  # of D's steps, the others being the penalty's
        self._generator = _optimised(generator, accelerator, config.g_lr, BETA2)
        self._discriminator = _optimised(discriminator, accelerator, config.d_lr * share, BETA2**share)
        self._augmentation = Augmentation(config.channels, config.augment_groups, luma_flip=config.luma_flip)
        self._controller = self._new_controller(config.ada_kimg)
        self._random = torch.Generator().manual_seed(seed)
        self._steps, self._continues_another = 0, False
        self.images_seen = 0
        """Real images, counted as often as they were seen."""

    @property
    def augment_p(self) -> float:
        """Probability of each disturbance in the next step."""
        return self._controller.p

    @property
    def average(self) -> nn.Module:
        """Ḡ."""
        return self._average

    def step(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        """One step of each network.

        Args:
            real_BCHW: in [-1, 1], on the device, a multiple of the group; equal in all processes.

        Returns:
            `g_loss`, `d_loss`, `real_frac` and `fake_frac` (of images that D judges rightly), `augment_p`, and every
            16th time `penalty` (mean of |∇D|²); each one number, those of the networks on the device.
        """
        batch = len(real_BCHW)
        if self.config.mirror:
            flips_B = torch.rand(batch, generator=self._random) < 0.5
            flips_B111 = flips_B[:, None, None, None].to(real_BCHW.device, non_blocking=True)
            real_BCHW = torch.where(flips_B111, real_BCHW.flip(3), real_BCHW)
        used_p = torch.tensor(self.augment_p)
        numbers = self._generator_step(batch) | self._discriminator_step(real_BCHW)
        if self._steps % self.config.penalty_interval == 0:
            numbers |= self._penalty_step(real_BCHW)
        self._update_average(batch)
        self._steps += 1
        self.images_seen += batch
        return numbers | {"augment_p": used_p}

    @torch.no_grad()
    def sample(self, num: int, *, psi: float = 1.0, seed: int = 0, batch: int = 64) -> Tensor:
        """Images (N, C, H, W) of Ḡ in [-1, 1], float32, on the CPU. To be called in all processes.

        Args:
            psi: truncation: 1 is none; below, images are more alike and mostly better.
            seed: of the numbers; the first images are the same, to rounding, however many there are.
            batch: images at a time.
        """
        random = torch.Generator().manual_seed(seed)
        # One by one, as torch fills a tensor differently when it is larger.
        numbers_NZ = torch.cat([torch.randn(1, self.config.z_dim, generator=random) for _ in range(num)])
        parts = []
        for start in range(0, num, batch):
            numbers_BZ = numbers_NZ[start : start + batch].to(self._accelerator.device)
            images = data_parallel(lambda each: self._average(each, psi=psi), numbers_BZ, accelerator=self._accelerator)
            parts.append(images.clamp(-1, 1).float().cpu())
        return torch.cat(parts)

    def start_from(self, state: dict[str, Any]) -> None:
        """Take the networks, and nothing else, from what another training's `state_dict` gave.

        Augmentation then adapts five times as fast, Ḡ is slow from the start, and D's first convolutions learn no
        more where the configuration says so.
        """
        self._generator.module.load_state_dict(state["generator"]["network"])
        self._discriminator.module.load_state_dict(state["critic"]["network"])
        self._average.load_state_dict(state["average"])
        self._continue_another()

    def state_dict(self) -> dict[str, Any]:
        """Everything, random numbers included; the tensors are the live ones, not copies."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        counts = {"steps": self._steps, "images_seen": self.images_seen}
        return state | counts | {"random": self._random.get_state(), "continues_another": self._continues_another}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        if state["continues_another"]:
            self._continue_another()
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._random.set_state(state["random"])
        self._steps, self.images_seen = state["steps"], state["images_seen"]

    def _parts(self) -> dict[str, Any]:
        players = {"generator": self._generator, "critic": self._discriminator}
        return {**players, "average": self._average, "controller": self._controller}

    def _new_controller(self, kimg: float) -> Controller:
        config = self.config
        return Controller(config.augment, kimg=kimg, target=config.ada_target, p=config.augment_p)

    def _continue_another(self) -> None:
        self._continues_another = True
        self._controller = self._new_controller(self.config.ada_kimg / TRANSFER_SPEED)
        for convolution in self._discriminator.module.convolutions()[: self.config.frozen_convolutions]:
            convolution.requires_grad_(False)

    def _generator_step(self, batch: int) -> dict[str, Tensor]:
        """D passes gradients on and gathers none."""
        with frozen(self._discriminator.module):
            logits_B = self._judge(self._logits, self._generate(batch))
            loss = F.softplus(-logits_B).mean()
            self._generator.backward_and_step(loss)
        return {"g_loss": loss.detach()}

    def _discriminator_step(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        """Generated and real images in one pass; p follows the verdicts on the real ones."""
        batch = len(real_BCHW)
        total = partial(self._accelerator.reduce, reduction="sum")
        statistics = EmaStatistics(0.5 ** (batch / (1000 * self.config.magnitude_kimg)), total)
        with torch.no_grad():
            fake_BCHW = self._generate(batch, statistics=statistics)
        logits_B = self._judge(self._logits, torch.cat([fake_BCHW, real_BCHW]))
        fake_B, real_B = logits_B[:batch], logits_B[batch:]
        loss = F.softplus(fake_B).mean() + F.softplus(-real_B).mean()
        self._discriminator.backward_and_step(loss)
        self._controller.observe(real_B)
        right = {"real_frac": (real_B > 0).float().mean(), "fake_frac": (fake_B < 0).float().mean()}
        return {"d_loss": loss.detach(), **right}

    def _penalty_step(self, real_BCHW: Tensor) -> dict[str, Tensor]:
        penalty = self._judge(self._squared_slopes, real_BCHW).mean()
        self._discriminator.backward_and_step(self.config.penalty_interval * self.config.penalty_weight / 2 * penalty)
        return {"penalty": penalty.detach()}

    def _generate(self, batch: int, statistics: EmaStatistics | None = None) -> Tensor:
        numbers_BZ = torch.randn(batch, self.config.z_dim, generator=self._random)
        numbers_BZ = numbers_BZ.to(self._accelerator.device, non_blocking=True)
        images_BCHW: Tensor = data_parallel(
            lambda numbers_bZ: self._generator.forward_share(numbers_bZ, statistics=statistics),
            numbers_BZ,
            accelerator=self._accelerator,
        )
        return images_BCHW

    def _judge(self, verdict: Callable[[Tensor, Disturbance | None], Tensor], images_BCHW: Tensor) -> Tensor:
        """Logits (B,) of D for disturbed images; the processes share whole groups.

        Raises:
            ValueError: the batch is no multiple of the group.
        """
        group, config = self._discriminator.module.group, self.config
        if len(images_BCHW) % group:
            raise ValueError(f"a batch of {len(images_BCHW)} images is no multiple of the group, {group}")
        drawn = self._augmentation.draw(len(images_BCHW), config.resolution, self.augment_p, self._random)
        inputs = [images_BCHW] if drawn is None else [images_BCHW, drawn.geometry_B33, drawn.colour_B44]

        def judge(*grouped: Tensor) -> Tensor:
            images_bCHW, *matrices = (each.flatten(0, 1) for each in grouped)
            own = Disturbance(matrices[0], matrices[1], drawn.margin) if drawn else None
            return verdict(images_bCHW, own).view(-1, group)

        grouped = [each.view(-1, group, *each.shape[1:]) for each in inputs]
        verdicts: Tensor = data_parallel(judge, *grouped, accelerator=self._accelerator)
        return verdicts.flatten()

    def _logits(self, images_bCHW: Tensor, disturbance: Disturbance | None) -> Tensor:
        if disturbance is not None:
            images_bCHW = disturbed(images_bCHW, disturbance)
        logits_b: Tensor = self._discriminator.forward_share(images_bCHW)
        return logits_b

    def _squared_slopes(self, images_bCHW: Tensor, disturbance: Disturbance | None) -> Tensor:
        """|∇D|² (b,) at the images before they are disturbed."""
        images_bCHW = images_bCHW.detach().requires_grad_()
        logits_b = self._logits(images_bCHW, disturbance)
        (slopes_bCHW,) = torch.autograd.grad(logits_b.sum(), images_bCHW, create_graph=True)
        return slopes_bCHW.square().sum((1, 2, 3))

    def _update_average(self, batch: int) -> None:
        """Ḡ takes in the weights as they are now."""
        half_life = 1000 * self.config.average_half_life
        if not self._continues_another:
            half_life = min(half_life, RAMP * self.images_seen)
        update_ema(self._average, self._generator.module, 0.5 ** (batch / half_life) if half_life else 0.0)


def _optimised(network: N, accelerator: Accelerator, lr: float, beta2: float) -> OptimisedModel[N]:
    """The network with Adam, stepping after every loss.

    Not compiled: the discriminator is differentiated twice, and the generator runs in several ways.
    """
    return OptimisedModel(
        network,
        accelerator,
        lr=lr,
        beta1=0.0,
        beta2=beta2,
        weight_decay=0.0,  # AdamW without decay is Adam
        channels_last=False,
        compiled=False,
        max_gradient=MAX_GRADIENT,
        accumulates=False,
    )


def new_networks(config: GeneratorConfig) -> tuple[StyleganGenerator, StyleganDiscriminator]:
    """A generator and a discriminator with fresh weights, from torch's global generator."""
    common: dict[str, int] = {
        "resolution": config.resolution,
        "channels": config.channels,
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
    }
    generator = StyleganGenerator(
        num_layers=config.num_layers,
        z_dim=config.z_dim,
        margin=config.margin,
        mapping_layers=config.mapping_layers,
        **common,
    )
    return generator, StyleganDiscriminator(group=min(config.group, config.batch), **common)


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average's weights by the share 1 - decay towards the network's, and copies the running statistics."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    learned, ours = dict(network.named_parameters()), average.state_dict()
    for name, statistic in network.state_dict().items():
        if name not in learned:
            ours[name].copy_(statistic)
