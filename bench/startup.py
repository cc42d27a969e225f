"""How long the commands that should be instant take to start, as whole processes.

    python bench/startup.py

Compared in the same run to `python -c pass` and to importing torch and ray, which these commands avoid.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from sparse_search.results.rows import RUN_SCHEMA
from sparse_search.results.store import Store

TARGET_SECONDS = 0.5


def record(number: int) -> dict:
    scores = {
        "num_images": 10, "accuracy": 0.7, "balanced_accuracy": 0.7, "macro_f1": 0.7, "auroc": 0.8,
        "calibration_error": 0.1, "log_loss": 0.6, "localisation": None, "patch_localisation": None,
        "confusion": [[4, 1], [2, 3]],
    }  # fmt: skip
    texts = {field.name: "digits" for field in RUN_SCHEMA if field.type == pa.string()}
    numbers = {field.name: 1 for field in RUN_SCHEMA if field.type in (pa.int64(), pa.float64())}
    answers = {field.name: False for field in RUN_SCHEMA if field.type == pa.bool_()}
    own = {
        "record_id": f"{number:012x}",
        "run_id": f"r{number}",
        "trial_id": f"t{number}",
        "start": "",
        "level": "image",
        "selection": "last",
        "status": "complete",
        "method": "supervised",
        "kind": "classification",
        "predictors": ["supervised"],
        "patch_predictors": [],
        "config": {"image_size": 32, "lr": 1e-3 * (number + 1)},
        "official": True,
        "versions": {},
        "curve": [
            {
                "epoch": 1,
                "images": 1,
                "seconds": 1.0,
                "losses": [],
                "scores": {"supervised": scores},
                "selected": {"supervised": scores},
            }
        ],
    }
    return texts | numbers | answers | own


def seconds(command: list[str], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="starts of each command (default 7)")
    asked = parser.parse_args()
    call = "from sparse_search.cli.app import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.prepare()
        for number in range(200):
            store.write(record(number))
        store.compact()
        commands = {
            "python -c pass": ["-c", "pass"],
            "sparse-search --help": ["-c", call, "--help"],
            "sparse-search leaderboard (200 runs)": ["-c", call, "leaderboard", "--results", folder],
            "import torch, ray.tune": ["-c", "import torch, ray.tune"],
        }
        print(f"{'command':40s} {'fastest':>8s} {'median':>8s}  target")
        for name, command in commands.items():
            taken = seconds(command, asked.rounds)
            target = f"< {TARGET_SECONDS} s" if "sparse-search" in name else ""
            print(f"{name:40s} {min(taken):7.2f}s {statistics.median(taken):7.2f}s  {target}")


if __name__ == "__main__":
    main()
