"""Ways to disturb a sweep further: Ray of one machine dies, a power cut, several files damaged at once, edits.

Files are damaged once every process of the scene has ended: what a test damages under a running driver would be another
program's fault. After a power cut a file may be there and empty, if it was renamed into place before it was written.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from bench.disturbances import SWEEP, Command, Scene, kill_driver, wait_until

EPOCHS = SWEEP["images"] // 30
"""Of a whole run."""

MAX_LOST_SECONDS = 60.0
"""In which a sweep must end whose Ray has died."""


def terminate_driver(scene: Scene) -> None:
    """SIGTERM of the driver, as a batch system sends it, at any moment of its life."""
    driver = scene.type()
    if scene.chance.random() < 0.5:
        scene.wait_for_moment(driver)
    else:
        _wait(scene, driver, 8, 15)
    driver.terminate()
    scene.wait(driver)
    if driver.returncode not in (0, 130):
        scene.problems.append(f"SIGTERM ended with {driver.returncode}")


def kill_own_gcs(scene: Scene) -> None:
    """SIGKILL of the `gcs_server` that the driver has started on this machine, early or later."""
    _kill_own(scene, "gcs_server")


def kill_own_raylet(scene: Scene) -> None:
    """SIGKILL of the raylet that the driver has started on this machine, early or later."""
    _kill_own(scene, "/raylet ")


def _kill_own(scene: Scene, words: str) -> None:
    driver = scene.type()
    wait_until(lambda: scene.processes(words) or driver.poll() is not None)
    if scene.chance.random() < 0.5:
        scene.wait_for_moment(driver)
    else:
        _wait(scene, driver, 0, 10)
    for process in scene.processes(words):
        os.kill(process, signal.SIGKILL)
    killed = time.monotonic()
    number = len(scene.codes) + 1
    scene.wait(driver)
    seconds = time.monotonic() - killed
    said = (scene.folder / f"typed-{number}.err").read_text().splitlines()
    scene.story.append(f"ended after {seconds:.0f} s")
    if driver.returncode == 0:
        return
    if driver.returncode != 2 or len(said) != 1 or not said[0].startswith("error: Ray "):
        scene.problems.append(f"without Ray it ended with {driver.returncode} and {said[:3]}")
    if seconds > MAX_LOST_SECONDS:
        scene.problems.append(f"without Ray it ended after {seconds:.0f} s")


def empty_files(scene: Scene) -> None:
    """SIGKILL of the driver and all else, and a power cut: files are there, but empty."""
    _damage_some(scene, lambda content: b"")


def damage_files(scene: Scene) -> None:
    """SIGKILL of the driver and all else; several files are overwritten or cut short, each somewhere."""

    def damaged(content: bytes) -> bytes:
        cut = scene.chance.randrange(len(content))
        return content[:cut] + scene.chance.choice([b"", scene.chance.randbytes(len(content) - cut)])

    _damage_some(scene, damaged)


def edit_sweep(scene: Scene) -> None:
    """SIGKILL of the driver; the sweep file then asks for more trials, memory, retries or workers."""
    kill_driver(scene)
    scene.end_processes()
    path = scene.folder / "chaos.yaml"
    sweep = yaml.safe_load(path.read_text())
    edits = {"memory_per_trial": 0.4, "retries": 3, "workers": 2, "cpus_per_trial": 1}
    for name in scene.chance.sample(sorted(edits), 2):
        sweep[name] = edits[name]
        scene.story.append(f"{name} {edits[name]}")
    (method,) = sweep["methods"].values()
    method["trials"] += 2
    path.write_text(yaml.safe_dump(sweep))


DAMAGE: dict[str, Callable[[Scene], None]] = {
    "terminate": terminate_driver,
    "own gcs": kill_own_gcs,
    "own raylet": kill_own_raylet,
    "power cut": empty_files,
    "several files": damage_files,
    "edit": edit_sweep,
}
"""By name."""


def _wait(scene: Scene, driver: Command, least: float, most: float) -> None:
    seconds = scene.chance.uniform(least, most)
    scene.story.append(f"after {seconds:.1f} s")
    wait_until(lambda: driver.poll() is not None, seconds)


def _damage_some(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    """Change the journal, the newest checkpoints, and some or all of what is derived from the records."""
    kill_driver(scene)
    scene.end_processes()
    scene.may_lose = EPOCHS  # the journal alone knows what is in training
    derived = [path for path in _files(scene) if path.stat().st_size]
    chosen = [path for path in derived if path.name == "journal.log" or scene.chance.random() < 0.7]
    for path in chosen:
        path.write_bytes(change(path.read_bytes()))
    scene.story.append(f"{len(chosen)} of {len(derived)} files")


def _files(scene: Scene) -> list[Path]:
    """Everything but the records, which are on the disk before they are named, and checkpoints that are not newest."""
    newest = {path.parent: path for path in sorted(scene.sweep_folder.glob("checkpoints/**/epoch-*.pt"))}
    tables = [path for path in sorted(scene.results.glob("tables/**/*")) if path.is_file()]
    boards = sorted((scene.results / "leaderboards").glob("*.parquet"))
    own = [path for path in sorted(scene.sweep_folder.iterdir()) if path.is_file()]
    return [*tables, *boards, *own, *newest.values()]
