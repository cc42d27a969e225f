"""Mirror of results at a URI, s3://bucket/prefix, in a folder of this machine on which everything else works.

    records/SWEEP/new/RECORD_ID.json     a record of a sweep that runs, or was killed
    records/SWEEP/part-….jsonl.zst       records of a sweep that has ended, together
    artefacts/…, ledger/…, leaderboards/…       as in the folder
    sweeps/SWEEP/…                       journal, clock, lock and checkpoints: see `remote_sync`, `stored_checkpoints`

What is read is pulled first: names are listed, and of records only those that were never pulled are asked for, so a
query over what is here costs one request for each thousand of them. Objects are written once or replaced whole. The
storage is the truth, and the mirror can be deleted at any moment but for what waits in its `outbox/` to be sent.
"""

import json
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from search_spaces.core.errors import LockedError, ResultsError
from sparse_search.results.catalog import SetAsideWarning
from sparse_search.results.files import write_atomically
from sparse_search.results.intake import check_fit
from sparse_search.results.object_store import Objects, at_once, endpoint, is_uri, objects_at
from sparse_search.results.records import DamagedError, bundle, decode, encode
from sparse_search.results.store import Store
from trainables.data.cache import cache_root
from trainables.training.kept_weights import WEIGHTS

MIN_PACKED = 100
"""Least number of records that are brought together."""

MAX_PACKED = 1000
"""Largest number of records in one object."""

MAX_TRIES = 5
"""Number of times that a driver may bring records together while they are pulled."""


@dataclass(frozen=True)
class MirroredStore(Store):
    """Store that mirrors results at a URI."""

    objects: Objects
    lost: Event = field(default_factory=Event, compare=False)
    """Event that is set when another driver has taken over the sweep of this one: nothing more may be written."""

    @property
    def address(self) -> str:
        """URI of the results."""
        return self.objects.uri

    def write(self, record: Mapping[str, Any]) -> None:
        """Write as a store does; the record then waits to be sent, also if this process is killed.

        Raises:
            LockedError: another driver has taken over.
        """
        if self.lost.is_set():
            raise LockedError("another driver has taken over this sweep, as this one was silent for too long")
        path, line = self.outbox(record["sweep"]) / f"{record['record_id']}.json", encode(record)
        check_fit(line)
        try:
            write_atomically(path, line)
        except OSError as problem:
            raise ResultsError(f"cannot write {path}: {problem.strerror}") from problem
        super().write(record)

    def outbox(self, sweep: str) -> Path:
        """Return the folder in which the records of a sweep wait to be sent."""
        return self.folder / "outbox" / sweep


def store_at(results: Path | str) -> Store:
    """Return the results in a folder, or the mirror of those at a URI as it is now.

    Raises:
        ConfigError: no URI of a storage that is known.
    """
    if not is_uri(results):
        return Store(Path(results))
    objects = objects_at(results)
    parts = urlsplit(objects.uri)
    location = f"{parts.netloc}{parts.path}"
    key = sha256(f"{parts.scheme}|{endpoint()}|{parts.query}|{location}".encode()).hexdigest()[:8]
    name = f"{re.sub('[^A-Za-z0-9._]+', '-', location).strip('-')}-{key}"
    return MirroredStore(cache_root() / "results" / name, objects)


def read_store(results: Path | str) -> Store:
    """Return the results in a folder or at a URI, to be read: `runs()` and `curves()` are Arrow tables.

    Of a URI everything that is new is fetched into the mirror on this machine, artefacts excepted.

    Raises:
        ResultsError: the storage does not answer or refuses, or the mirror cannot be written.
        ConfigError: no URI of a storage that is known.
    """
    store = store_at(results)
    if isinstance(store, MirroredStore):
        try:
            pull(store)
        except OSError as problem:
            raise ResultsError(str(problem)) from problem
    return store


def pull(store: MirroredStore) -> None:
    """Bring new records and looks at test labels into the mirror.

    Raises:
        OSError: the storage does not answer, or refuses; or the mirror cannot be written.
        ResultsError: a record was written by another version.
    """
    store.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(store.folder / ".pull.lock"):
        for _ in range(MAX_TRIES):
            known, listed = _known(store), store.objects.sizes("records").keys()
            new = sorted(listed - known)
            here = set(store.runs(columns=["record_id"])["record_id"].to_pylist()) if new else set()
            were_there = at_once(partial(_pull_records, store, here), new)
            names = (known & listed) | {name for name, was_there in zip(new, were_there, strict=True) if was_there}
            if names != known:
                note = json.dumps([store.num_records(), sorted(names)])  # counted when on disk in the tables
                write_atomically(store.folder / _PULLED, note.encode())
            if all(were_there):
                break
        fetch_missing(store, "ledger")


