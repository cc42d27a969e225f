"""Ways to disturb a sweep: processes that are killed, disks that are full, files that are damaged.

A scene is one sweep in a folder of its own, with all processes that were started for it. A disturbance types the
command once and disturbs it; `bench/chaos.py` then types it until the sweep is done, and judges.

Whatever Ray starts stays in the session (`setsid`) of the process that asked for it. So the processes of a scene are
known, and no other is ever signalled.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ray
import yaml

from search_spaces.core.config import short_hash

ROOT = Path(__file__).resolve().parents[1]
METHOD = ROOT / "tests/sparse_search/execution/chaotic.py"
CALL = "from sparse_search.cli.app import main; main()"
FORGETFUL = f"import chaotic, sparse_search.execution.schedule as s; s.run_trial = chaotic.run_forgetful_trial; {CALL}"

INTERVAL = 2
"""Epochs between two checkpoints."""

SWEEP = {
    "name": "chaos", "datasets": ["digits"], "shots": [3], "image_size": 8, "label_sets": [0, 1], "confirm": 1,
    "confirm_label_sets": 1, "images": 18 * 30, "evaluate_every": INTERVAL * 30, "memory_per_trial": 0.3,
}  # fmt: skip
PLAN = {"presets": [], "search": ["rate", "noise"]}
PLAN_WITH_NAN = {"search": ["rate", "poison"]}

MAX_TYPINGS = 5
TYPING_SECONDS = 400.0
"""After which a command that is still running counts as hung."""

DISK_BYTES = 24 * 2**20
MEMORY_MARGIN = 4e9
"""What driver, Ray and workers, and whatever else happens on the machine, may take before memory counts as low."""

MEMORY_STEP = 100_000_000

Command = subprocess.Popen[bytes]


class CannotError(Exception):
    """This machine does not allow the disturbance."""


class Epoch(NamedTuple):
    """A line of the log that the method keeps."""

    run: str
    epoch: int
    process: int


@dataclass
class Scene:
    """A sweep, and every process that was started for it."""

    folder: Path
    chance: random.Random
    trials: int
    workers: int
    usual_epochs: int
    """Which a sweep trains that nobody disturbs."""

    call: str = CALL
    environment: dict[str, str] = field(default_factory=dict)
    """Of every process from now on."""

    may_lose: int = INTERVAL + 1
    """Epochs that a run may have to train again when it is taken up: a checkpoint is written while training goes on."""

    codes: list[int] = field(default_factory=list)
    """How each command ended."""

    notes: list[tuple[int, set[str]]] = field(default_factory=list)
    """At the end of each command: epochs trained so far, and runs that were finished."""

    story: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def sweep_folder(self) -> Path:
        return self.results / "sweeps" / "chaos"

    @property
    def is_done(self) -> bool:
        return self.codes[-1:] == [0]

    def prepare(self, plan: dict[str, Any]) -> None:
        """Lays out the sweep file, and the method beside it."""
        self.folder.mkdir(parents=True)
        shutil.copy(METHOD, self.folder)
        methods = {"chaotic:METHOD": plan | {"trials": self.trials}}
        (self.folder / "chaos.yaml").write_text(yaml.safe_dump(SWEEP | {"workers": self.workers, "methods": methods}))

    def type(self, **environment: str) -> Command:
        """Starts the command."""
        command = [sys.executable, "-c", self.call, "run", "chaos.yaml"]
        return self.start(f"typed-{len(self.codes) + 1}", command, **environment)

    def start(self, name: str, command: Sequence[str], **environment: str) -> Command:
        """Starts a process in a session of its own."""
        own = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "CHAOS_LOG": str(self.folder / "log"),
            "RAY_TMPDIR": str(self.folder.parent),
        }
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.err").open("wb") as error:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=error, start_new_session=True,
                env=os.environ | own | self.environment | environment,
            )  # fmt: skip
        self.sessions.append(process.pid)
        return process

    def wait(self, driver: Command) -> None:
        """Waits for a command's end and notes how things stand."""
        try:
            driver.wait(TYPING_SECONDS)
        except subprocess.TimeoutExpired:
            self.problems.append(f"command {len(self.codes) + 1} hung")
            driver.kill()
            driver.wait()
        self.codes.append(driver.returncode)
        self.notes.append((len(self.epochs()), self.finished_runs()))

    def finish(self) -> None:
        """Types the command until it is done."""
        while not self.is_done and len(self.codes) < MAX_TYPINGS:
            time.sleep(self.chance.uniform(0, 3))
            self.wait(self.type())

    def wait_for_moment(self, driver: Command) -> None:
        """Waits until some of what is left to train has been trained."""
        left = self.usual_epochs - len(set(self.epochs()))
        epochs = len(self.epochs()) + self.chance.randint(1, max(1, int(0.9 * left)))
        self.story.append(f"after {epochs} epochs")
        wait_until(lambda: len(self.epochs()) >= epochs or driver.poll() is not None)
        time.sleep(self.chance.uniform(0, 0.2))

    def epochs(self) -> list[Epoch]:
        """What has been trained, in order."""
        log = self.folder / "log"
        lines = [line.rsplit(" ", 2) for line in log.read_text().splitlines()] if log.exists() else []
        return [Epoch(run, int(epoch), int(process)) for run, epoch, process in lines]

    def finished_runs(self) -> set[str]:
        """Runs of trials that ended, by their names in the log."""
        files = [*self.results.glob("records/*/*.json"), *self.results.glob("records/*/*/*/*.jsonl")]
        records = [json.loads(line) for path in files for line in path.read_bytes().splitlines()]
        return {f"{short_hash(r['config'])} {r['label_set']}" for r in records if r["status"] != "failed"}

    def processes(self, words: str = "") -> list[int]:
        """All processes, or those with some words in their command line."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if session_of(pid) in self.sessions and words in _command_line(pid)]

    def worker(self, driver: Command) -> int | None:
        """A process that trains; None if the command ends before there is one."""
        wait_until(lambda: driver.poll() is not None or self.processes("ray::ImplicitFunc"))
        workers = self.processes("ray::ImplicitFunc")
        return self.chance.choice(workers) if workers else None

    def end_processes(self) -> None:
        """Ends what is left."""

        def nothing_left() -> bool:
            left = self.processes()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(nothing_left, 30)


def wait_until(condition: Callable[[], Any], seconds: float = TYPING_SECONDS) -> bool:
    """Whether something came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def session_of(pid: int) -> int:
    """The session of a running process; 0 for one that is gone."""
    with suppress(OSError):
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
        return 0 if state in "ZX" else int(session)
    return 0


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


