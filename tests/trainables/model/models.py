"""Models that were trained in a moment, on synthetic tasks."""

from dataclasses import replace

import torch

from search_spaces.core.config import write_config
from trainables.core.method import find_method
from trainables.model.calibration import Calibration
from trainables.model.facts import ModelFacts, ModelMember
from trainables.model.folder import Saved, file_names
from trainables.testing.small import small_config
from trainables.testing.tasks import make_task
from trainables.training.accelerator import new_accelerator

CARD = "# A model\n"


def trained(name, task, seed=0, **sizes):
    """A learner after an epoch, and its configuration."""
    method = find_method(name)
    config = small_config(method, sizes)
    torch.manual_seed(seed)
    learner = method.build(config, task, new_accelerator(precision="no", cpu=True))
    next(iter(learner.epochs()))
    return learner, config


def model_of(*names, weights=None, task=None, **facts):
    """What would be saved of methods that were trained for an epoch each, and their learners."""
    task = task or make_task(kind=find_method(names[0]).kind)
    made = [trained(name, task, seed) for seed, name in enumerate(names)]
    weights = weights or [1.0]
    members = tuple(
        ModelMember(method=name, config=write_config(config), predictor=find_method(name).predictors[0], weight=weight,
                    pool_mean=None, file=file, sha256="")
        for name, (_, config), weight, file in zip(names, made, weights, file_names(len(names)), strict=True)
    )  # fmt: skip
    names_of_classes = ("a", "b", "c")[: task.num_classes] if task.kind == "classification" else ("lesion",)
    side = task.labelled.images_NCHW.shape[-1]
    described = ModelFacts(kind=task.kind, class_names=names_of_classes, channels=task.channels, side=side,
                           members=members)  # fmt: skip
    states = [
        {key: tensor.detach().clone().contiguous() for key, tensor in learner.prediction_state().items()}
        for learner, _ in made
    ]
    scores = tuple(number / 20 for number in range(1, 20))
    calibration = Calibration(scores, "19 images") if task.kind == "classification" else Calibration()
    return Saved(replace(described, **facts), states, calibration), [learner for learner, _ in made]
