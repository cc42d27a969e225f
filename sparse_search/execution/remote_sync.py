"""Synchronisation of a sweep's driver with results at a URI: lock, journal, clock, records.

    sweeps/SWEEP/driver.json             who drives, written anew every few seconds
    sweeps/SWEEP/journal/000000.log      the journal in pieces, of which only the last one grows
    sweeps/SWEEP/clock.json

The journal lies beside the driver and is sent as it grows, after the records that it tells of, so that a driver on
another machine goes on from there: what was not sent yet is done again, and nothing is lost or doubled.
"""

import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from search_spaces.core.errors import LockedError, ResultsError, UserError
from sparse_search.results.files import write_atomically
from sparse_search.results.mirror import MirroredStore, pack_records, pull, pull_anew, send, send_records
from sparse_search.results.object_store import Objects, StorageError, at_once
from sparse_search.results.store import Store

SEND_SECONDS = 3.0
"""Time between two looks at what is to be sent."""

HEARTBEAT_SECONDS = 10.0
"""Time between two signs of life of a driver."""

STALE_SECONDS = 60.0
"""Silence after which a driver counts as dead, by the clock of the storage."""

SETTLE_SECONDS = 1.0
"""Time for two drivers that start together to see each other."""

END_SECONDS = 60.0
"""Time that the end of a sweep waits for a storage that does not answer."""

PIECE_BYTES = 2**20
"""Size of a piece of a journal; each time the last piece is sent."""


