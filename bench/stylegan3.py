"""What StyleGAN3's filtered nonlinearity and training cost: zeros between the pixels against dense matrices, in turn.

    python bench/stylegan3.py             # maps of 32, 64 and 128 px; the profile `small`
    python bench/stylegan3.py --quick     # tiny maps and networks, to see that it runs

The plain form (tests/trainables/naive_alias_free.py) is the definition: zeros between the pixels, separable depthwise
convolutions, every n-th pixel. Ours multiplies by one matrix per axis. Both train with the same seed, on the same
images, 16 steps at a time, one of which has a gradient penalty. A ratio is the median over the repeats of plain / ours.
Peak memory is taken apart from the timing, with one side in memory at a time: on a GPU what the tensors take, on a CPU
the whole process. Needs torch, accelerate, scipy and this checkout, and nothing of the search stack.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.sparse_step import Options, Step, peak_memory, print_table, processor, release, say, time_in_turn
from tests.trainables.naive_alias_free import stuffed
from trainables.stylegan.alias_free import Band, FilteredLeakyReLU, Resampling, layer_schedule
from trainables.stylegan.gan_training import GeneratorTraining
from trainables.stylegan.generator_config import PROFILES
from trainables.training.accelerator import new_accelerator

HEADER = ["what", "batch", "channels", "plain s", "ours s", "ratio", "peak GB"]
ENLARGED = 2


class Plain(nn.Module):
    """The nonlinearity by its definition."""

    def __init__(self, source: Band, target: Band) -> None:
        super().__init__()
        self._steps = Resampling(source, target, ENLARGED)

    def forward(self, maps_BCnn: torch.Tensor) -> torch.Tensor:
        return stuffed(maps_BCnn, self._steps)


def ours(source: Band, target: Band) -> nn.Module:
    return FilteredLeakyReLU(source, target, enlarged=ENLARGED)


Form = Callable[[Band, Band], nn.Module]


@dataclass(frozen=True)
class Case:
    """A nonlinearity of some layer."""

    resolution: int
    num_layers: int
    layer: int
    backward: bool

    @property
    def bands(self) -> tuple[Band, Band]:
        schedule = layer_schedule(self.resolution, num_layers=self.num_layers)
        return schedule[self.layer - 1], schedule[self.layer]

    @property
    def what(self) -> str:
        source, target = self.bands
        up = Resampling(source, target, ENLARGED).up
        way = "forward and backward" if self.backward else "forward"
        return f"{self.resolution} px: map {source.size} to {target.size}, up {up}: {way}"


CASES = [
    Case(resolution, num_layers, layer, backward)
    for resolution, num_layers, layer in ((32, 6, 4), (32, 6, 2), (64, 8, 6), (128, 14, 11))
    for backward in (False, True)
]


def nonlinearity(case: Case, options: Options, channels: int, form: Form) -> Step:
    torch.manual_seed(0)
    source, target = case.bands
    side = source.size + ENLARGED
    maps = torch.randn(options.batch, channels, side, side, device=options.device, requires_grad=case.backward)
    module = form(source, target).to(options.device)

    def step() -> None:
        outputs = module(maps)
        if case.backward:
            maps.grad = None
            outputs.sum().backward()

    return step


def training(profile: str, options: Options, steps: int, form: Form) -> Step:
    config = replace(PROFILES[profile], augment="none")
    one = GeneratorTraining(config, new_accelerator(precision="no", cpu=not options.on_gpu), seed=0)
    bands = layer_schedule(
        config.resolution, num_layers=config.num_layers, channel_base=config.channel_base,
        channel_max=config.channel_max, margin=config.margin,
    )  # fmt: skip
    generator = one._generator.module
    for layer, (source, target) in zip(generator.layers, pairwise((bands[0], *bands)), strict=True):
        if layer.bend is not None:
            layer.bend = form(source, target).to(options.device)
    torch.manual_seed(0)
    side = config.resolution
    images = torch.rand(config.batch, config.channels, side, side, device=options.device) * 2 - 1

    def train() -> None:
        for _ in range(steps):
            one.step(images)

    return train


def answer(what: str, batch: int, channels: str, make: Callable[[Form], Step], options: Options) -> list[str]:
    """A line of the table."""
    peaks = []
    for form in (Plain, ours):
        release(options)
        peaks.append(peak_memory(make(form), options))
    release(options)
    pairs = time_in_turn(make(Plain), make(ours), options)
    plain, own = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(first / second for first, second in pairs)
    memory = " / ".join("-" if peak is None else f"{peak / 1e9:.2f}" for peak in peaks)
    return [what, str(batch), channels, f"{plain:.4g}", f"{own:.4g}", f"{ratio:.2f}", memory]


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU where there is one")
    parser.add_argument("--batch", type=int, help="maps of the nonlinearity; default: 8")
    parser.add_argument("--repeats", type=int, help="default: 20 on a GPU, 3 on a CPU")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument("--quick", action="store_true", help="4 channels up to 32 px, tiny networks, one repeat")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    repeats = 1 if given.quick else 20 if device == "cuda" else 3
    return Options(device, given.batch or 8, (), given.repeats or repeats, given.quick)


def main() -> None:
    options = parse()
    channels, profile, steps = (4, "tiny", 1) if options.quick else (64, "small", 16)
    rows = [HEADER]
    for case in CASES[:2] if options.quick else CASES:
        say(case.what)
        make = partial(nonlinearity, case, options, channels)
        rows.append(answer(case.what, options.batch, str(channels), make, options))
    say(f"training, {profile}")
    what = f"{steps} steps of training, {profile}, {PROFILES[profile].resolution} px"
    make = partial(training, profile, options, steps)
    rows.append(answer(what, PROFILES[profile].batch, f"to {PROFILES[profile].channel_max}", make, options))
    place = torch.cuda.get_device_name() if options.on_gpu else processor()
    print(f"torch {torch.__version__}, {place}, {torch.get_num_threads()} threads, {options.repeats} repeats\n")
    print_table(rows)
    if not torch.cuda.is_available():
        print("\nNo GPU here: the table for a GPU was not made.")


if __name__ == "__main__":
    main()
