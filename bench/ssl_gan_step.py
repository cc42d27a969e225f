"""What a step of SSL-GAN costs: its plain form against ours, in turn in one process, on the same images.

    python bench/ssl_gan_step.py                 # full width on a GPU, a sixth of it on a CPU
    python bench/ssl_gan_step.py --width 96      # full width anywhere
    python bench/ssl_gan_step.py --quick         # tiny networks, to see that it runs

The plain form (tests/trainables/naive_ssl_gan.py) passes labelled, unlabelled and generated images through D one after
the other, in float32, and lets every network gather gradients. Ours passes them as one batch. Both keep an average of
D's weights; neither augments. A ratio is the median over the repeats of naive / ours. Operations and peak memory are
taken apart from the timing, with one side in memory at a time. Needs torch, timm, accelerate and this checkout, and
nothing of the search stack.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import sparse_step
from bench.operations import Operations
from bench.sparse_step import Step, limit_amx, peak_memory, print_table, processor, release, say, time_in_turn
from search_spaces.ssl_gan import SslGanConfig
from tests.trainables import naive_ssl_gan
from trainables import ssl_gan
from trainables.components.meters import Means
from trainables.core.method import Labelled, Provenance, Task
from trainables.data.augment import to_signed, to_unit
from trainables.training.accelerator import new_accelerator

NUM_CLASSES, CHANNELS, FULL_WIDTH = 2, 3, 96
HEADER = ["what", "px", "width", "batch", "ours in", "naive s", "ours s", "ratio", "GFLOP", "ratio", "peak GB"]


@dataclass(frozen=True)
class Options(sparse_step.Options):
    """Also how wide the networks are."""

    width: int
    """Of D; G's is in the proportion of the paper, 512 to 96."""


@dataclass(frozen=True)
class Question:
    """One line of the table, for each side."""

    phase: str
    precision: str

    @property
    def what(self) -> str:
        return {"both": "step of D, average and G", "discriminator": "step of D", "generator": "step of G"}[self.phase]


QUESTIONS = [
    Question(phase, precision) for precision in ("no", "bf16") for phase in ("both", "discriminator", "generator")
]
Make = Callable[[Options, Question, int], Step]


def new_task(options: Options, side: int) -> Task:
    """Noise: `batch` labelled images and as many unlabelled ones."""
    torch.manual_seed(0)
    images_NCHW = torch.randint(256, (2 * options.batch, CHANNELS, side, side), dtype=torch.uint8)
    known = Labelled(images_NCHW[: options.batch], torch.arange(options.batch) % NUM_CLASSES)
    provenance = Provenance("", False, 1, 0, 0, "realistic", "", options.batch)
    return Task(
        "noise", "classification", NUM_CLASSES, CHANNELS, known, images_NCHW[options.batch :], known, provenance
    )