@contextmanager
def hold_sweep(store: Store, sweep: str, folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a sweep while it is driven: bring what the storage knows of it, and send what comes.

    Args:
        folder: Folder of the sweep in the results; its lock on this machine is held.
        say: Told of a storage that does not answer meanwhile.

    Raises:
        LockedError: another driver holds the sweep.
        ResultsError: the storage does not answer, or refuses.
    """
    if not isinstance(store, MirroredStore):
        yield
        return
    driver_sync = _DriverSync(store, sweep, folder, say)
    try:
        driver_sync.begin()
    except StorageError as problem:
        raise ResultsError(str(problem)) from problem
    is_well = False
    try:
        yield
        is_well = True
    finally:
        try:
            driver_sync.end()
        except LockedError:
            if is_well:
                raise
        except StorageError as problem:
            said = f"{problem}; what was not sent waits in {store.folder}, and the same command sends it"
            if is_well:
                raise ResultsError(said) from problem
            say(said)


def watched_journal(store: Store, sweep: str, folder: Path) -> Path:
    """Return a journal to look at: the sweep's own or, for results at a URI, a copy as last sent, which only grows.

    Raises:
        ResultsError: the storage does not answer, or refuses.
    """
    if not isinstance(store, MirroredStore):
        return folder / "journal.log"
    path = folder / "watched.log"
    try:
        _JournalBackup(store.objects, sweep, path).follow()
    except StorageError as problem:
        raise ResultsError(str(problem)) from problem
    return path


@dataclass
class _DriverSync:
    store: MirroredStore
    sweep: str
    folder: Path
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._lock = _DriverLock(self.store.objects, f"sweeps/{self.sweep}/driver.json")
        self._journal = _JournalBackup(self.store.objects, self.sweep, self.folder / "journal.log")
        self._clock = _Copied(self.store.objects, f"sweeps/{self.sweep}/clock.json", self.folder / "clock.json")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="remote-sync", daemon=True)

    def begin(self) -> None:
        """Take the sweep, and bring what the storage knows of it."""
        self._lock.acquire()
        with ExitStack() as otherwise:
            otherwise.callback(self._let_go)
            came = self._journal.restore()
            if came:
                self._clock.bring()
            if came == "another":  # what this mirror holds beyond the storage was done again elsewhere
                for old in (self.store.outbox(self.sweep), self.folder / "checkpoints"):
                    shutil.rmtree(old, ignore_errors=True)
                pull_anew(self.store)
            send_records(self.store, self.sweep)
            pull(self.store)
            otherwise.pop_all()
        self._thread.start()

    def _let_go(self) -> None:
        with suppress(StorageError):
            self._lock.release()

    def end(self) -> None:
        """Send the rest and let the sweep go, unless another driver has it."""
        self._is_over.set()
        self._thread.join()
        if self.store.lost.is_set():
            return
        self._lock.heartbeat()
        patient = replace(self.store, objects=replace(self.store.objects, patience_seconds=END_SECONDS))
        self._journal.objects = self._clock.objects = patient.objects
        self._send(patient)
        send(self.store.address, "leaderboards", patience_seconds=END_SECONDS)
        pack_records(patient, self.sweep)
        self._lock.release()

    def _send(self, store: MirroredStore) -> None:
        journal = self._journal.unsent()  # first: every record that it tells of is written already
        send_records(store, self.sweep)
        self._journal.send(journal)
        self._clock.send()

    def _go_on(self) -> None:
        """Send what is new every few seconds until the end, in a thread of its own."""
        silent, last_heartbeat = False, time.time()  # also of a machine that slept meanwhile
        while not self._is_over.wait(SEND_SECONDS):
            try:
                if abs(time.time() - last_heartbeat) > HEARTBEAT_SECONDS:
                    self._lock.heartbeat()
                    last_heartbeat = time.time()
                self._send(self.store)
                silent = False
            except LockedError:
                self.store.lost.set()
                return
            except (OSError, UserError) as problem:
                if not silent:
                    self.say(f"{problem}; trying again, and going on meanwhile")
                silent = True


@dataclass
class _Copied:
    """Small file that is sent when it has changed."""

    objects: Objects
    name: str
    path: Path
    _sent: bytes = b""

    def bring(self) -> None:
        self.objects.fetch(self.name, self.path)

    def send(self) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        if content != self._sent:
            self.objects.put(self.name, content)
            self._sent = content


@dataclass
class _JournalBackup:
    """Backup of a journal in pieces; only whole lines are sent."""

    objects: Objects
    sweep: str
    path: Path
    _sent: int = 0
    """Number of bytes that the storage has."""

    _inode: int = 0
    """Identity of the file of which it has them: a journal that was built again is another one."""

    def restore(self) -> str:
        """Make the file what the storage has, unless it has more of the same.

        Returns:
            Nothing, "more" where more of the same journal came, or "another" where another one did.
        """
        there, here = self._from(0), self._here()
        self._inode = self.path.stat().st_ino if self.path.exists() else 0
        here = here[: here.rfind(b"\n") + 1]
        self._sent = len(there)
        if here.startswith(there):
            return ""
        if there.startswith(here):
            write_atomically(self.path, there)
            self._inode = self.path.stat().st_ino
            return "more"
        self.path.replace(self.path.with_name(f"journal-{time.strftime('%Y%m%dT%H%M%S')}.log"))
        write_atomically(self.path, there)
        self._inode = self.path.stat().st_ino
        return "another"

    def unsent(self) -> bytes:
        """Return the journal from the beginning of the last piece that was sent, if there is more now."""
        if self.path.exists() and self.path.stat().st_ino != self._inode:
            if self._inode:
                self.objects.delete_folder(f"sweeps/{self.sweep}/journal")
                self._sent = 0
            self._inode = self.path.stat().st_ino
        if not self.path.exists() or self.path.stat().st_size <= self._sent:
            return b""
        start = self._sent // PIECE_BYTES * PIECE_BYTES
        content = self._here(start)
        content = content[: content.rfind(b"\n") + 1]
        return content if start + len(content) > self._sent else b""

    def send(self, unsent: bytes) -> None:
        """Send what `unsent` returned."""
        first = self._sent // PIECE_BYTES
        for start in range(0, len(unsent), PIECE_BYTES):
            piece = unsent[start : start + PIECE_BYTES]
            self.objects.put(self._name(first + start // PIECE_BYTES), piece)
            self._sent = first * PIECE_BYTES + start + len(piece)

    def follow(self) -> None:
        """Append what is new in the storage to the file."""
        size = self.path.stat().st_size if self.path.exists() else 0
        start = size // PIECE_BYTES * PIECE_BYTES
        there, here = self._from(start), self._here(start)
        if not there.startswith(here):  # another one
            write_atomically(self.path, self._from(0))
        elif len(there) > len(here) or not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(there[len(here) :])

    def _from(self, start: int) -> bytes:
        """Return what the storage has from the beginning of a piece on."""
        names = sorted(self.objects.sizes(f"sweeps/{self.sweep}/journal"))
        wanted = [name for name in names if name >= self._name(start // PIECE_BYTES)]
        return b"".join(content or b"" for content in at_once(self.objects.get, wanted))

    def _here(self, start: int = 0) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read()

    def _name(self, piece: int) -> str:
        return f"sweeps/{self.sweep}/journal/{piece:06d}.log"


@dataclass
class _DriverLock:
    """Object that says who drives a sweep. Nothing locks it: who writes it checks whether another did so too."""

    objects: Objects
    name: str
    own: dict[str, object] = field(
        default_factory=lambda: {
            "who": f"process {os.getpid()} on {platform.node()}",
            "process": os.getpid(),
            "machine": _machine(),
            "token": uuid4().hex,
        }
    )

    def acquire(self) -> None:
        holder = self._holder()
        if holder and not self._is_dead(holder):
            raise LockedError(
                f"this sweep is being run by {holder.get('who')}; wait for it, or stop it first "
                f"(one that was killed on another machine is given up after {STALE_SECONDS:.0f} s)"
            )
        self._write()
        time.sleep(SETTLE_SECONDS)
        self._check()

    def heartbeat(self) -> None:
        self._check()
        self._write()

    def release(self) -> None:
        with suppress(LockedError):
            self._check()
            self.objects.delete(self.name)

    def _write(self) -> None:
        self.objects.put(self.name, json.dumps(self.own).encode())

    def _check(self) -> None:
        holder = self._holder() or {}
        if holder.get("token") != self.own["token"]:
            who = holder.get("who", "another process")
            raise LockedError(f"this sweep is being run by {who}; wait for it, or stop it first")

    def _holder(self) -> dict[str, object] | None:
        content = self.objects.get(self.name)
        try:
            return None if content is None else dict(json.loads(content))
        except (ValueError, TypeError):
            return {"who": "an unknown process"}

    def _is_dead(self, holder: dict[str, object]) -> bool:
        """Return True where the holder ran on this machine and has ended, or has been silent for long."""
        if holder.get("machine") == self.own["machine"] and _machine():
            try:
                os.kill(int(str(holder["process"])), 0)
            except ProcessLookupError:
                return True
            except OSError:
                pass  # another user's
        probe = f"{self.name}.{self.own['token']}"
        self.objects.put(probe, b"what time is it there?")
        silent = self.objects.modified(probe) - self.objects.modified(self.name)
        self.objects.delete(probe)
        return silent > STALE_SECONDS


def _machine() -> str:
    """Return a name of this machine until its next boot, a container being one of its own; empty without any."""
    try:
        return f"{platform.node()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return ""
