"""What a search has to train until its selected configuration is as good on test images as a rival's.

    python bench/search_quality.py               # ours, random search and ASHA: half a minute
    python bench/search_quality.py --variants    # ours with other rungs and rules beside them
    python bench/search_quality.py --resampled   # more configurations and label sets than were recorded

Every simulated search draws recorded configurations in a random order, with the label sets in a random order too, and
pays for training in units of one full run: a configuration that reaches a rung has paid the rung's share of the budget
for each of its label sets. It selects by the recorded validation scores alone and is judged by its selection's worth:
the mean test balanced accuracy over all recorded label sets. Searches with the same seed see the same order. Intervals
(95 %) are bootstraps over the simulated searches: they say nothing about other configurations, methods or datasets.
Five label sets are recorded: ours searches on one and confirms its best four on the four others.

`--resampled` draws with replacement, so that a search can have more configurations and label sets than were recorded.
A score is then the sum of what the configuration and the budget explain, of what the drawn label set adds for every
configuration, and of a residual of this configuration, each drawn anew: a repeated draw stands for a similar one.

Shapes: B searches, C recorded configurations, N drawn ones, S label sets, R rungs, E ends of a search, W weightings of
searches.
"""

import argparse
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TABLE = Path(__file__).parent / "data" / "replay.parquet"
BUDGETS = (1 / 27, 1 / 9, 1 / 3, 1.0)
TRAININGS = (8, 16, 32, 64, 128, 256)
"""Full trainings of a random search: what it reaches with them is a target, and what all may spend."""

MAX_ENDS = 64
MAX_LABEL_SETS = 9
"""As the default protocol can use: five in the search and four in the confirmation."""

VARIANT_TRAININGS = (16, 32, 64)
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Search:
    """A way to spend trainings on configurations drawn at random."""

    name: str
    label_sets: tuple[int, int, int, int]
    """Label sets at 1/27, 1/9, 1/3 and all of the budget, never fewer than before; with 0 there is no rung."""

    confirm: int = 0
    """Best configurations that are trained on further label sets at the end."""

    further: int = 4
    """How many further label sets, or as many as were recorded."""

    reduction: int = 3
    spared: int = 0
    """The first so many at a rung go on whatever they score."""

    together: bool = False
    """Whether a rung is judged when all have reached it, instead of each on arrival."""


OURS = Search("ours", (1, 1, 1, 1), confirm=4, reduction=2)
RIVALS = (
    Search("random", (0, 0, 0, 1)),
    Search("random x5", (0, 0, 0, 5)),
    Search("ASHA", (1, 1, 1, 1)),
)
FIVE = Search("five label sets", (1, 1, 3, 5), confirm=4)
"""What was planned first: label sets are added on the way up, and a confirmation needs nine."""

VARIANTS = (
    OURS,
    FIVE,
    replace(OURS, name="not confirmed", confirm=0),
    replace(OURS, name="2 confirmed", confirm=2),
    replace(OURS, name="8 confirmed", confirm=8),
    replace(OURS, name="rungs 1 1 1 5", label_sets=(1, 1, 1, 5)),
    replace(OURS, name="rungs 1 3 5 5", label_sets=(1, 3, 5, 5)),
    replace(OURS, name="rungs 1 1 3 3", label_sets=(1, 1, 3, 3)),
    replace(OURS, name="rungs 1 1 2 3", label_sets=(1, 1, 2, 3), further=2),
    replace(OURS, name="rungs - 1 3 5", label_sets=(0, 1, 3, 5)),
    replace(OURS, name="rungs - 3 3 5", label_sets=(0, 3, 3, 5)),
    replace(OURS, name="rungs - - 3 5", label_sets=(0, 0, 3, 5)),
    replace(OURS, name="rungs - - 1 5", label_sets=(0, 0, 1, 5)),
    replace(OURS, name="together", together=True),
    replace(OURS, name="reduction 3", reduction=3),
    replace(OURS, name="reduction 4", reduction=4),
    replace(OURS, name="together, rungs - 1 1 1", label_sets=(0, 1, 1, 1), together=True),
    replace(FIVE, name="five label sets, reduction 2", reduction=2),
    replace(OURS, name="3 spared", spared=3),
    replace(OURS, name="6 spared", spared=6),
)


@dataclass(frozen=True)
class Cell:
    """Everything recorded of a method on a dataset."""

    name: str
    validation_CSR: Floats
    """0 where training diverged."""

    worth_C: Floats


