"""What the shell does, from Python or a notebook: define a sweep, run it, look, export."""

# %% A sweep is plain values: the same keys as in a YAML file.
import tempfile
from pathlib import Path

import sparse_search

results = Path(tempfile.mkdtemp(prefix="sparse-search-"))

sweep = {
    "name": "notebook",
    "datasets": ["digits"],
    "shots": [5],
    "image_size": 16,
    "label_sets": [0, 1],
    "confirm": 1,
    "confirm_label_sets": 1,
    "images": 540,
    "methods": {
        "supervised": {
            "trials": 3,
            "settings": {"classifier": "test_resnet", "lr": 1e-3},
            "search": ["lr", "rotation"],
        },
        "constant": {},
    },
}

# %% Run it. Interrupt it, run the cell again: it goes on.
summary = sparse_search.run(sweep, results)
print(summary.studies)

# %% The leaderboard is a DataFrame.
frame = sparse_search.leaderboard(results, dataset="digits", shots=5)
print(frame[["rank", "predictor", "start", "balanced_accuracy", "low", "high", "train_seconds"]].to_string())

# %% Everything on one page, to open in a browser.
print(sparse_search.report(results, results / "report.html"))

# %% What to take, and what to expect of it on new images.
print(sparse_search.recommend(results, dataset="digits", shots=5).sentence)

# %% The average of what was tried, ready for `python -m trainables --config`; `single=True` gives one configuration.
best = sparse_search.export(results, dataset="digits", shots=5, output=results / "best.yaml")
print(results / "best.yaml", best["evidence"]["best_of"])
