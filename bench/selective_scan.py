"""What the selective scan costs: the step loop against ours, in turn in one process, on the same numbers.

    python bench/selective_scan.py               # 4096 steps, as of an image of 256 px in VM-UNet's first stage
    python bench/selective_scan.py --quick       # 64 steps, to see that it runs

The step loop (tests/trainables/naive_scan.py) is the formula, one step after the other, differentiated by torch. A
ratio is the median over the repeats of loop / ours. Peak memory is taken apart from the timing, with one side in memory
at a time: on a GPU what the tensors take, on a CPU the whole process, whose own size the last line tells. Needs torch,
timm, accelerate and this checkout, and nothing of the search stack.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import sparse_step
from bench.sparse_step import Step, peak_memory, print_table, processor, release, say, time_in_turn
from tests.trainables.naive_scan import naive_scan
from trainables.nets.selective_scan import selective_scan

GROUPS, STATES = 4, 16
HEADER = ["what", "steps", "channels", "batch", "loop s", "ours s", "ratio", "target", "peak GB"]

Scan = Callable[..., Tensor]


@dataclass(frozen=True)
class Options(sparse_step.Options):
    """Also how long the sequences are."""

    steps: int


@dataclass(frozen=True)
class Question:
    """One line of the table."""

    channels: int
    """Of a direction; there are four."""

    backward: bool
    target: float | None = None

    @property
    def what(self) -> str:
        return "forward and backward" if self.backward else "forward"


QUESTIONS = (Question(32, False), Question(32, True, 5.0), Question(192, False), Question(192, True, 5.0))
"""A small block, and the first one of VM-UNet at full size."""


def new_inputs(options: Options, question: Question) -> list[Tensor]:
    """As a new network has them: A is -1 … -N, and steps are between 0.001 and 0.1."""
    torch.manual_seed(0)
    sequence, selected = ((options.batch, GROUPS, options.steps, last) for last in (question.channels, STATES))
    delta_BGLD = torch.exp(torch.empty(sequence).uniform_(-7, -2))
    A_GDN = -torch.arange(1.0, STATES + 1).expand(GROUPS, question.channels, STATES)
    inputs = [
        torch.randn(sequence), delta_BGLD, A_GDN, torch.randn(selected), torch.randn(selected),
        torch.ones(GROUPS, question.channels),
    ]  # fmt: skip
    return [each.clone().to(options.device).requires_grad_(question.backward) for each in inputs]


def new_step(scan: Scan, options: Options, question: Question) -> Step:
    inputs = new_inputs(options, question)

    def step() -> None:
        y_BGLD = scan(*inputs)
        if question.backward:
            torch.autograd.grad(y_BGLD.square().sum(), inputs)

    return step


def cost(scan: Scan, options: Options, question: Question) -> int | None:
    """Peak memory, in bytes."""
    release(options)
    return peak_memory(new_step(scan, options, question), options)


def answer(question: Question, options: Options) -> list[str]:
    """A line of the table."""
    sides = (naive_scan, selective_scan)
    peaks = [cost(scan, options, question) for scan in sides]
    release(options)
    loop, ours = (new_step(scan, options, question) for scan in sides)
    pairs = time_in_turn(loop, ours, options)
    loop_seconds, our_seconds = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [
        question.what, str(options.steps), f"{GROUPS} x {question.channels}", str(options.batch),
        f"{loop_seconds:.4g}", f"{our_seconds:.4g}", f"{statistics.median(a / b for a, b in pairs):.2f}",
        f"{question.target:.2f}" if question.target else "-",
        " / ".join("-" if peak is None else f"{peak / 1e9:.2f}" for peak in peaks),
    ]  # fmt: skip


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU where there is one")
    parser.add_argument("--batch", type=int, help="sequences; default: 24 on a GPU, 1 on a CPU")
    parser.add_argument("--steps", type=int, help="of a sequence; default: 4096")
    parser.add_argument("--repeats", type=int, help="default: 20 on a GPU, 5 on a CPU")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument("--quick", action="store_true", help="one sequence of 64 steps, one repeat")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    batch, steps, repeats = (24, 4096, 20) if device == "cuda" else (1, 4096, 5)
    if given.quick:
        batch, steps, repeats = 1, 64, 1
    return Options(
        device, given.batch or batch, (), given.repeats or repeats, given.quick, given.steps or steps
    )  # fmt: skip


def main() -> None:
    options = parse()
    place = torch.cuda.get_device_name() if options.on_gpu else processor()
    empty = peak_memory(lambda: None, options)
    rows = [HEADER]
    for question in QUESTIONS:
        say(f"{question.channels} channels: {question.what}")
        rows.append(answer(question, options))
        say("    " + ", ".join(f"{name} {cell}" for name, cell in zip(HEADER[4:], rows[-1][4:], strict=True)))
    print(f"torch {torch.__version__}, {place}, {torch.get_num_threads()} threads, {options.repeats} repeats\n")
    print_table(rows)
    if empty:
        print(f"\nBefore the first line it takes {empty / 1e9:.2f} GB.")
    if not torch.cuda.is_available():
        print("\nNo GPU here: the table for a GPU was not made.")


if __name__ == "__main__":
    main()