def read_cells(file: Path = TABLE) -> list[Cell]:
    """The cells of a table, each with the label sets that all of its configurations have."""
    frame = pq.read_table(file).to_pandas().fillna({"validation": 0.0, "test": 0.0})
    cells = {}
    for name, part in frame.sort_values(["config", "label_set", "images"]).groupby("cell", observed=True):
        part = part[part.groupby("label_set")["config"].transform("nunique") == part["config"].nunique()]
        shape = (part["config"].nunique(), part["label_set"].nunique(), len(BUDGETS))
        validation_CSR, test_CSR = (part[what].to_numpy(np.float64).reshape(shape) for what in ("validation", "test"))
        cells[str(name)] = Cell(str(name), validation_CSR, test_CSR[:, :, -1].mean(1))
    return [*cells.values(), *_pooled(cells)]


def _pooled(cells: Mapping[str, Cell]) -> Iterator[Cell]:
    """Of each dataset, the configurations of all methods: the label sets are the same."""
    for dataset in sorted({name.split("/")[1] for name in cells}):
        parts = [cell for name, cell in cells.items() if name.endswith(f"/{dataset}")]
        num_sets = min(cell.validation_CSR.shape[1] for cell in parts)
        validation_CSR = np.concatenate([cell.validation_CSR[:, :num_sets] for cell in parts])
        yield Cell(f"all/{dataset}", validation_CSR, np.concatenate([cell.worth_C for cell in parts]))


# One search


def draw(cell: Cell, seed: int, num_resampled: int = 0) -> tuple[Floats, Floats]:
    """Validation scores (N, S, R) and worths (N,) of configurations and label sets in the order in which they come."""
    generator = np.random.default_rng(seed)
    num_configs, num_sets, _ = cell.validation_CSR.shape
    if not num_resampled:
        order_C, sets_S = generator.permutation(num_configs), generator.permutation(num_sets)
        return cell.validation_CSR[order_C][:, sets_S], cell.worth_C[order_C]
    order_N = generator.integers(num_configs, size=num_resampled)
    sets_S = generator.integers(num_sets, size=MAX_LABEL_SETS)
    own_NS = generator.integers(num_sets, size=(num_resampled, MAX_LABEL_SETS))
    of_configs_C1R = cell.validation_CSR.mean(1, keepdims=True)
    of_sets_1SR = cell.validation_CSR.mean(0, keepdims=True) - of_configs_C1R.mean(0, keepdims=True)
    residuals_CSR = cell.validation_CSR - of_configs_C1R - of_sets_1SR
    drawn_NSR = of_configs_C1R[order_N] + of_sets_1SR[:, sets_S] + residuals_CSR[order_N[:, None], own_NS]
    return drawn_NSR, cell.worth_C[order_N]


