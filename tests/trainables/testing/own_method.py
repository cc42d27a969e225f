"""Nearest class mean in pixel space, as a user writes it in a module of their own; and the same with mistakes."""

from dataclasses import dataclass, replace
from typing import Annotated

import torch

from search_spaces.core.config import MethodConfig
from search_spaces.core.ranges import Float
from search_spaces.ssgnet import SsgnetConfig
from trainables.core.method import Method
from trainables.data.augment import to_unit
from trainables.ssgnet import METHOD as SSGNET


@dataclass(frozen=True, kw_only=True)
class OwnConfig(MethodConfig):
    temperature: Annotated[float, Float(1e-3, 10.0, log=True)] = 1.0
    speed: Annotated[float, Float(0.1, 0.9)] = 0.5
    noise_side: int = 512


class Own:
    def __init__(self, config, task, accelerator):
        self.config = config
        pixels = to_unit(task.labelled.images_NCHW, config.image_size).flatten(1)
        means = [pixels[task.labelled.labels_N == k].mean(0) for k in range(task.num_classes)]
        self.target, self.means = torch.stack(means), torch.rand(task.num_classes, pixels.shape[1])
        self.noise = torch.rand(config.noise_side, config.noise_side)

    def epochs(self):
        while True:
            self.means = self.means.lerp(self.target, self.config.speed + 0.1 * torch.rand(()))
            yield {"distance": float((self.means - self.target).norm())}

    def predict(self, images):
        pixels = to_unit(images, self.config.image_size).flatten(1)
        distance = (pixels[:, None] - self.means).square().mean(2)
        return {"own": (-distance / self.config.temperature).softmax(1)}

    def state_dict(self):
        return {"means": self.means}

    def load_state_dict(self, state):
        self.means = state["means"]


class Deaf(Own):
    """Does not read its settings."""

    def predict(self, images):
        pixels = to_unit(images, self.config.image_size).flatten(1)
        return {"own": (-(pixels[:, None] - self.means).square().mean(2)).softmax(1)}


class Forgetful(Own):
    """Does not put back what it learned."""

    def load_state_dict(self, state):
        pass


class Curious(Own):
    """Looks at held-out labels."""

    def __init__(self, config, task, accelerator):
        super().__init__(config, task, accelerator)
        self.answers = task.validation.labels_N.clone()


class Sociable(Own):
    """Judges an image by those beside it."""

    def predict(self, images):
        probs = super().predict(images)["own"]
        return {"own": (probs / probs.mean(0)).softmax(1)}


METHOD, DEAF, FORGETFUL, CURIOUS, SOCIABLE = (
    Method(OwnConfig, ("classification",), learner, ("own",)) for learner in (Own, Deaf, Forgetful, Curious, Sociable)
)


@dataclass(frozen=True, kw_only=True)
class StagedConfig(SsgnetConfig):
    nothing: Annotated[float, Float(0.0, 1.0)] = 0.5


STAGED = replace(SSGNET, config=StagedConfig)
"""Behind generators that trials share, a setting that nobody reads."""
