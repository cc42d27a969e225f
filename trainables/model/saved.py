"""Models in use: pictures in, probabilities and classes out, or the foreground of each.

Shapes: N pictures, P patches of each, C channels, S pixels of a side, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.core.errors import ConfigError, ModelError
from trainables.core.grid import Grid
from trainables.core.method import Predictor
from trainables.data.patches import cut
from trainables.metrics.averaging import weighted_mean
from trainables.metrics.decisions import named
from trainables.metrics.masks import FOREGROUND
from trainables.metrics.pictures import probabilities
from trainables.model.calibration import Calibration, tempered
from trainables.model.facts import ModelFacts, ModelMember
from trainables.model.folder import Saved, read_model
from trainables.model.preparation import Preparation, fitted

_Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Prediction:
    """What a model says of pictures."""

    probs: _Floats
    """Probabilities (N, K); of a segmentation those of the foreground (N, S, S)."""

    named_N: NDArray[np.int64]
    """Classes by the decision rule; of a segmentation 1 where anything is marked."""

    raw_NK: _Floats
    """Probabilities before the temperature; of a segmentation none."""

    patches_NP: _Floats | None = None
    """Of pictures that are judged by their patches, each patch's probability of class 1, where there are two."""


@final
class Model:
    """A model that was loaded, on the CPU."""

    def __init__(self, saved: Saved, predictors: Sequence[Predictor]) -> None:
        self.facts: ModelFacts = saved.facts
        self.calibration: Calibration = saved.calibration
        self.members = list(zip(saved.facts.members, predictors, strict=True))
        """Each with what predicts of it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of probabilities; of a segmentation, what is marked."""
        return self.facts.class_names

    @property
    def preparation(self) -> Preparation:
        """Way in which pictures become images."""
        return Preparation(self.facts.channels, self.facts.side, self.facts.reduction)

    def predict(self, images: NDArray[np.uint8] | Tensor) -> Prediction:
        """Predict pictures of any size, resized as those were that it was trained on.

        Args:
            images: bytes, grey (N, H, W) or with channels first, (N, C, H, W), or last, (N, H, W, C).

        Raises:
            DataError: pictures of another form.
        """
        return self.predict_prepared(fitted(np.asarray(images), self.preparation))

    def predict_prepared(self, pictures_NCSS: NDArray[np.uint8]) -> Prediction:
        """Predict pictures that have the channels and the side already, as `preparation` makes them."""
        facts = self.facts
        images = torch.from_numpy(cut(pictures_NCSS, facts.grid) if facts.grid else pictures_NCSS)
        return judged(facts, self.outputs(images)) if len(images) else _nothing(facts)

    def outputs(self, images: Tensor) -> _Floats:
        """Weighted mean of what the members say of images or patches (N, C, H, W), uint8; float64."""
        try:
            parts = [predictor.predict(images)[member.predictor] for member, predictor in self.members]
            mean = _weighted(self.facts.members, [part.double().numpy() for part in parts])
        except (RuntimeError, ValueError, IndexError, TypeError) as problem:  # what a network says of an odd form
            why = " ".join(str(problem).split())[:160]
            raise ModelError(
                f"its weights predict no images of {images.shape[1]}x{images.shape[2]}x{images.shape[3]} ({why}): "
                "train it again"
            ) from problem
        if self.facts.kind == "classification" and mean.shape[1:] != (self.facts.num_classes,):
            raise ModelError(
                f"its weights know {mean.shape[-1]} classes, but {len(self.class_names)} are named: train it again"
            )
        if self.facts.kind == "segmentation" and mean.shape != (len(images), *images.shape[2:]):
            raise ModelError("its weights mark no pixels, but its kind is segmentation: train it again")
        if not np.isfinite(mean).all():
            raise ModelError("its weights make something of a picture that is no number: train it again")
        return mean

    def sets(self, prediction: Prediction, coverage: float) -> NDArray[np.bool_]:
        """Return which classes (N, K) are in the set of each picture; see `trainables.model.calibration`.

        Raises:
            ConfigError: an impossible coverage, or a model without such sets.
        """
        if self.facts.kind == "segmentation":
            raise ConfigError("coverage: a model of masks has no sets of classes: leave it out")
        return self.calibration.sets(prediction.raw_NK, prediction.named_N, coverage)