def climb(values_NR: Sequence[Sequence[float]], reduction: int = 3, spared: int = 0) -> list[int]:
    """The rung at which each configuration ends, judged on arrival as by Optuna's SuccessiveHalvingPruner.

    It goes on when it is among the best 1 / reduction of those that have reached the rung, itself included; while these
    are fewer than `reduction`, when it is the best. Nothing stops at the last rung.
    """
    reached_N: list[int] = []
    earlier: list[list[float]] = [[] for _ in values_NR[0]]
    for values in values_NR:
        for rung, value in enumerate(values):
            insort(earlier[rung], value)
            num_here = len(earlier[rung])
            num_better = num_here - bisect_right(earlier[rung], value)
            if num_here > spared and num_better >= max(num_here // reduction, 1):
                break
        reached_N.append(rung)
    return reached_N


def climb_together(values_NR: Floats, reduction: int) -> list[int]:
    """The rung at which each configuration ends, when a third (a half, …) of all that reached a rung goes on."""
    reached_N, left = np.zeros(len(values_NR), int), np.arange(len(values_NR))
    for rung in range(1, values_NR.shape[1]):
        best_first = left[np.argsort(-values_NR[left, rung - 1], kind="stable")]
        left = best_first[: max(len(left) // reduction, 1)]
        reached_N[left] = rung
    return reached_N.tolist()


def simulate(search: Search, values_NSR: Floats, worth_N: Floats) -> tuple[Floats, Floats]:
    """Compute and worth of the selected configuration, (E,) each, of searches that end after 1, 2, … N configurations.

    The E ends are at most `MAX_ENDS`, denser where there are few configurations.
    """
    numbers = sorted({round(n) for n in np.geomspace(1, len(worth_N), MAX_ENDS)})
    rungs = [rung for rung, count in enumerate(search.label_sets) if count]
    counts = [search.label_sets[rung] for rung in rungs]
    values_NR = np.stack([values_NSR[:, :count, rung].mean(1) for rung, count in zip(rungs, counts, strict=True)], 1)
    price_R = np.array([count * BUDGETS[rung] for rung, count in zip(rungs, counts, strict=True)])
    num_further = min(search.further, values_NSR.shape[1] - counts[-1])
    confirmed_N = values_NSR[:, : counts[-1] + num_further, -1].mean(1)

    if search.together:
        ends = [climb_together(values_NR[:n], search.reduction) for n in numbers]
    else:
        on_arrival = climb(values_NR.tolist(), search.reduction, search.spared)
        ends = [on_arrival[:n] for n in numbers]
    compute_E, selected_E = np.empty(len(ends)), np.empty(len(ends))
    for end, reached in enumerate(ends):
        complete = np.flatnonzero(np.equal(reached, len(rungs) - 1))
        best_first = complete[np.argsort(-values_NR[complete, -1], kind="stable")]
        compute_E[end] = price_R[reached].sum()
        chosen = best_first[0]
        if search.confirm and num_further:
            finalists = best_first[: search.confirm]
            compute_E[end] += len(finalists) * num_further
            chosen = finalists[confirmed_N[finalists].argmax()]
        selected_E[end] = worth_N[chosen]
    return compute_E, selected_E


# Many searches


@dataclass(frozen=True)
class Curves:
    """What searches of one kind spent and found, by number of configurations."""

    compute_BE: Floats
    worth_BE: Floats

    def averaged(self, weights_WB: Floats) -> list[tuple[Floats, Floats]]:
        """Mean compute (E,) and worth (E,) for each weighting of the searches."""
        return list(zip(weights_WB @ self.compute_BE, weights_WB @ self.worth_BE, strict=True))


Found = Sequence[tuple[Cell, Mapping[str, Curves]]]


def run_searches(
    searches: Sequence[Search], cell: Cell, num_searches: int, num_resampled: int = 0
) -> Mapping[str, Curves]:
    """Each kind of search on the same draws."""
    draws = [draw(cell, seed, num_resampled) for seed in range(num_searches)]
    curves = {}
    for search in searches:
        compute_BE, worth_BE = zip(*(simulate(search, *drawn) for drawn in draws), strict=True)
        curves[search.name] = Curves(np.array(compute_BE), np.array(worth_BE))
    return curves


def weightings(num_searches: int) -> Floats:
    """All searches alike first, then bootstraps of them (1 + RESAMPLES, B)."""
    resampled = np.random.default_rng(0).multinomial(num_searches, [1 / num_searches] * num_searches, RESAMPLES)
    return np.vstack([np.ones(num_searches), resampled]) / num_searches


def compute_for(target: float, compute_E: Floats, worth_E: Floats) -> float:
    """The least mean compute at which the mean worth is reached; infinite where it never is."""
    best_E = np.maximum.accumulate(worth_E)
    first = int(np.searchsorted(best_E, target - 1e-12))
    if first == len(best_E):
        return np.inf
    if first == 0:
        return float(compute_E[0])
    return float(np.interp(target, best_E[first - 1 : first + 1], compute_E[first - 1 : first + 1]))


def reached_by(compute: float, compute_E: Floats, worth_E: Floats) -> float:
    """The best mean worth up to a mean compute, NaN beyond the last: more trainings can be worse, by luck selected."""
    return worth_at(compute, compute_E, np.maximum.accumulate(worth_E))


def worth_at(compute: float, compute_E: Floats, worth_E: Floats) -> float:
    """The mean worth for a mean compute; NaN where no search ends with so little or so much."""
    return float(np.interp(compute, compute_E, worth_E, left=np.nan, right=np.nan))


# The tables


def equal_worth(cell: Cell, curves: Mapping[str, Curves], own: str) -> list[list[str]]:
    """Compute for equal worth; one line for each target."""
    weights_WB = weightings(len(curves[own].worth_BE))
    means = {name: each.averaged(weights_WB) for name, each in curves.items()}
    lines = []
    for trainings in TRAININGS:
        targets = [reached_by(trainings, *mean) for mean in means["random"]]
        if np.isnan(targets[0]):
            continue
        needed = {
            name: np.array([compute_for(target, *mean) for target, mean in zip(targets, means[name], strict=True)])
            for name in curves
        }
        ratios = [ratio(needed[name], needed[own]) for name in curves if name != own]
        spent = [shown(needed[name][0], 1) for name in curves]
        lines.append([cell.name, f"{targets[0]:.3f} (random, {trainings})", *spent, *ratios])
    return lines


def shown(number: float, digits: int) -> str:
    return f"{number:.{digits}f}" if np.isfinite(number) else "-"


def ratio(rivals_W: Floats, ours_W: Floats) -> str:
    """How many times more a rival needs, with an interval; inf where it never gets there, 0 where ours does not."""
    with np.errstate(invalid="ignore"):
        ratios_W = np.where(np.isinf(ours_W), np.where(np.isinf(rivals_W), np.nan, 0.0), rivals_W / ours_W)
    if np.isnan(ratios_W[0]):
        return "-"
    low, high = np.percentile(ratios_W[~np.isnan(ratios_W)], INTERVAL, method="nearest")
    return f"{ratios_W[0]:.2f} [{low:.2f}, {high:.2f}]"


def equal_compute(cell: Cell, curves: Mapping[str, Curves], own: str) -> list[list[str]]:
    """Worth for equal compute, and what ours gains or loses; one line for each compute."""
    weights_WB = weightings(len(curves[own].worth_BE))
    means = {name: each.averaged(weights_WB) for name, each in curves.items()}
    lines = []
    for compute in TRAININGS:
        found = {name: np.array([worth_at(compute, *mean) for mean in means[name]]) for name in curves}
        if all(np.isnan(worths[0]) for worths in found.values()):
            continue
        gains = [gain(found[own] - found[name]) for name in curves if name != own]
        worths = [shown(found[name][0], 3) for name in curves]
        lines.append([cell.name, str(compute), *worths, *gains])
    return lines


def gain(difference: Floats) -> str:
    if np.isnan(difference[0]):
        return "-"
    low, high = np.nanpercentile(difference[1:], INTERVAL)
    return f"{difference[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def side_by_side(found: Found, trainings: int) -> list[list[str]]:
    """One line for each search: in each cell its compute for the worth of a random search, and its worth for equal."""
    (_, some), *_ = found
    once_1B = weightings(some[OURS.name].worth_BE.shape[0])[:1]
    lines = []
    for name in some:
        line = [name]
        for _, curves in found:
            (of_random,), (mean,) = (curves[known].averaged(once_1B) for known in ("random", name))
            needed = compute_for(reached_by(trainings, *of_random), *mean)
            line.append(f"{shown(needed, 1)}, {shown(worth_at(trainings, *mean), 3)}")
        lines.append(line)
    return lines


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """As Markdown, the columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    for row in ruled:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--searches", type=int, default=1000, help="simulated for each kind of search and cell")
    parser.add_argument("--variants", action="store_true", help="of ours, beside its rivals")
    parser.add_argument("--resampled", type=int, nargs="?", const=1000, default=0, help="configurations to draw")
    given = parser.parse_args()
    searches = (*RIVALS, *VARIANTS) if given.variants else (*RIVALS, OURS)
    cells = read_cells(given.table)
    found = [(cell, run_searches(searches, cell, given.searches, given.resampled)) for cell in cells]

    print(f"{given.searches} searches of each kind; compute in full trainings, worth as mean test balanced accuracy\n")
    for cell in cells:
        configs, sets, _ = cell.validation_CSR.shape
        print(f"- {cell.name}: {configs} configurations on {sets} label sets, worths {percentiles(cell.worth_C)}")
    if given.variants:
        print_variants(found)
    else:
        print_rivals(found)


def print_rivals(found: Found) -> None:
    names, rivals = [*(search.name for search in RIVALS), OURS.name], [search.name for search in RIVALS]
    print("\nCompute for equal worth; the ratios say how many times more a rival needs (> 1: ours needs less)\n")
    header = ["cell", "worth", *names, *(f"{name} / {OURS.name}" for name in rivals)]
    print_table([header, *(line for cell, curves in found for line in equal_worth(cell, curves, OURS.name))])
    print("\nWorth for equal compute; what ours gains (+) or loses (-)\n")
    header = ["cell", "compute", *names, *(f"{OURS.name} - {name}" for name in rivals)]
    print_table([header, *(line for cell, curves in found for line in equal_compute(cell, curves, OURS.name))])


def print_variants(found: Found) -> None:
    for trainings in VARIANT_TRAININGS:
        print(f"\nCompute for what random search reaches with {trainings} trainings, worth with as many\n")
        print_table([["search", *(cell.name for cell, _ in found)], *side_by_side(found, trainings)])


def percentiles(worth_C: Floats) -> str:
    low, middle, high, best = np.percentile(worth_C, (10, 50, 90, 100))
    return f"{low:.3f} / {middle:.3f} / {high:.3f} (10th, 50th, 90th percentile), the best {best:.3f}"


if __name__ == "__main__":
    main()