def new_learner(options: Options, precision: str, side: int) -> ssl_gan.SslGanLearner:
    config = SslGanConfig(
        image_size=side, width=options.width, generator_width=max(8, options.width * 16 // 3),
        batch_size=options.batch, batch_unlabelled=options.batch, shift=0, flip=False, flip_vertical=False,
    )  # fmt: skip
    accelerator = new_accelerator(precision=precision, cpu=not options.on_gpu)
    torch.manual_seed(1)
    return ssl_gan.SslGanLearner(config, new_task(options, side), accelerator)


def naive_step(options: Options, question: Question, side: int) -> Step:
    """Three forwards, in float32, whatever ours is."""
    learner, task = new_learner(options, "no", side), new_task(options, side)
    config, trainees = learner._config, (learner._discriminator, learner._generator)
    nets = {
        name: model.module.to(memory_format=torch.contiguous_format)
        for name, model in zip(naive_ssl_gan.NAMES, trainees, strict=True)
    }
    optimisers, average = naive_ssl_gan.new_optimisers(nets, config), naive_ssl_gan.new_average(nets)
    known, unknown = (
        to_signed(to_unit(images.to(options.device), side))
        for images in (task.labelled.images_NCHW, task.unlabelled_NCHW)
    )
    labels = task.labelled.labels_N.to(options.device)
    both = (nets, optimisers, config)
    steps: dict[str, Step] = {
        "both": lambda: naive_ssl_gan.step(nets, optimisers, average, config, known, labels, unknown, unknown),
        "discriminator": lambda: naive_ssl_gan.discriminator_step(*both, known, labels, unknown),
        "generator": lambda: naive_ssl_gan.generator_step(*both, unknown),
    }
    return steps[question.phase]


def our_step(options: Options, question: Question, side: int) -> Step:
    """The learner's own step, from the bytes it keeps."""
    learner = new_learner(options, question.precision, side)

    def both() -> None:
        learner._discriminator_step(Means())
        learner._generator_step(Means())

    steps: dict[str, Step] = {
        "both": both,
        "discriminator": lambda: learner._discriminator_step(Means()),
        "generator": lambda: learner._generator_step(Means()),
    }
    return steps[question.phase]


def cost(make: Make, options: Options, question: Question, side: int) -> tuple[float, int | None]:
    """Operations, in GFLOP, of a first step, which also makes the optimisers' moments; then peak memory, in bytes."""
    release(options)
    step = make(options, question, side)
    with Operations() as operations:
        step()
    return operations.count / 1e9, peak_memory(step, options)


def answer(question: Question, side: int, options: Options) -> list[str]:
    """A line of the table."""
    costs = [cost(make, options, question, side) for make in (naive_step, our_step)]
    release(options)
    pairs = time_in_turn(naive_step(options, question, side), our_step(options, question, side), options)
    naive, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    (naive_flop, _), (our_flop, _) = costs
    return [
        question.what, str(side), str(options.width), str(options.batch),
        "fp32" if question.precision == "no" else question.precision,
        f"{naive:.4g}", f"{ours:.4g}", f"{statistics.median(a / b for a, b in pairs):.2f}",
        f"{naive_flop:.4g} / {our_flop:.4g}", f"{naive_flop / our_flop:.2f}",
        " / ".join("-" if peak is None else f"{peak / 1e9:.2f}" for _, peak in costs),
    ]  # fmt: skip


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU where there is one")
    parser.add_argument("--batch", type=int, help="images of each kind per step; default: 100, and 32 on a CPU")
    parser.add_argument("--sides", type=int, nargs="+", help="of the images, in pixels; default: 32")
    parser.add_argument("--width", type=int, help="of D; default: 96, and 16 on a CPU")
    parser.add_argument("--repeats", type=int, help="default: 20 on a GPU, 5 on a CPU")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument("--quick", action="store_true", help="tiny networks, 4 images of 28 px, one repeat")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    batch, width, repeats, sides = (100, FULL_WIDTH, 20, (32,)) if device == "cuda" else (32, 16, 5, (32,))
    if given.quick:
        batch, width, repeats, sides = 4, 4, 1, (28,)
    return Options(
        device, given.batch or batch, tuple(given.sides or sides), given.repeats or repeats, given.quick,
        given.width or width,
    )  # fmt: skip


def main() -> None:
    options = parse()
    limited = "" if options.on_gpu else limit_amx()
    place = torch.cuda.get_device_name() if options.on_gpu else processor()
    rows = [HEADER]
    for side in options.sides:
        for question in QUESTIONS:
            say(f"{side} px: {question.what}, {question.precision}")
            rows.append(answer(question, side, options))
            say("    " + ", ".join(f"{name} {cell}" for name, cell in zip(HEADER[5:], rows[-1][5:], strict=True)))
    print(f"torch {torch.__version__}, {place}, {torch.get_num_threads()} threads, "
          f"{options.repeats} repeats{limited}\n")  # fmt: skip
    print_table(rows)
    if not torch.cuda.is_available():
        print("\nNo GPU here: the table for a GPU was not made.")


if __name__ == "__main__":
    main()
