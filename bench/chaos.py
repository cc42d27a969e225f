"""Disturbs sweeps at random moments, types the same command until each is done, and looks at what was lost.

    python bench/chaos.py                                    # 40 rounds, about an hour on two quiet cores
    python bench/chaos.py --rounds 3 --only worker,memory    # these disturbances alone
    python bench/chaos.py --trials 5                         # smaller sweeps

Each round is a sweep of its own with one disturbance (bench/disturbances.py, bench/damage.py). Afterwards its plan must
be complete, nothing that was finished may have been trained again, nothing that was running may have lost more than one
checkpoint interval (two where its newest checkpoint was damaged or no disk took it) and the epoch that is trained while
a checkpoint is written, the journal may hold no open trial, nobody may have seen a traceback, and with one worker
leaderboard and runs must equal, but for times, those of a sweep that nobody disturbed. What is lost is counted in a log
that the method itself keeps, a line for each epoch (tests/sparse_search/execution/chaotic.py). Exit code 1 if anything
fails.

`disk` mounts a small tmpfs, for which it must be root; `memory` takes some 4 GB.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.damage import DAMAGE
from bench.disturbances import DISTURBANCES as OF_PROCESSES
from bench.disturbances import METHOD, PLAN, PLAN_WITH_NAN, CannotError, Epoch, Scene, nothing
from sparse_search.execution.status import status
from sparse_search.results.store import Store
from sparse_search.search.journal_file import Journal

DISTURBANCES = OF_PROCESSES | DAMAGE

OTHER_PLANS = ("nan", "edit")
"""Disturbances of sweeps whose plan is not that of the undisturbed one."""

SHARE_OF_TWO_WORKERS = 0.25
"""Of the rounds. Two workers end their trials in any order, so that their results are not compared."""

NOT_THE_SAME = ("train_seconds", "versions_json")
"""Columns of a leaderboard that depend on time or on the commit."""

THE_SAME = (
    "config_id", "start", "label_sets", "label_set", "status", "reason", "images_done", "confusion_json", "log_loss",
)  # fmt: skip
"""Columns of a run that must be equal, also where it was pruned."""


@dataclass(frozen=True)
class Outcome:
    """What came of a round: a line of the table."""

    name: str
    workers: int
    typed: int
    lost: int
    """Epochs that a run had to train again at most when it was taken up."""

    repeated: int
    """Finished runs of which an epoch was trained again."""

    complete: bool
    left: int
    """Trials that the journal holds as running or waiting."""

    equal: bool | None
    """Whether the results are those of an undisturbed sweep; None where they are not compared."""

    seconds: float
    problems: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        equal = "-" if self.equal is None else _yes(self.equal)
        counts = map(str, (self.workers, self.typed, self.lost, self.repeated))
        return (self.name, *counts, _yes(self.complete), str(self.left), equal, f"{self.seconds:.0f}", self.verdict)

    @property
    def verdict(self) -> str:
        return "; ".join(self.problems) or "ok"


COLUMNS = (
    "disturbance", "workers", "typed", "epochs lost", "runs repeated", "complete", "RUNNING left", "results equal",
    "seconds", "verdict",
)  # fmt: skip


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


# What must hold


def most_lost(epochs: Sequence[Epoch]) -> int:
    """Epochs that a run had to train again at most when it was taken up, by the same process or by another."""
    lost = 0
    newest: dict[str, int] = defaultdict(int)
    at: dict[tuple[str, int], int] = {}
    for run, epoch, process in epochs:
        if at.get((run, process)) != epoch - 1:
            lost = max(lost, newest[run] + 1 - epoch)
        at[run, process] = epoch
        newest[run] = max(newest[run], epoch)
    return lost


def num_repeated(scene: Scene) -> int:
    """Runs that were finished when a command ended, and trained again by a later one."""
    epochs = scene.epochs()
    return len({epoch.run for since, finished in scene.notes for epoch in epochs[since:] if epoch.run in finished})


def num_left(scene: Scene) -> int:
    """Trials that the journal holds as running or waiting."""
    storage = Journal(scene.sweep_folder / "journal.log")
    trials = [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id, deepcopy=False)]
    return sum(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials)


def is_complete(scene: Scene) -> bool:
    """Whether search and confirmation have all that they planned, and nothing was given up."""
    studies = status(scene.folder / "chaos.yaml", scene.results)
    return len(studies) == 2 and all(each.finished == each.planned and not each.failed for each in studies)


def results_of(scene: Scene) -> tuple[Any, ...]:
    """Leaderboard and runs, without times."""
    (path,) = (scene.results / "leaderboards").glob("*.parquet")
    runs = Store(scene.results).runs().select(THE_SAME).to_pylist()
    ended = sorted((run for run in runs if run["status"] != "failed"), key=json.dumps)
    return pq.read_table(path).drop_columns(list(NOT_THE_SAME)).to_pylist(), ended


def judge(scene: Scene, name: str, seconds: float, undisturbed: tuple[Any, ...] | None) -> Outcome:
    """What came of a round, and all that is wrong about it."""
    lost, repeated, left = most_lost(scene.epochs()), num_repeated(scene), num_left(scene)
    complete = scene.is_done and is_complete(scene)
    equal = results_of(scene) == undisturbed if complete and undisturbed else None
    told = [path.name for path in sorted(scene.folder.glob("typed-*.err")) if "Traceback" in path.read_text()]
    wrong = {
        f"commands ended with {scene.codes}": not scene.is_done,
        "the plan is incomplete": not complete,
        f"{lost} epochs lost, {scene.may_lose} allowed": lost > scene.may_lose,
        f"{repeated} runs repeated": repeated,
        f"{left} trials left": left,
        "the results differ": equal is False,
        f"a traceback in {', '.join(told)}": told,
    }
    problems = (*scene.problems, *(text for text, holds in wrong.items() if holds))
    return Outcome(name, scene.workers, len(scene.codes), lost, repeated, complete, left, equal, seconds, problems)


# The rounds


@dataclass
class Bench:
    """All rounds, each in a folder below one that is kept when something fails."""

    folder: Path
    seed: int
    trials: int
    usual_epochs: int = 0
    undisturbed: tuple[Any, ...] | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, names: Sequence[str]) -> None:
        """Nobody disturbs the first sweep; then a round for each name."""
        first = self.play(0, "nothing")
        self.usual_epochs, self.undisturbed = len(first.epochs()), results_of(first)
        for number, name in enumerate(names, start=1):
            with suppress(CannotError):
                self.play(number, name)

    def play(self, number: int, name: str) -> Scene:
        """One round."""
        chance = random.Random(f"{self.seed}/{number}")
        workers = 2 if number and chance.random() < SHARE_OF_TWO_WORKERS else 1
        scene = Scene(self.folder / str(number), chance, self.trials, workers, self.usual_epochs)
        started = time.monotonic()
        try:
            scene.prepare(PLAN_WITH_NAN if name == "nan" else PLAN)
            DISTURBANCES.get(name, nothing)(scene)
            scene.finish()
        except CannotError as why:
            print(f"{number:2d} {name}: skipped, {why}", flush=True)
            raise
        finally:
            scene.end_processes()
        compared = self.undisturbed if workers == 1 and name not in OTHER_PLANS else None
        outcome = judge(scene, name, time.monotonic() - started, compared)
        self.outcomes.append(outcome)
        story = ", ".join((*scene.story, f"exit codes {scene.codes}"))
        print(f"{number:2d} {name}: {outcome.verdict} ({story})", flush=True)
        return scene


def print_table(outcomes: Sequence[Outcome]) -> None:
    rows = [COLUMNS, *(outcome.cells() for outcome in outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def draw(names: Sequence[str], rounds: int, seed: int) -> list[str]:
    """Disturbances in a random order, none a second time before each had its turn."""
    chance, drawn = random.Random(seed), list[str]()
    while len(drawn) < rounds:
        drawn += chance.sample(names, len(names))
    return drawn[:rounds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(DISTURBANCES), help="disturbances, with commas between them")
    parser.add_argument("--trials", type=int, default=8, help="of the search in each sweep")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    bench = Bench(folder, asked.seed, asked.trials)
    sys.path.insert(0, str(METHOD.parent))
    print(f"{asked.rounds} rounds, seed {asked.seed}, {asked.trials} trials, in {folder}\n", flush=True)
    bench.run(draw(asked.only.split(","), asked.rounds, asked.seed))
    print()
    print_table(bench.outcomes)
    if any(outcome.problems for outcome in bench.outcomes):
        sys.exit(f"\nwhat is left lies in {folder}")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