# The disturbances


def nothing(scene: Scene) -> None:
    """Nobody disturbs."""
    scene.wait(scene.type())


def kill_at_start(scene: Scene) -> None:
    """SIGKILL of the driver in its first seconds."""
    driver = scene.type()
    seconds = scene.chance.uniform(0, 15)
    scene.story.append(f"after {seconds:.1f} s")
    with suppress(subprocess.TimeoutExpired):
        driver.wait(seconds)
    driver.kill()
    scene.wait(driver)


def kill_driver(scene: Scene) -> None:
    """SIGKILL of the driver; its Ray is left alone."""
    driver = scene.type()
    scene.wait_for_moment(driver)
    driver.kill()
    scene.wait(driver)


def interrupt_driver(scene: Scene) -> None:
    """Ctrl-C, which reaches every process of the terminal."""
    driver = scene.type()
    scene.wait_for_moment(driver)
    os.killpg(driver.pid, signal.SIGINT)
    scene.wait(driver)
    if driver.returncode != 130:
        scene.problems.append(f"Ctrl-C ended with {driver.returncode}")


def kill_worker(scene: Scene, times: int | None = None) -> None:
    """SIGKILL of a process that trains, once or twice."""
    driver = scene.type()
    for _ in range(times or scene.chance.randint(1, 2)):
        scene.wait_for_moment(driver)
        if worker := scene.worker(driver):
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda gone=worker: not session_of(gone))
    scene.wait(driver)


def kill_raylet(scene: Scene) -> None:
    """SIGKILL of the raylet of one of two nodes, on which a worker is; another node joins later."""
    scene.environment["RAY_AUTH_MODE"] = "disabled"  # of nodes and drivers alike
    port = _free_port()
    _start_node(scene, "head", "--head", f"--port={port}", f"--num-cpus={scene.workers - 1}", "--include-dashboard=0")
    address = f"{ray.util.get_node_ip_address()}:{port}"
    second = _start_node(scene, "second", f"--address={address}", "--num-cpus=1")
    scene.environment["RAY_ADDRESS"] = address
    driver = scene.type()
    scene.wait_for_moment(driver)
    (raylet,) = (pid for pid in scene.processes("/raylet ") if session_of(pid) == second.pid)
    os.kill(raylet, signal.SIGKILL)
    time.sleep(scene.chance.uniform(0, 5))
    _start_node(scene, "third", f"--address={address}", "--num-cpus=1")
    scene.wait(driver)


