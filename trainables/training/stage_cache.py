"""Stages of training that trials share, kept by what determines them.

    stages/KIND-KEY/about.json         what determines it, to be read by people
    stages/KIND-KEY/begun/epoch-….pt   as long as it is being made: where whoever was at it left it
    stages/KIND-KEY/made-SHA256.pt     from then on: what was made
    stages/KIND-KEY/part-SHA256.pt     instead, of what grows: one part of it
    stages/KIND-KEY.lock               held by whoever is at it; the system lets go of it when that process ends

They lie below the cache's folder (see `trainables.data.cache`): processes and machines that see the same one share
them, if its file system locks files as POSIX says. Every file appears whole or not at all and is named after its hash,
which is checked whenever it is read.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from search_spaces.core.config import canonical_json
from trainables.data.cache import cache_root, writing
from trainables.training.checkpoint import Checkpoints, load_hashed, save_hashed

log = logging.getLogger(__name__)

_KEY_LENGTH = 32
"""Hexadecimal digits of the key that are part of a folder's name."""


class StageEntry:
    """The place of one stage in the cache.

    Args:
        kind: What sort of stage it is: a word.
        determined_by: Everything on which it depends, as plain values. Another value is another stage.
    """

    def __init__(self, kind: str, determined_by: Mapping[str, Any]) -> None:
        self._about = canonical_json(determined_by)
        self.key = sha256(self._about.encode()).hexdigest()
        """SHA-256 of the canonical JSON of all that determines it."""
        self.folder = cache_root() / "stages" / f"{kind}-{self.key[:_KEY_LENGTH]}"
        self.begun = Checkpoints(self.folder / "begun")
        """What is made of it so far. To be saved by whoever has taken it."""
        self._lock = FileLock(f"{self.folder}.lock", thread_local=False)

    @property
    def is_made(self) -> bool:
        """True if something was made; only `read` tells whether it is whole."""
        return any(self.folder.glob("made-*.pt"))

    def read(self) -> Any | None:
        """Return what was made, on the CPU; None where nothing is, or where it is damaged: then it is set aside."""
        for path in self.folder.glob("made-*.pt"):
            value = load_hashed(path, _digest)
            if value is not None:
                return value
        return None

    def write(self, value: Any) -> None:
        """Keep what was made, which `torch.load(weights_only=True)` must be able to read.

        Raises:
            DataError: it cannot be written: no permission, a full disk.
        """
        with writing("a stage", self.folder):
            save_hashed(self.folder, "made", value, _digest)

    def parts(self, known: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Yield name and content of each part but those known, on the CPU; one that is damaged is set aside."""
        for path in sorted(self.folder.glob("part-*.pt")):
            if path.name not in known and (value := load_hashed(path, _digest)) is not None:
                yield path.name, value

    def add_part(self, value: Any) -> str:
        """Keep one more part, which `torch.load(weights_only=True)` must be able to read; return its name.

        Raises:
            DataError: it cannot be written: no permission, a full disk.
        """
        with writing("a stage", self.folder):
            return save_hashed(self.folder, "part", value, _digest).name

    def take(self, seconds: float) -> bool:
        """Become the one that makes it, waiting so long for another one to end; return False if it did not.

        Args:
            seconds: -1 for as long as it takes.

        Raises:
            DataError: nothing can be written there.
        """
        with writing("a stage", self.folder.parent):
            try:
                self._lock.acquire(timeout=seconds)
            except Timeout:
                return False
            self.folder.mkdir(exist_ok=True)
            (self.folder / "about.json").write_text(self._about)
            return True

    @property
    def is_taken(self) -> bool:
        """True if this is the one that makes it."""
        return self._lock.is_locked

    def release(self) -> None:
        """Let others make it."""
        self._lock.release(force=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
