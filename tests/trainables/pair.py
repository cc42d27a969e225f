"""Everything that two processes are asked for and nobody kills, in one pair of them: a start imports torch twice.

torchrun --standalone --nproc-per-node 2 -m tests.trainables.pair FOLDER

Each process writes its results by name to `RANK.pt`; a check that fails leaves the text of its error.
"""

import sys
import traceback
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import torch

from trainables.__main__ import main

from . import gan_processes, some_processes, stages_processes

GENERATOR, STAGES = "generator", "stages"
COMMAND, COMMAND_AGAIN = "command", "command again"

ARGUMENTS = ["sparse", "--dataset", "digits", "--images", "80", "--evaluate-every", "40", "--threads", "1"]
SMALL = {
    "image_size": 16,
    "width": 4,
    "critic_width": 4,
    "classifier": "test_resnet",
    "unsup_fraction": 0.05,
    "drop_path": 0.0,
}


def command(folder):
    """Exit code and output of a training on the command line with checkpoints in a folder."""
    settings = [text for name, value in SMALL.items() for text in ("--set", f"{name}={value}")]
    with redirect_stdout(StringIO()) as output:
        code = main([*ARGUMENTS, *settings, "--checkpoints", str(folder)])
    return {"code": code, "output": output.getvalue()}


def checks(folder):
    cases = (*some_processes.CASES, *some_processes.GAN_CASES, *some_processes.MASK_CASES)
    trained = {case: partial(some_processes.result, case) for case in cases}
    commands = {name: partial(command, folder / "checkpoints") for name in (COMMAND, COMMAND_AGAIN)}
    return {**trained, GENERATOR: gan_processes.result, STAGES: stages_processes.result, **commands}


def outcome(check):
    try:
        return check()
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    shared = Path(sys.argv[1])
    results = {name: outcome(check) for name, check in checks(shared).items()}
    torch.save(results, shared / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()
