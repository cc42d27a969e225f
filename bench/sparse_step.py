"""What SPARSE costs, step by step: its plain form against ours, in turn in one process, on the same images.

    python bench/sparse_step.py            # 128 and 32 px at full width
    python bench/sparse_step.py --quick    # tiny networks, to see that it runs

The plain form (tests/trainables/naive_sparse.py) is the published order of operations in float32, without a mask. A
ratio is the median over the repeats of naive / ours. Operations and peak memory are taken apart from the timing, with
one side in memory at a time: on a GPU what the tensors take, on a CPU the whole process. Needs torch, timm,
accelerate and this checkout, and nothing of the search stack.
"""

import argparse
import ctypes
import gc
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.operations import Operations
from search_spaces.sparse import SparseConfig
from tests.trainables import naive_sparse
from trainables import sparse
from trainables.components.meters import Means
from trainables.core.method import Labelled, Provenance, Task
from trainables.data.augment import to_unit
from trainables.training.accelerator import ONEDNN_LIMIT, cpu_runs_bf16, new_accelerator

NUM_CLASSES, CHANNELS = 8, 3
TINY = {"width": 4, "critic_width": 4, "classifier": "test_resnet", "drop_path": 0.0}

Step = Callable[[], object]


@dataclass(frozen=True)
class Options:
    """What is asked for on the command line, with the defaults that depend on the machine filled in."""

    device: str
    batch: int
    """Images per step; 0 where each question has its own."""

    sides: tuple[int, ...]
    repeats: int
    quick: bool

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def at(self, question: "Question", side: int) -> "Options":
        """With the published batch of 24 where nothing else is asked for; a CPU trains on 8 images of 128 px."""
        large = side > 64 and question.phase != "evaluation" and not self.on_gpu
        return replace(self, batch=self.batch or (8 if large else 24))


@dataclass(frozen=True)
class Question:
    """One line of the table, for each side: which step of ours is timed against its plain form."""

    what: str
    phase: str
    preset: str
    precision: str
    target: float | None = None


QUESTIONS = (
    Question("unsupervised step, reference", "unsupervised", "reference", "no", 1.15),
    Question("unsupervised step, reference", "unsupervised", "reference", "bf16", 2.3),
    Question("unsupervised step, paper, ρ = 0.75", "unsupervised", "paper", "no", 3.7),
    Question("unsupervised step, paper, ρ = 0.75", "unsupervised", "paper", "bf16"),
    Question("supervised step, reference", "supervised", "reference", "no"),
    Question("supervised step, reference", "supervised", "reference", "bf16"),
    Question("evaluation of SPARSE_ens", "evaluation", "reference", "no", 3.0),
)


@dataclass(frozen=True)
class Cost:
    """Of one step of one side."""

    gflop_per_image: float
    peak_bytes: int | None
    """None where the system does not tell."""
    busy_seconds: float
    """How long the GPU works; 0 without one."""


# The two sides


def new_task(options: Options, side: int) -> Task:
    """Noise: `batch` labelled images and as many unlabelled ones."""
    torch.manual_seed(0)
    images_NCHW = torch.randint(256, (2 * options.batch, CHANNELS, side, side), dtype=torch.uint8)
    known = Labelled(images_NCHW[: options.batch], torch.arange(options.batch) % NUM_CLASSES)
    provenance = Provenance("", False, 1, 0, 0, "realistic", "", options.batch)
    return Task(
        "noise", "classification", NUM_CLASSES, CHANNELS, known, images_NCHW[options.batch :], known, provenance
    )


def new_learner(options: Options, preset: str, precision: str, side: int) -> sparse.SparseLearner:
    sizes = {"batch_size": options.batch, "image_size": side} | (TINY if options.quick else {})
    config = SparseConfig.preset(preset, flip=False, percentile=0.75, **sizes)
    accelerator = new_accelerator(precision=precision, cpu=not options.on_gpu)
    torch.manual_seed(1)
    return sparse.SparseLearner(config, new_task(options, side), accelerator)


def naive_step(options: Options, question: Question, side: int) -> Step:
    """The published step: the `reference` preset in float32, whatever ours is."""
    learner, task = new_learner(options, "reference", "no", side), new_task(options, side)
    parts = zip(naive_sparse.NAMES, (learner._generator, learner._discriminator, learner._classifier), strict=True)
    plain = {name: part.module.to(memory_format=torch.contiguous_format) for name, part in parts}
    nets = naive_sparse.in_published_order(plain)
    config = learner._config
    optimisers = naive_sparse.new_optimisers(nets, config)
    known_BCHW = to_unit(task.labelled.images_NCHW.to(options.device), side)
    unknown_BCHW = to_unit(task.unlabelled_NCHW.to(options.device), side)
    labels_B, index_B = task.labelled.labels_N.to(options.device), torch.arange(options.batch)
    both = (nets, optimisers, config)
    steps: dict[str, Step] = {
        "supervised": lambda: naive_sparse.supervised_step(*both, known_BCHW, labels_B),
        "unsupervised": lambda: naive_sparse.unsupervised_step(*both, unknown_BCHW, index_B, defaultdict(list)),
        "evaluation": lambda: naive_sparse.evaluate(nets, unknown_BCHW),
    }
    return steps[question.phase]


def our_step(options: Options, question: Question, side: int) -> Step:
    """The learner's own step, from the bytes it keeps."""
    learner = new_learner(options, question.preset, question.precision, side)
    index_B = torch.arange(options.batch, device=options.device)
    images_BCHW = new_task(options, side).unlabelled_NCHW.to(options.device)
    steps: dict[str, Step] = {
        "supervised": lambda: learner._supervised_step(index_B, Means()),
        "unsupervised": lambda: learner._unsupervised_step(index_B, True, Means()),
        "evaluation": lambda: learner.predict(images_BCHW),
    }
    return steps[question.phase]


