"""The home folder, also of a user who has none, as in a container that runs under a mere number."""

import os
from pathlib import Path


def from_home(path: str) -> Path:
    """The path, `~` being the home folder; where there is none, the current folder takes its place."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path.removeprefix("~/")).absolute()


def ensure_home() -> None:
    """Give a user without a home folder the current one: Ray asks for it while it is loaded."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(Path.cwd())
