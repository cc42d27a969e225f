"""The table of docs/sparse.md: SPARSE beside its floors on real images.

    python examples/few_shot_table.py --data-root DIR

DIR holds pneumoniamnist.npz and dermamnist.npz, or is empty where they can be downloaded. Runs the sweep beside it
(or goes on with it, or only reads it when it is done) and prints a Markdown table: balanced accuracy on each label
set, their mean, and two intervals of 95 %, as there are two reasons to doubt it: other labelled images (Student's t
over the label sets) and other validation images (Wilson, from their number alone).
"""

import argparse
from pathlib import Path

import pandas as pd
from rich.console import Console
from scipy.stats import t

import sparse_search

SWEEP = Path(__file__).parent / "sweeps" / "few_shot_table.yaml"
NAMES = {"default": "", "reference": ", settings of the published code"}
LINE = "| {dataset} | {shots} | {method} | {scores} | {mean:.3f} | {over_label_sets} | {over_images} | {seconds:.0f} |"


def main() -> None:
    """Run the sweep and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="default: $SPARSE_SEARCH_DATA, else ~/.medmnist")
    parser.add_argument("--results", default="results/few-shot-table", metavar="PLACE")
    options = parser.parse_args()
    sparse_search.run(SWEEP, options.results, data_root=options.data_root, console=Console(stderr=True))
    runs = sparse_search.read_store(options.results).runs().to_pandas()
    ranked = sparse_search.leaderboard(options.results, every=True, averages=False).set_index(["trial_id", "predictor"])
    print("| data | shots | method | label sets 0, 1, 2 | mean | over label sets | over images | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    order = ["dataset", "shots", "method", "start", "predictor"]
    for (dataset, shots, _, start, predictor), cell in runs.groupby(order):
        print(line(dataset, shots, predictor + NAMES[start], cell.sort_values("label_set"), ranked))


def line(dataset: str, shots: int, method: str, cell: pd.DataFrame, ranked: pd.DataFrame) -> str:
    """Return the row of one configuration and predictor on one data set and shot count."""
    scores = cell["balanced_accuracy"]
    half = t.ppf(0.975, len(scores) - 1) * scores.std() / len(scores) ** 0.5
    key = (cell["trial_id"].iloc[0], cell["predictor"].iloc[0])
    known = key in ranked.index  # what collapsed on every label set is not ranked
    return LINE.format(
        dataset=dataset,
        shots=shots,
        method=method + ("" if known else f" ({cell['status'].iloc[0]})"),
        scores=", ".join(f"{score:.3f}" for score in scores),
        mean=scores.mean(),
        over_label_sets=f"{max(0.0, scores.mean() - half):.2f}–{min(1.0, scores.mean() + half):.2f}",
        over_images=f"{ranked.loc[key, 'low']:.2f}–{ranked.loc[key, 'high']:.2f}" if known else "-",
        seconds=cell["train_seconds"].mean(),
    )


if __name__ == "__main__":
    main()
