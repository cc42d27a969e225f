"""How many trials diverge where a part of the space does, for every pruner: TPE against random search.

    python bench/diverging.py                 # a few minutes on an idle core
    python bench/diverging.py --seeds 2       # rougher

The real sampler, pruner and journal search five settings of `supervised` with made-up scores. Above some learning rate
every trial diverges: the last 10, 20 or 40 % of its range. The best lies a quarter of the range below that, or a tenth,
where a sampler that looks around the best is often over the edge. A trial that does not diverge reports at the rungs.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from math import log10
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search_spaces.core.config import MethodConfig
from sparse_search.search.choices import pruner_names
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.sweep import DatasetFacts, Study
from sparse_search.search.sweep_file import parse_sweep

SHARES = (0.1, 0.2, 0.4)
SAMPLERS = ("tpe", "random")
TRIALS, SEEDS = 60, 6
LOW, HIGH = -5.0, -1.0
"""Ends of the learning rate's range, as powers of ten."""

DISTANCES = (0.25, 0.1)
"""Of the best learning rate from the first that diverges, as shares of the range."""


def study_of(sampler: str, pruner: str, seed: int) -> Study:
    """A search of five settings, with rungs."""
    searched = {"lr": {"low": 10**LOW, "high": 10**HIGH}} | dict.fromkeys(
        ("dropout", "mixup_alpha", "beta1", "weight_decay")
    )
    body = {"trials": TRIALS, "presets": [], "settings": {"classifier": "test_resnet"}, "search": searched}
    sweep = parse_sweep({
        "name": "diverging", "datasets": ["digits"], "shots": [5], "sampler": sampler, "pruner": pruner, "seed": seed,
        "images": 27_000, "evaluate_every": 1000, "methods": {"supervised": body},
    })  # fmt: skip
    return sweep.studies({("digits", 5): DatasetFacts("hash", 50, 1000)})[0]


def score(config: MethodConfig, share: float, distance: float) -> float | None:
    """What the configuration would score; None where it diverges."""
    place = (log10(config.lr) - LOW) / (HIGH - LOW)  # type: ignore[attr-defined]
    if place > 1 - share:
        return None
    beside = 0.2 * abs(place - (1 - share - distance))
    others = 0.3 * abs(config.dropout - 0.05) + 0.2 * abs(config.mixup_alpha - 0.5)  # type: ignore[attr-defined]
    return 0.9 - beside - others


def searched(journal: StudyJournal, share: float, distance: float) -> tuple[float, float]:
    """Share of the trials that diverged, the default left out, and the best score."""
    diverged, best = [], 0.0
    steps = [rung.step for rung in journal.study.rungs[:-1]]
    for _ in range(TRIALS):
        trial, planned = journal.ask()  # type: ignore[misc]
        value = score(planned.config, share, distance)
        if "start" not in trial.user_attrs:
            diverged.append(value is None)
        if value is None:
            journal.reject(trial, "diverged", "loss became nan")
        elif any(journal.report(trial, step, value - 0.1 / step) for step in steps):
            journal.prune(trial)
        else:
            best = max(best, value)
            journal.complete(trial, value)
    return fmean(diverged), best


def searches(sampler: str, pruner: str, share: float, distance: float, num_seeds: int) -> Iterator[tuple[float, float]]:
    """The same of some searches."""
    for seed in range(num_seeds):
        with tempfile.TemporaryDirectory() as folder:
            journal = StudyJournal(study_of(sampler, pruner, seed), Journal(Path(folder) / "journal.log"))
            journal.propose_starts()
            yield searched(journal, share, distance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    print("| best beside by | of the space | pruner | of TPE's trials | of random ones | TPE's best | random's best |")
    print("|---|---|---|---|---|---|---|")
    for distance, share, pruner in product(DISTANCES, SHARES, pruner_names()):
        found = [list(searches(name, pruner, share, distance, given.seeds)) for name in SAMPLERS]
        (tpe, best), (random, chance) = ([fmean(each[kind] for each in cell) for kind in (0, 1)] for cell in found)
        words = f"{tpe:.0%} | {random:.0%} | {best:.3f} | {chance:.3f}"
        print(f"| {distance:.0%} of the range | {share:.0%} | `{pruner}` | {words} |", flush=True)


if __name__ == "__main__":
    main()
