"""How long all averages of a board take, computed from the predictions of runs that are kept in a file each.

    python bench/averages.py            # 2,000 runs of 500 images of two classes; a minute or two to write them
    python bench/averages.py --quick    # a few runs, to see that it runs

Beside the averages (by each rule, and of each method) a line says what reading the files takes alone, and what
`recommend` takes, which draws the images 500 times. Seconds of the processor, on one core, and of the clock.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparse_search.analysis.average_rows import average_trials
from sparse_search.analysis.kept_predictions import kept_predictions
from sparse_search.best.recommendation import recommend
from sparse_search.results.store import Store
from sparse_search.results.trials import trials_of
from tests.sparse_search.kept import fill


def main() -> None:
    """Write runs, and print what averages of them take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    num_runs, num_images = (40, 20) if parser.parse_args().quick else (2_000, 500)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results")
        store.prepare()
        skills = np.random.default_rng(0).uniform(0.3, 1.2, num_runs)
        parts = {"supervised": skills[num_runs // 4 :], "probe": skills[: num_runs // 4]}
        fill(store, skills=parts, num_images=num_images, validation="official")
        trials = trials_of(store.runs())
        rows = trials.to_pylist()
        print(f"{num_runs} runs of {num_images} images")
        print("| what | seconds of the processor | of the clock |\n| --- | --- | --- |")
        line("reading predictions", lambda: kept_predictions(store.folder, rows))
        line("all averages of a board, reading included", lambda: average_trials(store.folder, trials))
        line("recommend, reading included", lambda: recommend(store.folder, dataset="digits", shots=5))


def line(what: str, act: Callable[[], object]) -> None:
    """Print what an act takes."""
    processor, clock = time.process_time(), time.perf_counter()
    act()
    print(f"| {what} | {time.process_time() - processor:.2f} | {time.perf_counter() - clock:.2f} |")


if __name__ == "__main__":
    main()
