"""Odd and damaged inputs of every kind that is read, made of valid examples with fixed seeds.

    python bench/fuzz.py                          20,000 inputs, spread over all kinds
    python bench/fuzz.py --kind npz --seed 17     that one again

Each is refused with an error of the product's own, set aside by name, or accepted; none takes more than 5 s of CPU or
1 GB, and of a store every good record stays. Anything else is a find: it is printed, and the exit code is 1.
"""

import argparse
import logging
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.fuzz_kinds import KINDS, Kind
from search_spaces.core.errors import UserError
from trainables.data.cache import CACHE_VARIABLE

MAX_SECONDS = 5.0
MAX_BYTES = 2**30
MAX_SHOWN = 2000
"""Most characters of an input that are printed."""


class SlowError(BaseException):
    """An input that takes too long; no error that anything catches."""


@dataclass
class Tally:
    """Numbers of the inputs of a kind."""

    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    finds: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return self.refused + self.accepted + len(self.finds)


@contextmanager
def limited() -> Iterator[None]:
    """Interrupt what takes more than `MAX_SECONDS` of CPU.

    Raises:
        SlowError: it does.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise SlowError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> int:
    """Largest memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def feed(kind: Kind, given: Any, folder: Path, tally: Tally) -> str:
    """Read an input and count it; return what is wrong with how that went, or nothing."""
    resident, peak, started = resident_bytes(), peak_bytes(), time.process_time()
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()), limited():
            warnings.simplefilter("ignore")
            accepted = kind.read(given, folder)
    except UserError as problem:
        accepted = False  # the command line makes its message one line
        if not str(problem).strip():
            return "an error without a word"
    except SlowError:
        return f"more than {MAX_SECONDS:.0f} s of CPU"
    except Exception:
        return traceback.format_exc()
    tally.slowest = max(tally.slowest, time.process_time() - started)
    if peak_bytes() > max(peak, resident + MAX_BYTES):
        return f"more than {MAX_BYTES:,} bytes"
    tally.accepted += accepted
    tally.refused += not accepted
    return ""


def fuzz(kind: Kind, seeds: Sequence[int], folder: Path) -> Tally:
    """Read the inputs of some seeds, each in an empty folder."""
    tally = Tally()
    for seed in seeds:
        given = kind.make(Random(f"{kind.name} {seed}"))
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            wrong = feed(kind, given, Path(empty), tally)
        if wrong:
            again = f"python bench/fuzz.py --kind {kind.name} --seed {seed}"
            tally.finds.append(f"{again}\n{ascii(given)[:MAX_SHOWN]}\n{wrong}")
    return tally


def run(kinds: Sequence[Kind], seeds: Sequence[int]) -> dict[str, Tally]:
    """Read the inputs of some seeds of some kinds, with an empty cache and no data of this machine's."""
    with tempfile.TemporaryDirectory() as folder:
        own = {CACHE_VARIABLE: f"{folder}/cache", "SPARSE_SEARCH_DATA": f"{folder}/data"}
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            return {kind.name: fuzz(kind, seeds, Path(folder)) for kind in kinds}
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def table(tallies: dict[str, Tally]) -> list[str]:
    """Lines of the table, one for each kind and one for all."""
    lines = ["| kind | inputs | refused | accepted | finds | slowest, s of CPU |", "| --- " + "| ---: " * 5 + "|"]
    whole = Tally()
    for name, each in tallies.items():
        lines.append(_row(name, each))
        whole.refused, whole.accepted = whole.refused + each.refused, whole.accepted + each.accepted
        whole.slowest = max(whole.slowest, each.slowest)
        whole.finds += each.finds
    return [*lines, _row("all", whole)]


def _row(name: str, each: Tally) -> str:
    numbers = f"{each.inputs:,} | {each.refused:,} | {each.accepted:,} | {len(each.finds):,}"
    return f"| {name} | {numbers} | {each.slowest:.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and every find; return 1 if there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="of all kinds together (default 20,000)")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="this one alone")
    parser.add_argument("--seed", type=int, help="this input of each kind alone")
    asked = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if asked.kind in (None, kind.name)]
    seeds = range(-(-asked.inputs // len(kinds))) if asked.seed is None else [asked.seed]
    ours = logging.getLogger("trainables")
    before = ours.level
    ours.setLevel(logging.CRITICAL)  # what is set aside is told, thousands of times here
    try:
        tallies = run(kinds, seeds)
    finally:
        ours.setLevel(before)
    print("\n".join(table(tallies)))
    finds = [find for each in tallies.values() for find in each.finds]
    print("".join(f"\n{find}\n" for find in finds), end="")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
