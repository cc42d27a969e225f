"""The judge of predictions: by the kind of task, or as the method says.

Shapes: N images or patches, I pictures, K classes, H W pixels.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from search_spaces.core.config import MethodConfig
from trainables.core.method import Labelled, Method, PoolMeans, Predictions, Scorer, patch_predictor
from trainables.core.scores import AnyScores
from trainables.metrics.classes import ClassScores, score, score_patches
from trainables.metrics.decisions import named
from trainables.metrics.generated import GeneratorScores
from trainables.metrics.masks import MaskScores, score_foreground
from trainables.metrics.pictures import PictureRule
from trainables.metrics.table import GENERATORS, MASKS

_PIXELWISE = 3  # dimensions of predictions


def scorer_of(
    method: Method[Any],
    config: MethodConfig,
    images: Labelled,
    rule: PictureRule,
    thresholds: Mapping[str, float | None] | None = None,
    decision: str = "argmax",
) -> Scorer:
    """Return the judge of a method's predictions: its own scorer, else `score_all`, whose arguments these are."""
    if method.scorer:
        return method.scorer(config, images)
    return partial(score_all, images=images, rule=rule, thresholds=thresholds, decision=decision)


def score_all(
    predictions: Predictions,
    pool_means: PoolMeans,
    images: Labelled,
    rule: PictureRule,
    thresholds: Mapping[str, float | None] | None = None,
    decision: str = "argmax",
) -> dict[str, AnyScores]:
    """Scores of every predictor on labelled images.

    Of patches a predictor's own name stands for the pictures, and that of `patch_predictor` for the patches.

    Args:
        predictions: as `predict` gave them.
        pool_means: what the predictors say of unlabelled images in the mean.
        images: those that were predicted.
        rule: how pictures are judged by their patches.
        thresholds: of pictures, by predictor, as they were chosen on other images; by default chosen here.
        decision: how a class is named of an image or patch, one of `DECISIONS`.
    """
    if images.masks_IHW is not None and all(probs.ndim == _PIXELWISE for probs in predictions.values()):
        masks_NHW = images.masks_IHW.numpy()
        return {name: score_foreground(probs_NHW, masks_NHW) for name, probs_NHW in predictions.items()}
    labels_N, grid = images.labels_N.numpy(), images.grid
    each: dict[str, AnyScores] = {
        name: score(probs_NK, labels_N, named(decision, probs_NK, pool_means.get(name)))
        for name, probs_NK in predictions.items()
    }
    if grid is None:
        return each
    masks_IHW = None if images.masks_IHW is None else images.masks_IHW.numpy()
    pictures: dict[str, AnyScores] = {
        name: score_patches(probs_NK, labels_N, grid, rule, masks_IHW=masks_IHW, threshold=(thresholds or {}).get(name))
        for name, probs_NK in predictions.items()
    }
    return pictures | {patch_predictor(name): scores for name, scores in each.items()}


def read_scores(values: Mapping[str, Any]) -> AnyScores:
    """The scores that `as_dict` wrote, of any kind, even by a program that knew other metrics."""
    if GENERATORS.default in values:
        return GeneratorScores.from_dict(values)
    return (MaskScores if MASKS.default in values else ClassScores).from_dict(values)
