"""SSGNet's generators alone, so that they can be searched for before what learns from their images.

    for each class k: a generator learns from the labelled images of k            (an epoch: a few steps of one of them)
    of each class: the distance of what it makes to the validation images of k, which no generator has seen

They are the same stages as those of `ssgnet`: a run there with the same images, seed and settings finds what a run here
made. So a sweep of both, with `settings_from`, trains the best generators once.

A run ends with the last epoch of its generators, and is evaluated then and only then: before, some classes have none.
Distances are means over classes, each that of `score_images` synthetic images, in the features of `feature_network`.

Source: arXiv:2510.06123 (BMVC 2025), which prints Fréchet distances for generators trained on all labels.
Shapes: N real, M synthetic images, C channels, H W pixels, D features, K classes.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from search_spaces.core.errors import ConfigError
from search_spaces.ssgnet_generators import SsgnetGeneratorsConfig
from trainables.core.accelerator import Accelerator
from trainables.core.method import Labelled, Learner, Method, PoolMeans, Predictions, Task
from trainables.core.scores import AnyScores
from trainables.data.augment import to_signed, to_unit
from trainables.metrics.generated import GeneratorScores
from trainables.metrics.selection import mean_scores
from trainables.nets.features import feature_network
from trainables.stylegan.class_generators import ClassGenerators, generator_epochs
from trainables.stylegan.generator_scores import (
    features_of,
    frechet_distance,
    kernel_distance,
    precision_and_recall,
)

NAME = "ssgnet_generators"
_TOO_SHORT = "the budget ends before the generators are trained: raise images, or lower generator_images"


@final
class SsgnetGeneratorsLearner:
    """Generators as stages, and nothing else."""

    def __init__(self, config: SsgnetGeneratorsConfig, task: Task, accelerator: Accelerator) -> None:
        if config.score_images < 2:
            raise ConfigError(f"score_images: {config.score_images} are too few for a distance, expected at least 2")
        if len(set(task.labelled.labels_N.tolist())) < task.num_classes:
            raise ConfigError(f"{NAME} needs labelled images of each of {task.num_classes} classes: raise shots")
        self._config = config
        seed = int(torch.randint(2**31, ()))  # as in `ssgnet`, which so finds what is made here
        self._generators = ClassGenerators(config, task, accelerator, seed)
        self._epoch = 0

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Some steps of one generator per step, class after class, until the last one is done."""
        try:
            while self._epoch < generator_epochs(self._config):
                losses = self._generators.epoch(self._epoch)
                self._epoch += 1
                yield losses
        finally:
            self._generators.close()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """See whether the budget holds all epochs.

        Raises:
            ConfigError: it does not.
        """
        if self._epoch == 1 and seen * generator_epochs(self._config) > budget:
            raise ConfigError(_TOO_SHORT)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Return what the generators make (K, M, C, H, W), uint8, on the CPU; the images given are not looked at."""
        if self._epoch < generator_epochs(self._config):
            raise ConfigError(_TOO_SHORT)
        wanted = self._config.score_images
        return {NAME: torch.stack([self._generators.bank(k, wanted)[:wanted] for k in self._generators.labels])}

    def artefacts(self) -> dict[str, bytes]:
        """Return a sheet for each class, and each generator's origin and scores, as `ssgnet` does."""
        made = self.predict(torch.empty(0))[NAME]
        sheets = {f"class-{k}.png": self._generators.sheet(k, made[k]) for k in self._generators.labels}
        return sheets | {"stages.json": json.dumps(self._generators.facts(), indent=1).encode()}

    def state_dict(self) -> dict[str, Any]:
        """The generator at work; not what is in the cache."""
        return {"epoch": self._epoch, "generators": self._generators.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._epoch = state["epoch"]
        self._generators.load_state_dict(state["generators"])


@final
class _Scorer:
    """Distances to real images, whose features it keeps."""

    def __init__(self, config: SsgnetGeneratorsConfig, images: Labelled) -> None:
        self._side, self._num_images = config.image_size, len(images)
        self._network = feature_network(config.feature_network, images.images_NCHW.shape[1])
        self._real_K: list[Tensor] = []
        for label in range(int(images.labels_N.max()) + 1):
            real_NCHW = images.images_NCHW[images.labels_N == label]
            if len(real_NCHW) < 2:
                raise ConfigError(
                    f"class {label} has {len(real_NCHW)} image to hold generators against, which no distance can be "
                    "to: raise shots, or choose validation: official"
                )
            self._real_K.append(self._features(real_NCHW))

    def __call__(self, predictions: Predictions, pool_means: PoolMeans) -> dict[str, AnyScores]:
        """Mean distances of what the generators made, class by class."""
        made_KMCHW = torch.from_numpy(predictions[NAME].astype(np.uint8, copy=False))
        of_each = [
            _scores(real_ND, self._features(made_MCHW))
            for real_ND, made_MCHW in zip(self._real_K, made_KMCHW, strict=True)
        ]
        return {NAME: replace(mean_scores(of_each), num_images=self._num_images)}

    def _features(self, images_NCHW: Tensor) -> Tensor:
        return features_of(to_signed(to_unit(images_NCHW, self._side)), self._network)


def _scores(real_ND: Tensor, fake_MD: Tensor) -> GeneratorScores:
    """Distances of one class."""
    precision, recall = precision_and_recall(real_ND, fake_MD)
    values = {
        "kid": kernel_distance(real_ND, fake_MD)[0],
        "fid": frechet_distance(real_ND, fake_MD),
        "manifold_precision": precision,
        "manifold_recall": recall,
    }
    return GeneratorScores(len(real_ND), values)


def _epoch_images(config: SsgnetGeneratorsConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Images of its steps; after the last epoch there is none."""
    return config.generator_batch * config.steps_per_epoch if epoch < generator_epochs(config) else sys.maxsize


def build(config: SsgnetGeneratorsConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner whose generators are found in the cache, or are to be trained."""
    return SsgnetGeneratorsLearner(config, task, accelerator)


METHOD = Method(
    SsgnetGeneratorsConfig,
    ("classification",),
    build,
    predictors=(NAME,),
    epoch_images=_epoch_images,
    scorer=_Scorer,
)
