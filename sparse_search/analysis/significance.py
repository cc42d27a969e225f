"""Tests that methods differ over datasets: pure functions of scores, one per dataset.

The dataset is the unit, as scores inside one are not independent. Tests are scipy's.

Source: Demšar, J. Mach. Learn. Res. 7 (2006) 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Correction = Literal["bh", "holm"]
MIN_DATASETS = 6
"""With fewer, no exact two-sided signed-rank test comes below 0.05: with five, 2 / 2⁵ is the least."""

_DECIMALS = 12
"""To which scores are equal: differences of printed numbers must tie where the numbers do."""


@dataclass(frozen=True)
class WinTieLoss:
    """On how many datasets one method is better, equal, worse."""

    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        return f"{self.wins}-{self.ties}-{self.losses}"


@dataclass(frozen=True)
class PairedTest:
    """Two methods over the same datasets."""

    a: str
    b: str
    difference: float
    """Mean of a - b."""

    record: WinTieLoss
    rank_biserial: float
    p_value: float
    """P-value of the two-sided Wilcoxon signed-rank test."""

    adjusted_p_value: float
    """For all pairs that were tested together."""


@dataclass(frozen=True)
class CriticalDifference:
    """Content of a critical-difference diagram; methods in the order of their mean ranks, 1 being the best."""

    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    critical_difference: float
    """Mean ranks closer than this are not told apart (Nemenyi)."""

    cliques: tuple[tuple[str, ...], ...]
    """Largest groups, of two or more, that are not told apart: the bars of the diagram."""

    friedman_p_value: float
    """That all are alike; where it is above `alpha` the diagram shows nothing."""

    alpha: float
    num_datasets: int


def win_tie_loss(differences: ArrayLike) -> WinTieLoss:
    """Counts of positive, zero and negative differences."""
    signs_D = np.sign(_rounded(differences))
    return WinTieLoss(*(int((signs_D == sign).sum()) for sign in (1, 0, -1)))


def wilcoxon_p_value(differences: ArrayLike) -> float:
    """Two-sided Wilcoxon signed-rank test, zeros dropped; 1 where all are zero. Exact up to 50 differences."""
    from scipy.stats import wilcoxon

    differences_D = _rounded(differences)
    differences_D = differences_D[differences_D != 0]
    if not len(differences_D):
        return 1.0
    if len(differences_D) <= 50 and len(np.unique(np.abs(differences_D))) < len(differences_D):
        return _exact_with_ties(differences_D)
    return float(wilcoxon(differences_D).pvalue)


def _exact_with_ties(differences_D: NDArray[np.float64]) -> float:
    """The share of all 2ⁿ sign flips that are as extreme, counted rank by rank.

    scipy flips them one by one, a second for eleven differences, and not at all beyond thirteen.

    Source: Streitberg & Röhmel, Statistical Software Newsletter 12 (1986) 10.
    """
    from scipy.stats import rankdata

    doubled_D = np.round(2 * rankdata(np.abs(differences_D))).astype(int)  # ranks of ties are halves
    shares = np.ones(1)
    for rank in doubled_D:
        shares = (np.pad(shares, (0, rank)) + np.pad(shares, (rank, 0))) / 2
    observed = doubled_D[differences_D > 0].sum()
    return float(min(1.0, 2 * min(shares[: observed + 1].sum(), shares[observed:].sum())))


def rank_biserial(differences: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation in [-1, 1]: share of the rank sum for a less that for b, zeros dropped.

    Source: Kerby, Comprehensive Psychology 3 (2014) 11.IT.3.1.
    """
    from scipy.stats import rankdata

    differences_D = _rounded(differences)
    differences_D = differences_D[differences_D != 0]
    ranks_D = rankdata(np.abs(differences_D))
    return float((ranks_D * np.sign(differences_D)).sum() / ranks_D.sum()) if len(ranks_D) else 0.0


def adjusted_p_values(p_values: Sequence[float], correction: Correction = "bh") -> list[float]:
    """P-values for several tests at once, in the given order.

    `bh` bounds the share of false discoveries (Benjamini & Hochberg, J. R. Stat. Soc. B 57 (1995) 289), `holm` the
    chance of any (Holm, Scand. J. Stat. 6 (1979) 65).
    """
    from scipy.stats import false_discovery_control

    if correction == "bh":
        return [float(p) for p in false_discovery_control(p_values)]
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return [float(p) for p in adjusted]


def paired_tests(scores: Mapping[str, Sequence[float]], correction: Correction = "bh") -> tuple[PairedTest, ...]:
    """All pairs of methods, tested together; scores are per method, datasets in the same order, larger is better."""
    pairs = [(a, b, _rounded(scores[a]) - _rounded(scores[b])) for a, b in combinations(scores, 2)]
    p_values = [wilcoxon_p_value(differences) for _, _, differences in pairs]
    return tuple(
        PairedTest(a, b, float(differences.mean()), win_tie_loss(differences), rank_biserial(differences), p, adjusted)
        for (a, b, differences), p, adjusted in zip(
            pairs, p_values, adjusted_p_values(p_values, correction), strict=True
        )
    )


def critical_difference(scores: Mapping[str, Sequence[float]], alpha: float = 0.05) -> CriticalDifference:
    """Friedman's test and Nemenyi's critical difference of three methods or more.

    Args:
        scores: per method, datasets in the same order, larger is better.
        alpha: chance of telling any two equal methods apart.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    table_DM = _rounded(list(scores.values())).T
    num_datasets, num_methods = table_DM.shape
    mean_M = rankdata(-table_DM, axis=1).mean(0)
    quantile = studentized_range.ppf(1 - alpha, num_methods, np.inf) / 2**0.5
    least = float(quantile * (num_methods * (num_methods + 1) / (6 * num_datasets)) ** 0.5)
    order = np.argsort(mean_M, kind="stable")
    names = [list(scores)[position] for position in order]
    ranks = [float(mean_M[position]) for position in order]
    alike = bool((table_DM == table_DM[:, :1]).all())
    return CriticalDifference(
        methods=tuple(names),
        mean_ranks=tuple(ranks),
        critical_difference=least,
        cliques=_cliques(names, ranks, least),
        friedman_p_value=1.0 if alike else float(friedmanchisquare(*table_DM.T).pvalue),
        alpha=alpha,
        num_datasets=num_datasets,
    )


def _cliques(names: Sequence[str], ranks: Sequence[float], least: float) -> tuple[tuple[str, ...], ...]:
    """Maximal runs of sorted methods whose ends are closer than the least difference."""
    found: list[tuple[str, ...]] = []
    reached = 0
    for first, rank in enumerate(ranks):
        end = first + sum(other - rank < least for other in ranks[first:])
        if end - first > 1 and end > reached:
            found.append(tuple(names[first:end]))
            reached = end
    return tuple(found)


def _rounded(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(np.round(np.asarray(values, np.float64), _DECIMALS), np.float64)
