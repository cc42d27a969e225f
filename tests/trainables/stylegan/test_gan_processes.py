"""Two real processes with gloo train the generator that one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainables.gan_processes import result

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_processes_end_where_one_process_ends(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run([sys.executable, *launcher, "tests.trainables.gan_processes", str(tmp_path)],
                          capture_output=True, text=True, cwd=ROOT, check=False, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = result()
    for name, tensor in alone.items():
        assert first[name].equal(second[name]), name
        torch.testing.assert_close(
            first[name], tensor, rtol=1e-7, atol=1e-7, msg=lambda why, name=name: f"{name}: {why}"
        )