def fill_disk(scene: Scene) -> None:
    """A results folder on a small disk that is full for some seconds; checkpoints cannot be written in this time."""
    scene.may_lose += INTERVAL
    with _small_disk(scene.results):
        driver = scene.type()
        scene.wait_for_moment(driver)
        filler = scene.results / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        seconds = scene.chance.uniform(1, 20)
        scene.story.append(f"full for {seconds:.0f} s")
        with suppress(subprocess.TimeoutExpired):
            driver.wait(seconds)
        filler.unlink()
        scene.wait(driver)
        scene.finish()
        scene.end_processes()
        shutil.copytree(scene.results, scene.folder / "kept")
    scene.results.rmdir()
    (scene.folder / "kept").rename(scene.results)


def damage_checkpoints(scene: Scene) -> None:
    """SIGKILL of the driver; of every run the newest checkpoint is overwritten or cut short."""
    kill_driver(scene)
    scene.end_processes()
    scene.may_lose += INTERVAL
    newest = {path.parent: path for path in sorted(scene.sweep_folder.glob("checkpoints/**/epoch-*.pt"))}
    scene.story.append(f"{len(newest)} checkpoints")
    for path in newest.values():
        content = path.read_bytes()
        cut = scene.chance.randrange(len(content))
        garbage = scene.chance.choice([b"", scene.chance.randbytes(len(content) - cut)])
        path.write_bytes(content[:cut] + garbage)


def truncate_journal(scene: Scene) -> None:
    """SIGKILL of the driver; the last line of its journal is cut somewhere."""
    kill_driver(scene)
    _truncate_journal(scene)


def damage_both(scene: Scene) -> None:
    """SIGKILL of the driver; the last line of its journal is cut, the newest checkpoints are damaged."""
    damage_checkpoints(scene)
    _truncate_journal(scene)


def forget_metric(scene: Scene) -> None:
    """A report without the objective, which ends its trial."""
    _forget_metric(scene)
    scene.wait(scene.type())


def lose_trials(scene: Scene) -> None:
    """A report without the objective, and SIGKILL of a process that trains."""
    _forget_metric(scene)
    kill_worker(scene, times=1)


def take_memory(scene: Scene) -> None:
    """The machine runs low on memory until Ray has killed a worker."""
    total = ray._private.utils.get_system_memory()
    limit = min(ray._private.utils.get_used_memory() + MEMORY_MARGIN, 0.9 * total)
    driver = scene.type(RAY_memory_usage_threshold=f"{limit / total:.4f}", RAY_memory_monitor_refresh_ms="100")
    scene.wait_for_moment(driver)
    worker = scene.worker(driver)
    ballast: list[bytes] = []

    def is_killed() -> bool:
        if ray._private.utils.get_used_memory() < limit + 3 * MEMORY_STEP:
            ballast.append(b"x" * MEMORY_STEP)
        return not (worker and session_of(worker))

    if not wait_until(is_killed, 60):
        scene.problems.append("no worker was killed")
    ballast.clear()
    scene.wait(driver)


DISTURBANCES: dict[str, Callable[[Scene], None]] = {
    "start": kill_at_start,
    "driver": kill_driver,
    "interrupt": interrupt_driver,
    "worker": kill_worker,
    "raylet": kill_raylet,
    "disk": fill_disk,
    "checkpoint": damage_checkpoints,
    "journal": truncate_journal,
    "driver+journal+checkpoint": damage_both,
    "nan": kill_driver,
    "report": forget_metric,
    "worker+report": lose_trials,
    "memory": take_memory,
}
"""By name; with `nan` the sweep has configurations whose losses become NaN."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def _start_node(scene: Scene, name: str, *arguments: str) -> Command:
    """A Ray node that has started, in a session of its own."""
    program = str(Path(sys.executable).with_name("ray"))
    options = ("--block", "--disable-usage-stats", "--object-store-memory=100000000")
    node = scene.start(name, [program, "start", *arguments, *options], PYTHONUNBUFFERED="1")
    out = scene.folder / f"{name}.out"
    if not wait_until(lambda: node.poll() is not None or "runtime started" in out.read_text(), 120) or node.poll():
        raise RuntimeError(f"node {name} did not start; see {out} and {out.with_suffix('.err')}")
    return node


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotError(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _forget_metric(scene: Scene) -> None:
    number = scene.chance.randint(1, 2 * scene.trials)
    scene.story.append(f"report {number}")
    scene.call = FORGETFUL
    scene.environment["CHAOS_FORGETS"] = str(number)


def _truncate_journal(scene: Scene) -> None:
    path = scene.sweep_folder / "journal.log"
    content = path.read_bytes()
    last = content[content[:-1].rfind(b"\n") + 1 :]
    kept = scene.chance.randrange(1, len(last))
    os.truncate(path, len(content) - len(last) + kept)
    scene.story.append(f"{kept} of {len(last)} bytes left of a line")
