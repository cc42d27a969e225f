"""Several real processes with gloo are one process on the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .some_processes import CASES, GAN_CASES, MASK_CASES, result

ROOT = Path(__file__).parents[2]
PROCESSES = 2


def launch(*module_and_arguments):
    """What a user types: torchrun, which accelerate launch calls too where there are GPUs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES), "-m"]
    return subprocess.run([sys.executable, *torchrun, *module_and_arguments], capture_output=True, text=True, cwd=ROOT,
                          check=False, env=environment, timeout=300)  # fmt: skip


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    done = launch("tests.trainables.some_processes", str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *GAN_CASES, *MASK_CASES])
def test_processes_end_where_one_process_ends(case, joint):
    alone = result(case)
    for one in joint:
        assert one[case].keys() == alone.keys()
        for name, tensor in alone.items():
            if "num_batches" not in name:
                why = f"{case}, {name}"
                torch.testing.assert_close(
                    one[case][name], tensor, rtol=1e-5, atol=1e-6, msg=lambda m, w=why: f"{w}: {m}"
                )


@pytest.mark.slow
def test_the_command_line_works_in_processes(tmp_path):
    arguments = ["sparse", "--dataset", "digits", "--images", "160", "--evaluate-every", "60", "--threads", "1"]
    small = {"width": 4, "critic_width": 4, "classifier": "test_resnet", "unsup_fraction": 0.05, "drop_path": 0.0}
    settings = [text for name, value in small.items() for text in ("--set", f"{name}={value}")]
    first, again = (launch("trainables", *arguments, *settings, "--checkpoints", str(tmp_path)) for _ in range(2))
    for done in (first, again):
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("validation scores") == 1
    assert "from checkpoint" in again.stdout
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
