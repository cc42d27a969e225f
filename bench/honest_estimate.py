"""What the estimate for new images is worth: simulated searches whose truth is known, by cross-validation.

Images of a class are Gaussian; each draw labels N of them, and 16 to 256 configurations of four heads (ridge
regression, nearest neighbours, naive Bayes, nearest shrunken mean, each on some of the features; written out, as
scikit-learn's take ten times as long on so few images) are cross-validated on them, in five folds or as many as the
rarest class has images. The truth is the balanced accuracy on 3,000 other images of the configuration that
cross-validation chooses, trained on all N. Where the search is halved, the better third by the first two folds goes on
and the others cannot be chosen; in groups of three, images are alike, and folds and draws keep them together.
`python bench/honest_estimate.py --draws 20` is a short form; with `--real` images are those of published data sets, by
principal components of their pixels, and the truth is the mean recall on those that were not drawn.

Shapes: C configurations, N images, L labelled ones, D features, K classes.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedGroupKFold

from sparse_search.analysis.estimate import chosen_scores, draw_images, expected
from sparse_search.analysis.weighted_scores import SharedPredictions, weighted_scores
from trainables.data.source import open_source

METRIC = "balanced_accuracy"
NUM_FEATURES = 40
NUM_TRUTH = 3000
GROUP = 3

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]


def ridge(taught_LD: _Array, labels_L: _Indices, images_ND: _Array, strength: float) -> _Array:
    """Scores of classes (N, K) by ridge regression, classes weighing alike."""
    truth_LK = np.eye(labels_L.max() + 1)[labels_L]
    weights_L1 = (1 / truth_LK.sum(0))[labels_L, None] * len(labels_L) / truth_LK.shape[1]
    mean_D = (weights_L1 * taught_LD).sum(0) / weights_L1.sum()
    own_LD, target_LK = taught_LD - mean_D, truth_LK - 1 / truth_LK.shape[1]
    inner_DD = (weights_L1 * own_LD).T @ own_LD + strength * np.eye(own_LD.shape[1])
    return np.asarray(4 * (images_ND - mean_D) @ np.linalg.solve(inner_DD, (weights_L1 * own_LD).T @ target_LK))


def neighbours(taught_LD: _Array, labels_L: _Indices, images_ND: _Array, strength: float) -> _Array:
    """Logarithms of the shares of classes among the nearest."""
    count = min(1 + int(strength) % 5, len(taught_LD))
    distance_NL = (taught_LD**2).sum(1) - 2 * images_ND @ taught_LD.T
    nearest_NC = np.argpartition(distance_NL, count - 1, axis=1)[:, :count]
    shares_NK = np.stack([(labels_L[nearest_NC] == k).mean(1) for k in range(labels_L.max() + 1)], 1)
    return np.asarray(np.log(shares_NK + 0.05))


def naive_bayes(taught_LD: _Array, labels_L: _Indices, images_ND: _Array, strength: float) -> _Array:
    """Log-likelihoods of independent Gaussian features, with some variance added."""
    classes = [taught_LD[labels_L == k] for k in range(labels_L.max() + 1)]
    variances = [own_MD.var(0) + strength + 0.1 for own_MD in classes]
    each = [
        -(((images_ND - own_MD.mean(0)) ** 2 / variance_D + np.log(variance_D)).sum(1)) / 2
        for own_MD, variance_D in zip(classes, variances, strict=True)
    ]
    return np.stack(each, 1)


def nearest_mean(taught_LD: _Array, labels_L: _Indices, images_ND: _Array, strength: float) -> _Array:
    """Negative squared distances to means of classes, shrunken towards the mean of all."""
    means_KD = np.stack([taught_LD[labels_L == k].mean(0) for k in range(labels_L.max() + 1)])
    means_KD = (means_KD + strength * means_KD.mean(0)) / (1 + strength)
    return np.asarray(images_ND @ means_KD.T - (means_KD**2).sum(1) / 2)


_Fit = Callable[[_Array, _Indices, _Array, float], _Array]
HEADS: Sequence[_Fit] = (ridge, neighbours, naive_bayes, nearest_mean)


class Head(NamedTuple):
    """A configuration: what is fitted, how strongly it is held back, on which features."""

    fit: _Fit
    strength: float
    features: _Indices


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A row of the table."""

    counts: Sequence[int]
    """Labelled images of each class."""

    num_heads: int
    separation: float = 0.6
    """Distance of the classes: at .6 it is hard to tell two apart, at 1.2 easy."""

    halved: bool = False
    grouped: bool = False
    dataset: str = ""
    """Data set whose images are drawn, by principal components of their pixels; nothing: Gaussian ones."""


