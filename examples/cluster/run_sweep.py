"""The script that `ray submit` sends: it runs on the head node and calls the package that is installed there.

    ray submit examples/cluster/local.yaml examples/cluster/run_sweep.py -- SWEEP.yaml --results /shared/results

What follows `--` is what `sparse-search run` takes; the paths are paths on the cluster.
"""

import os
import sys

os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster of this node; else a sweep starts a Ray of its own

from sparse_search.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()