# Measuring


def seconds(step: Step, options: Options) -> float:
    wait = torch.cuda.synchronize if options.on_gpu else torch.cpu.synchronize
    torch.manual_seed(2)
    wait()
    started = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - started


def time_in_turn(naive: Step, ours: Step, options: Options) -> list[tuple[float, float]]:
    """(naive, ours) seconds per repeat: of the second step in a turn, as the first finds the other's memory."""
    taken = []
    for _ in range(options.repeats):
        first_and_second = [(seconds(step, options), seconds(step, options)) for step in (naive, ours)]
        taken.append((first_and_second[0][1], first_and_second[1][1]))
    return taken


def cost(make: Callable[[Options, Question, int], Step], options: Options, question: Question, side: int) -> Cost:
    """Operations in a first step, which also makes the optimisers' moments; then memory, then the GPU's time."""
    release(options)
    step = make(options, question, side)
    with Operations() as operations:
        step()
    peak_bytes = peak_memory(step, options)
    busy_seconds = gpu_seconds(step) if options.on_gpu else 0.0
    return Cost(operations.count / options.batch / 1e9, peak_bytes, busy_seconds)


def peak_memory(step: Step, options: Options) -> int | None:
    release(options)
    if options.on_gpu:
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        step()
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return None


def gpu_seconds(step: Step) -> float:
    """How long kernels and copies run in one step."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    # Ranges that torch marks on the GPU, such as an optimiser's step, span kernels that are listed themselves.
    kernels = [e for e in profiler.events() if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    return sum(kernel.time_range.elapsed_us() for kernel in kernels) / 1e6


def release(options: Options) -> None:
    """Gives back what earlier steps took, so that a peak is that of the step alone."""
    gc.collect()
    if options.on_gpu:
        torch.cuda.empty_cache()
    elif platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


# The table


def answer(question: Question, side: int, options: Options, naive_cost: Cost, our_cost: Cost) -> list[str]:
    """A line of the table."""
    release(options)
    pairs = time_in_turn(naive_step(options, question, side), our_step(options, question, side), options)
    naive, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    costs = (naive_cost, our_cost)
    gflops = [each.gflop_per_image for each in costs]
    cells = [
        question.what, str(side), str(options.batch), "fp32" if question.precision == "no" else question.precision,
        f"{naive:.4g}", f"{ours:.4g}", f"{statistics.median(a / b for a, b in pairs):.2f}",
        f"{question.target:.2f}" if question.target else "-",
        " / ".join(f"{each:.4g}" for each in gflops), f"{gflops[0] / gflops[1]:.2f}",
        " / ".join("-" if each.peak_bytes is None else f"{each.peak_bytes / 1e9:.2f}" for each in costs),
    ]  # fmt: skip
    if options.on_gpu:
        cells.append(f"{options.batch / naive:.0f} / {options.batch / ours:.0f}")
        cells.append(f"{naive_cost.busy_seconds / naive:.0%} / {our_cost.busy_seconds / ours:.0%}")
    return cells


def header(options: Options) -> list[str]:
    common = [
        "what",
        "px",
        "batch",
        "ours in",
        "naive s",
        "ours s",
        "ratio",
        "target",
        "GFLOP / image",
        "ratio",
        "peak GB",
    ]
    return common + (["images / s", "GPU busy"] if options.on_gpu else [])


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """As Markdown, the columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    for row in ruled:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return platform.machine()


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU where there is one")
    batch = "images per step; default: 24, and 8 for training steps of 128 px on a CPU"
    parser.add_argument("--batch", type=int, help=batch)
    parser.add_argument("--sides", type=int, nargs="+", help="of the images, in pixels; default: 128 32")
    parser.add_argument("--repeats", type=int, help="default: 20 on a GPU, 3 on a CPU")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument("--quick", action="store_true", help="tiny networks, 4 images of 32 px, one repeat")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    batch, repeats, sides = 0, 20 if device == "cuda" else 3, (128, 32)
    if given.quick:
        batch, repeats, sides = 4, 1, (32,)
    return Options(device, given.batch or batch, tuple(given.sides or sides), given.repeats or repeats, given.quick)


def limit_amx() -> str:
    """Keeps oneDNN from instructions that a virtual machine announces and cannot run; before its first operation."""
    if cpu_runs_bf16():
        return ""
    os.environ[ONEDNN_LIMIT] = "AVX512_CORE_BF16"
    cpu_runs_bf16.cache_clear()
    return f", {ONEDNN_LIMIT}={os.environ[ONEDNN_LIMIT]} as AMX does not work here"


def main() -> None:
    options = parse()
    limited = "" if options.on_gpu else limit_amx()
    place = torch.cuda.get_device_name() if options.on_gpu else processor()
    rows, naive_costs = [header(options)], {}
    for side in options.sides:
        for question in QUESTIONS:
            say(f"{side} px: {question.what}, {question.precision}")
            here, key = options.at(question, side), (question.phase, side)
            if key not in naive_costs:
                naive_costs[key] = cost(naive_step, here, question, side)
            our_cost = cost(our_step, here, question, side)
            rows.append(answer(question, side, here, naive_costs[key], our_cost))
            say("    " + ", ".join(f"{name} {cell}" for name, cell in zip(rows[0][4:], rows[-1][4:], strict=True)))
    print(f"torch {torch.__version__}, {place}, {torch.get_num_threads()} threads, "
          f"{options.repeats} repeats{limited}\n")  # fmt: skip
    print_table(rows)
    if not torch.cuda.is_available():
        print("\nNo GPU here: the table for a GPU was not made.")


if __name__ == "__main__":
    main()
