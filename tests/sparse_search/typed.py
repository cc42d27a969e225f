"""Uses of `sparse_search` as a notebook's, checked by `make lint`: these types fit, and what is wrong is told.

Never run. Where an error is expected it is ignored by its name, and an ignored error that there is not is one.
"""

from pathlib import Path

from sparse_search import Sweep, evaluate, export, leaderboard, read_sweep, report, run, status
from sparse_search import runn as unknown  # type: ignore[attr-defined]

sweep: Sweep = read_sweep({"name": "a"})
finished: bool = run(sweep).ok
title: str = status("sweep.yaml", Path("results"))[0].title
rows = leaderboard("results", dataset="digits", shots=5, covers="label-sets")
method: object = export(dataset="digits", shots=5, output="best.yaml")["method"]
page: str = report("results", "report.html").name
dataset: str = evaluate("best.yaml", why="final table", unlock_test=True).dataset
run(5)  # type: ignore[arg-type]
unknown()
