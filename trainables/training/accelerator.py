"""Execution of a run: device, precision, accumulation and compilation, as Accelerate has them."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from search_spaces.core.errors import ConfigError
from trainables.core.accelerator import Accelerator

log = logging.getLogger(__name__)

ONEDNN_LIMIT = "ONEDNN_MAX_CPU_ISA"
COMPILER = "inductor"

T = TypeVar("T")


def new_accelerator(*, precision: str, cpu: bool, accumulate: int = 1, compile: bool = False) -> Accelerator:
    """An Accelerator for the next run in this process, whatever the one before it was set to.

    Args:
        precision: `no` or `bf16`. (fp16 needs scaled losses, and one scale for three optimisers is wrong for two.)
        cpu: Whether to leave a GPU alone.
        accumulate: Batches whose gradients are averaged before each step.
        compile: Whether networks are compiled. What cannot be compiled here runs as it is, and the log says so.

    Raises:
        ConfigError: a device that is not there, or that cannot run this precision.
    """
    if not cpu and not torch.cuda.is_available():
        raise ConfigError("device gpu: there is none here; use device cpu (its results differ in the last digits)")
    if cpu and precision == "bf16" and not cpu_runs_bf16():
        raise ConfigError(
            "precision bf16: this CPU announces AMX instructions but cannot run them, as some virtual machines do; "
            f"set {ONEDNN_LIMIT}=AVX512_CORE_BF16 before the start, or use precision 'no'"
        )
    import accelerate  # not by a module that a saved model needs as well
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import GradientAccumulationPlugin

    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return accelerate.Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=accumulate),  # a launcher's wish is no match
        dynamo_backend=COMPILER if compile and _can_compile("cpu" if cpu else "cuda") else "no",
    )


def from_main(read: Callable[[], T], accelerator: Accelerator) -> T:
    """Return, in every process, what the main one reads: another machine may see older files, or none."""
    if accelerator.num_processes == 1:
        return read()
    from accelerate.utils import broadcast_object_list

    values: list[Any] = [read() if accelerator.is_main_process else None]
    value: T = broadcast_object_list(values)[0]
    return value


@cache
def _can_compile(device: str) -> bool:
    """Return True if a C++ compiler (CPU) or Triton (GPU) is there and works; the log says so when not."""
    from torch import _dynamo  # half a second

    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except (RuntimeError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0]
        log.warning("compile: nothing can be compiled here, networks run as they are (%s)", reason)
        return False
    # A network runs in many ways: training or not, frozen or not, with each count of BatchNorm, in both its modes.
    _dynamo.config.recompile_limit = 64
    _dynamo.config.suppress_errors = True  # what is not compiled runs as it is
    return True


@cache
def cpu_runs_bf16() -> bool:
    """Return True if a process survives a bf16 convolution: tried in another, as it may be an illegal instruction.

    Only where the CPU announces AMX and the user has not limited oneDNN; takes three seconds, once a process.
    """
    if ONEDNN_LIMIT in os.environ or not _announces_amx():
        return True
    strided = "torch.nn.Conv2d(64, 128, 4, stride=2, padding=1).bfloat16()"
    images = "torch.rand(8, 64, 16, 16).bfloat16().requires_grad_()"
    attempt = f"import torch; {strided}({images}).float().sum().backward()"
    done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False)
    return done.returncode >= 0  # negative: ended by a signal


def _announces_amx() -> bool:
    with suppress(OSError):
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    return False