_PAIRS = ((5, 5), (10, 10), (25, 25), (50, 50))
SETTINGS = (
    *(Setting(counts=counts, num_heads=64, separation=far) for counts in _PAIRS for far in (0.6, 1.2)),
    *(Setting(counts=(10, 10), num_heads=count) for count in (16, 256)),
    *(Setting(counts=counts, num_heads=64) for counts in ((15, 5), (75, 25))),
    *(Setting(counts=counts, num_heads=64, separation=1.2) for counts in ((30, 15, 5), (5,) * 7, (14,) * 7)),
    *(Setting(counts=(25, 25), num_heads=count, halved=True) for count in (64, 256)),
    *(Setting(counts=counts, num_heads=64, grouped=True) for counts in ((15, 15), (30, 30))),
)


def heads(rng: Any, count: int) -> list[Head]:
    """Draw configurations."""
    found = []
    for _ in range(count):
        size = int(rng.choice([3, 6, 12, 24, NUM_FEATURES]))
        features = rng.permutation(NUM_FEATURES)[:size] if rng.random() < 0.5 else np.arange(size)
        found.append(Head(HEADS[rng.integers(len(HEADS))], 10 ** rng.uniform(-2, 2), features))
    return found


def probabilities(head: Head, taught_LD: _Array, labels_L: _Indices, images_ND: _Array) -> _Array:
    """Fit a head and predict."""
    mean_D, spread_D = taught_LD.mean(0), taught_LD.std(0) + 1e-9
    taught_LD, images_ND = (((each - mean_D) / spread_D)[:, head.features] for each in (taught_LD, images_ND))
    logits_NK = head.fit(taught_LD, labels_L, images_ND, head.strength)
    odds_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return np.asarray(odds_NK / odds_NK.sum(1, keepdims=True))


