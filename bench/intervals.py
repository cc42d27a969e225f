"""How often 95 % intervals hold the truth: simulated evaluations of known quality, for every interval over images.

Scores of the classes are Gaussian, that of the true class shifted; the truth is the score of 200,000 images with the
same shares of classes. `python bench/intervals.py --draws 200` is a short form.

Shapes: N images, K classes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.image_intervals import score_interval
from sparse_search.analysis.statistics import ScoredSetting, bootstrap_interval, selection_optimism
from trainables.metrics.classes import ClassScores, score
from trainables.metrics.counts import score_of

METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "auroc")
LABEL_SETS = (1, 2, 5)
COUNTS: Sequence[tuple[int, ...]] = (
    (5, 5), (10, 10), (40, 10), (100, 100), (10, 10, 10), (30, 15, 5), (10,) * 5, (40,) * 5, (5,) * 7, (20,) * 7,
)  # fmt: skip
"""Images of each class."""

SHIFTS = (0.5, 1.5)
GAINS = ((0.6, 0.1), (0.8, 0.05), (0.8, 0.2))
"""Shares that the worse of two methods names rightly, and how much more the better one does."""

ALIKE = 0.7
"""Share of images that are as hard for the one as for the other."""


def evaluated(rng: Any, counts: Sequence[int], shift: float) -> ClassScores:
    labels_N = np.repeat(np.arange(len(counts)), counts)
    logits_NK = rng.normal(size=(len(labels_N), len(counts)))
    logits_NK[np.arange(len(labels_N)), labels_N] += shift
    odds_NK = np.exp(logits_NK)
    return score(odds_NK / odds_NK.sum(1, keepdims=True), labels_N)


def coverage(rng: Any, counts: Sequence[int], num_label_sets: int, shift: float, num_draws: int) -> dict[str, float]:
    """Share of intervals over images that hold the truth, by metric."""
    scale = 200_000 // sum(counts)
    whole = evaluated(rng, [scale * count for count in counts], shift)
    held: dict[str, list[bool]] = {name: [] for name in METRICS}
    for _ in range(num_draws):
        found = [evaluated(rng, counts, shift) for _ in range(num_label_sets)]
        for name in METRICS:
            mean = fmean(each.metric(name) or 0.0 for each in found)
            low, high = score_interval([each.confusion for each in found], name, score=mean) or (0.0, 0.0)
            held[name].append(low - 1e-9 <= (whole.metric(name) or 0.0) <= high + 1e-9)
    return {name: float(np.mean(each)) for name, each in held.items()}


def images_table(num_draws: int) -> list[str]:
    """Lines of the table of intervals over images; the worst of the two shifts."""
    rng, lines = np.random.default_rng(0), []
    for counts in COUNTS:
        for label_sets in LABEL_SETS:
            each = [coverage(rng, counts, label_sets, shift, num_draws) for shift in SHIFTS]
            cells = [f"{min(e[m] for e in each):.3f}–{max(e[m] for e in each):.3f}" for m in METRICS]
            lines.append(f"| {', '.join(map(str, counts))} | {label_sets} | {' | '.join(cells)} |")
    return lines


def power(num_draws: int) -> str:
    """Line of `compare` on eleven data sets: coverage, and how often .05 is found, beside a t interval."""
    from scipy.stats import ttest_1samp

    rng, held, found, by_t = np.random.default_rng(1), [], [], []
    for _ in range(num_draws):
        effects_D = 0.05 + rng.normal(0, 0.03, 11)
        scores_DS = effects_D[:, None] + rng.normal(0, 0.09, (11, 4))
        cells = [ScoredSetting(dataset=str(d), scores=tuple(row)) for d, row in enumerate(scores_DS)]
        low, high = bootstrap_interval(cells, "accuracy", draw_datasets=True, num_draws=1000) or (0.0, 0.0)
        held.append(low <= 0.05 <= high)
        found.append(low > 0)
        by_t.append(ttest_1samp(scores_DS.mean(1), 0).confidence_interval(0.95).low > 0)
    return f"| {np.mean(held):.3f} | {np.mean(found):.3f} | {np.mean(by_t):.3f} |"


def paired_table(num_draws: int) -> list[str]:
    """Lines of `compare` on one label set: coverage, and widths beside that without what both name on each image."""
    rng, lines = np.random.default_rng(3), []
    for counts in COUNTS:
        held, widths = zip(*(_paired(rng, counts, *gain, num_draws) for gain in GAINS), strict=True)
        label = ", ".join(map(str, counts))
        lines.append(f"| {label} | {min(held):.3f}–{max(held):.3f} | {min(widths):.2f}–{max(widths):.2f} |")
    return lines


def _paired(
    rng: np.random.Generator, counts: Sequence[int], share: float, gain: float, num_draws: int
) -> tuple[float, float]:
    """Share of intervals of balanced accuracy that hold the gain, and their width beside that of unpaired ones."""
    held, widths = [], []
    for _ in range(num_draws):
        joint_KKK = joint_table(rng, counts, share, gain)
        first_KK, second_KK = joint_KKK.sum(2), joint_KKK.sum(1)
        difference = float(score_of(first_KK, "balanced_accuracy") - score_of(second_KK, "balanced_accuracy"))
        cell = ScoredSetting(
            dataset="a", scores=(difference,), confusions=(first_KK.tolist(),), rivals=(second_KK.tolist(),)
        )
        paired, apart = (
            bootstrap_interval([each], "balanced_accuracy", num_draws=500) or (difference, difference)
            for each in (replace(cell, joints=(joint_KKK,)), cell)
        )
        held.append(paired[0] - 1e-9 <= gain <= paired[1] + 1e-9)
        widths.append((paired[1] - paired[0], apart[1] - apart[0]))
    ours, theirs = np.mean(widths, axis=0)
    return float(np.mean(held)), float(ours / theirs)


def joint_table(rng: np.random.Generator, counts: Sequence[int], share: float, gain: float) -> NDArray[np.int64]:
    """What two methods name (K, K, K) on images of which most are as hard for the one as for the other."""
    joint_KKK = np.zeros((len(counts),) * 3, np.int64)
    for k, count in enumerate(counts):
        hard_N = rng.random(count)
        other_N = np.where(rng.random(count) < ALIKE, hard_N, rng.random(count))
        wrong = (k + 1) % len(counts)
        first_N, second_N = np.where(hard_N < share + gain, k, wrong), np.where(other_N < share, k, wrong)
        np.add.at(joint_KKK, (k, first_N, second_N), 1)
    return joint_KKK


def optimism_table(num_draws: int) -> list[str]:
    """Lines of the optimism: real and estimated in points, for configurations that differ as much as label sets."""
    rng, lines = np.random.default_rng(2), []
    for num_configs in (16, 64, 256):
        true_NC = rng.normal(0.7, 0.03, (num_draws, num_configs))
        seen_NCS = true_NC[:, :, None] + rng.normal(0, 0.05, (num_draws, num_configs, 4))
        best_N = seen_NCS.mean(2).argmax(1)
        rows_N = np.arange(num_draws)
        real = (seen_NCS.mean(2) - true_NC)[rows_N, best_N].mean()
        told = fmean(found.bias for table in seen_NCS if (found := selection_optimism(table)))
        firsts = fmean(rng.normal(0.7, 0.05, (num_draws, num_configs)).argmax(1) == 0)
        lines.append(f"| {num_configs} | {100 * real:.1f} | {100 * told:.1f} | {firsts:.4f} | {1 / num_configs:.4f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="simulated evaluations of each row")
    draws = parser.parse_args().draws
    print(f"| images of each class | label sets | {' | '.join(METRICS)} |\n| --- | ---: | {'---: | ' * len(METRICS)}")
    print("\n".join(images_table(draws)))
    print("\n| compare, 11 data sets: coverage | .05 found | by a t interval |\n| ---: | ---: | ---: |")
    print(power(draws))
    print(
        "\n| images of each class | compare, one label set: coverage | width beside unpaired |\n| --- | ---: | ---: |"
    )
    print("\n".join(paired_table(draws)))
    print("\n| configurations | flattered, points | estimated | first is best | chance |\n" + "| ---: " * 5 + "|")
    print("\n".join(optimism_table(draws)))


if __name__ == "__main__":
    main()