def load_model(folder: Path | str, *, own_code: bool = False) -> Model:
    """Load a model from its folder.

    Args:
        folder: As `sparse-search train` wrote it.
        own_code: Also one of a method that is no part of this package, whose code is imported then.

    Raises:
        ModelError: it is missing, no model, damaged, or of a method that is not known or not to be imported.
    """
    saved = read_model(Path(folder))
    for member in saved.facts.members:
        if ":" in member.method and not own_code:
            raise ModelError(
                f"{folder} is a model of method '{member.method}', which is no part of this package: if you trust its "
                "code, say own_code=True or --own-code"
            )
    return assembled(saved, str(folder))


def assembled(saved: Saved, source: str) -> Model:
    """Return the model of facts and tensors; `source` names it in errors.

    Raises:
        ModelError: a method that is not known here, or has no models, or tensors that are not its own.
    """
    with torch.random.fork_rng([]):  # weights that are drawn here are overwritten
        return Model(saved, [_filled(source, saved, number) for number in range(len(saved.states))])


def judged(facts: ModelFacts, outputs: _Floats) -> Prediction:
    """Return what facts make of the outputs for images or patches, one picture after the other."""
    if facts.kind == "segmentation":
        marked_N = np.asarray((outputs >= FOREGROUND).any((1, 2)), np.int64)
        return Prediction(outputs, marked_N, np.zeros((len(outputs), 0)))
    if facts.grid:
        return _of_patches(facts, outputs, facts.grid)
    named_N = named(facts.decision, outputs, pool_mean(facts.members))
    return Prediction(tempered(outputs, facts.temperature), named_N, outputs)


def pool_mean(members: Sequence[ModelMember]) -> _Floats | None:
    """Return mean probabilities (K,) of the unlabelled training images; None where there were none."""
    known = [np.array(each.pool_mean, np.float64) for each in members if each.pool_mean is not None]
    return _weighted(members, known) if len(known) == len(members) else None


def _filled(source: str, saved: Saved, number: int) -> Predictor:
    member = saved.facts.members[number]
    try:
        method, config = member.find()
    except ConfigError as problem:
        raise ModelError(f"{source} cannot be used here: {problem}") from problem
    if method.predictor is None:
        raise ModelError(f"{source} is of method '{member.method}', of which no model can be saved")
    if member.predictor not in method.predictors:
        raise ModelError(
            f"{source} is of predictor '{member.predictor}', which {member.method} does not have: it has "
            f"{', '.join(method.predictors)}"
        )
    predictor = method.predictor(config, saved.facts.form)
    try:
        predictor.load_state_dict(saved.states[number])
    except (KeyError, RuntimeError, TypeError) as problem:
        raise ModelError(
            f"{source}: {member.file} does not fit {member.method} ({' '.join(str(problem).split())[:160]}): use the "
            "versions that model.yaml names, or train it again"
        ) from problem
    return predictor


def _of_patches(facts: ModelFacts, probs: _Floats, grid: Grid) -> Prediction:
    """Judge pictures by their patches, as `trainables.metrics.classes.score_patches` does."""
    probs_NPK = probs.reshape(-1, grid.num_patches, probs.shape[-1])
    scores_NK = facts.rule.scores(probs_NPK)
    if facts.threshold is None or scores_NK.shape[1] != 2:
        return Prediction(tempered(scores_NK, facts.temperature), named("argmax", scores_NK, None), scores_NK)
    raw_NK = probabilities(scores_NK, facts.threshold)
    named_N = (scores_NK[:, 1] > facts.threshold).astype(np.int64)
    return Prediction(tempered(raw_NK, facts.temperature), named_N, raw_NK, probs_NPK[:, :, 1])


def _nothing(facts: ModelFacts) -> Prediction:
    """Prediction of no picture."""
    size = (facts.side, facts.side) if facts.kind == "segmentation" else (facts.num_classes,)
    return Prediction(np.zeros((0, *size)), np.zeros(0, np.int64), np.zeros((0, facts.num_classes)))


def _weighted(members: Sequence[ModelMember], parts: Sequence[Any]) -> _Floats:
    """Mean of the parts by the members' weights; of one member its own digits."""
    return weighted_mean(parts, [each.weight for each in members])