class World:
    """Classes that images are drawn from."""

    def __init__(self, rng: Any, num_classes: int, separation: float) -> None:
        self._means_KD = (
            separation * rng.normal(size=(num_classes, NUM_FEATURES)) * np.exp(-np.arange(NUM_FEATURES) / 6)
        )

    def draw(self, rng: Any, counts: Sequence[int], group: int = 1) -> tuple[_Array, _Indices, _Indices]:
        """Images, labels and groups; those of a group share half of their variance."""
        labels_N = np.repeat(np.arange(len(counts)), counts)
        groups_N = np.concatenate([k * 10_000 + np.arange(count) // group for k, count in enumerate(counts)])
        shared_GD = rng.normal(size=(len(np.unique(groups_N)), NUM_FEATURES))
        own_ND = rng.normal(size=(len(labels_N), NUM_FEATURES))
        if group > 1:
            own_ND = (own_ND + shared_GD[np.unique(groups_N, return_inverse=True)[1]]) / 2**0.5
        return self._means_KD[labels_N] + own_ND, labels_N, groups_N


class Images:
    """Images of a data set; each draw takes some to label and leaves the others for the truth."""

    def __init__(self, dataset: str) -> None:
        source = open_source(dataset)
        splits = [split for split in ("train", "val") if split in source.splits]
        images_ND = np.concatenate([source.images(split).reshape(source.check_images(split), -1) for split in splits])
        self._labels_N = np.concatenate([source.labels(split) for split in splits])
        self._features_ND = PCA(NUM_FEATURES, random_state=0).fit_transform(images_ND / 255.0)
        self._free_N = np.ones(len(images_ND), bool)

    def draw(self, rng: Any, counts: Sequence[int], group: int = 1) -> tuple[_Array, _Indices, _Indices]:
        """Images, labels and groups; with the first draw of a search all are free again."""
        chosen = [
            rng.permutation(np.flatnonzero(self._free_N & (self._labels_N == k)))[:count]
            for k, count in enumerate(counts)
        ]
        places = np.concatenate(chosen)
        self._free_N[places] = False
        return self._features_ND[places], self._labels_N[places], places

    def free(self) -> None:
        """Make all images free again."""
        self._free_N[:] = True


_images = cache(Images)


class Outcome(NamedTuple):
    """One simulated search."""

    truth: float
    flattered: float
    estimate: float
    low: float
    high: float


def simulate(setting: Setting, seed: int) -> Outcome:
    """Label, search, estimate, and see."""
    rng, num_classes = np.random.default_rng(seed), len(setting.counts)
    world = _images(setting.dataset) if setting.dataset else World(rng, num_classes, setting.separation)
    if isinstance(world, Images):
        world.free()
    candidates = heads(rng, setting.num_heads)
    images_ND, labels_N, groups_N = world.draw(rng, setting.counts, GROUP if setting.grouped else 1)
    predictions = cross_validated(candidates, images_ND, labels_N, groups_N, seed)
    if setting.halved:
        early = weighted_scores(METRIC, predictions, (predictions.runs_N < 2).astype(float)[None])[0]
        kept = np.argsort(-early, kind="stable")[: len(early) // 3]
        candidates, predictions = [candidates[place] for place in kept], predictions.take(kept)
    once = np.ones((1, len(labels_N)))
    losses_C = weighted_scores("balanced_log_loss", predictions, once)[0]
    scores_C = weighted_scores(METRIC, predictions, once)[0]
    best = int((scores_C - 1e-9 * losses_C).argmax())
    others_ND, truth_N, _ = world.draw(rng, (NUM_TRUTH // num_classes,) * num_classes)
    named_N = probabilities(candidates[best], images_ND, labels_N, others_ND).argmax(1)
    times_BN = draw_images(labels_N, predictions.images_N, groups_N=groups_N, seed=seed)
    assert times_BN is not None
    found = expected(chosen_scores(predictions, times_BN, METRIC), METRIC, np.bincount(labels_N).tolist())
    assert found is not None
    truth = fmean(float((named_N[truth_N == k] == k).mean()) for k in range(num_classes))
    return Outcome(truth, float(scores_C[best]), found.score, found.low, found.high)


def cross_validated(
    candidates: Sequence[Head], images_ND: _Array, labels_N: _Indices, groups_N: _Indices, seed: int
) -> SharedPredictions:
    """Predictions of all images by models of the other folds."""
    by_class = [len(np.unique(groups_N[labels_N == k])) for k in np.unique(labels_N)]
    folds = StratifiedGroupKFold(min(5, *by_class), shuffle=True, random_state=seed)
    num_classes, runs_N = len(by_class), np.zeros(len(labels_N), np.int64)
    probs_CNK = np.zeros((len(candidates), len(labels_N), num_classes))
    for fold, (taught, held_out) in enumerate(folds.split(images_ND, labels_N, groups_N)):
        runs_N[held_out] = fold
        for c, head in enumerate(candidates):
            probs_CNK[c, held_out] = probabilities(head, images_ND[taught], labels_N[taught], images_ND[held_out])
    return SharedPredictions(
        probs_CNK=probs_CNK, named_CN=probs_CNK.argmax(2), labels_N=labels_N, runs_N=runs_N,
        images_N=np.arange(len(labels_N)), groups_N=groups_N,
    )  # fmt: skip


def summary(outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """Means over simulated searches, by the heads of columns."""
    return {
        "truth": fmean(each.truth for each in outcomes),
        "own": fmean(each.flattered - each.truth for each in outcomes),
        "bias": fmean(each.estimate - each.truth for each in outcomes),
        "holds": fmean(each.low <= each.truth <= each.high for each in outcomes),
        "width": fmean(each.high - each.low for each in outcomes),
    }


REAL = (
    *(Setting(counts=(count, count), num_heads=64, dataset="pneumoniamnist") for count in (5, 10, 20)),
    Setting(counts=(10, 10), num_heads=64, dataset="breastmnist"),
    Setting(counts=(6,) * 5, num_heads=64, dataset="retinamnist"),
    Setting(counts=(10,) * 7, num_heads=64, dataset="dermamnist"),
    Setting(counts=(5,) * 10, num_heads=64, dataset="digits"),
)
"""Searches on real images, where their files are in `$SPARSE_SEARCH_DATA`."""


def rows(settings: Sequence[Setting], num_draws: int) -> Iterator[str]:
    """Lines of the table."""
    yield "| labels of each class | configurations | truth | winner's own score | estimate | 95 % holds | width |"
    yield "|---|---" + "|---:" * 5 + "|"
    for setting in settings:
        found = summary([simulate(setting, seed) for seed in range(num_draws)])
        extra = (
            f" of {setting.dataset}" * bool(setting.dataset)
            + ", halved" * setting.halved
            + ", in groups of three" * setting.grouped
        )
        yield (
            f"| {', '.join(map(str, setting.counts))}{extra} | {setting.num_heads} | {found['truth']:.3f} "
            f"| {found['own']:+.3f} | {found['bias']:+.3f} | {found['holds']:.3f} | {found['width']:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400, help="simulated searches of each row")
    parser.add_argument("--real", action="store_true", help="on images of published data sets instead")
    asked = parser.parse_args()
    for line in rows(REAL if asked.real else SETTINGS, asked.draws):
        print(line, flush=True)


if __name__ == "__main__":
    main()
