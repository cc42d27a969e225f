"""One pair of processes for all tests that only ask what two of them end with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from trainables.data.cache import CACHE_VARIABLE

ROOT = Path(__file__).parents[2]
PROCESSES = 2


def launch(*module_and_arguments, **variables):
    """What a user types: torchrun, which accelerate launch calls too where there are GPUs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES), "-m"]
    return subprocess.run([sys.executable, *torchrun, *module_and_arguments], capture_output=True, text=True, cwd=ROOT,
                          check=False, env=environment, timeout=300)  # fmt: skip


@pytest.fixture(scope="session")
def pair_results(tmp_path_factory):
    """Results by name of each of two processes, see `tests.trainables.pair`; workers of one session share them."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "pair"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            done = launch("tests.trainables.pair", str(folder), **{CACHE_VARIABLE: str(folder / "cache")})
            (folder / "log").write_text(done.stderr[-3000:])
    files = [folder / f"{rank}.pt" for rank in range(PROCESSES)]
    assert all(file.exists() for file in files), (folder / "log").read_text()
    return [torch.load(file) for file in files]


@pytest.fixture
def of_pair(pair_results):
    """What each of two processes found, by the name of a check."""

    def found(name):
        for each in pair_results:
            assert not isinstance(each[name], str), each[name]
        return [each[name] for each in pair_results]

    return found