_PULLED = ".pulled.json"


def _known(store: Store) -> set[str]:
    """Return the objects whose records are in the mirror: none where some of these were found damaged."""
    try:
        num_records, names = json.loads((store.folder / _PULLED).read_bytes())
    except (OSError, ValueError):
        return set()
    return set(names) if store.num_records() >= num_records else set()


def _pull_records(store: MirroredStore, here: Collection[str], name: str) -> bool:
    """Bring those records of an object into the mirror, not yet into its tables, that are not here.

    Returns:
        True where the object was there.
    """
    content = store.objects.get(name)
    for line in (content or b"").splitlines():
        try:
            record_id = decode(line, name)["record_id"]
        except DamagedError as problem:
            warnings.warn(f"{store.address}/{name}: {problem}; left out", SetAsideWarning, stacklevel=2)
        else:
            if record_id not in here:
                write_atomically(store.path_of(record_id), line, on_disk=False)
    return content is not None


def pull_anew(store: MirroredStore) -> None:
    """Make the mirror what the storage holds, and nothing else; raises as `pull`."""
    store.clear()
    (store.folder / _PULLED).unlink(missing_ok=True)
    pull(store)


def fetched(results: Path | str, folder: str, file: str = "") -> Path:
    """Fetch a folder below the results, or its files of one name, to this machine; return its path here.

    Raises:
        ResultsError: the storage does not answer, or refuses.
    """
    store = store_at(results)
    if isinstance(store, MirroredStore):
        try:
            fetch_missing(store, folder, file)
        except OSError as problem:
            raise ResultsError(str(problem)) from problem
    return store.folder / folder


def send(results: Path | str, folder: str, *, patience_seconds: float = 0.0) -> None:
    """Send all files of a folder below the results; do nothing where these are a folder of this machine.

    Weights, which are large, are then in the storage only, until somebody fetches them.

    Raises:
        StorageError: the storage does not answer, or refuses.
    """
    store = store_at(results)
    if isinstance(store, MirroredStore):
        objects = replace(store.objects, patience_seconds=patience_seconds)
        files = [path for path in (store.folder / folder).rglob("[!.]*") if path.is_file()]
        at_once(lambda path: objects.put(path.relative_to(store.folder).as_posix(), path.read_bytes()), files)
        for path in files:
            if path.name == WEIGHTS:
                path.unlink(missing_ok=True)


def send_records(store: MirroredStore, sweep: str) -> None:
    """Send the records of a sweep that wait for it.

    Raises:
        StorageError: the storage does not answer, or refuses.
    """

    def move(path: Path) -> None:
        store.objects.put(f"{_singles(sweep)}/{path.name}", path.read_bytes())
        path.unlink()

    at_once(move, sorted(store.outbox(sweep).glob("[!.]*.json")))


def pack_records(store: MirroredStore, sweep: str) -> None:
    """Bring the records of a sweep together, where there are many; only for its one driver.

    Who pulls meanwhile misses none, and who is killed leaves some twice, which does no harm.

    Raises:
        StorageError: the storage does not answer, or refuses.
    """
    names = sorted(store.objects.sizes(_singles(sweep)))
    if len(names) < MIN_PACKED:
        return
    for start in range(0, len(names), MAX_PACKED):
        found = at_once(store.objects.get, names[start : start + MAX_PACKED])
        content = bundle(line for line in found if line)
        store.objects.put(f"records/{sweep}/part-{sha256(content).hexdigest()[:16]}.jsonl.zst", content)
    store.objects.delete_folder(_singles(sweep))


def _singles(sweep: str) -> str:
    return f"records/{sweep}/new"


def fetch_missing(store: MirroredStore, folder: str, file: str = "") -> None:
    """Fetch what the storage has in a folder and the mirror has not, or in another size."""

    def is_missing(name: str, size: int) -> bool:
        path = store.folder / name
        return name.endswith(file) and not (path.is_file() and path.stat().st_size == size)

    missing = [name for name, size in store.objects.sizes(folder).items() if is_missing(name, size)]
    at_once(lambda name: store.objects.fetch(name, store.folder / name), missing)
