"""Versions of the software that a score was made with."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

COMMIT_FILE = "COMMIT"
"""File beside the packages where they were sent without their repository."""

PACKAGES = ("sparse-search", "torch", "timm", "accelerate", "ray", "optuna")


@cache
def versions() -> dict[str, str]:
    """Return the versions of what scores depend on, by name; `commit` is empty for an installed package."""
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version(), "commit": _commit()}


def _commit() -> str:
    folder = Path(__file__).resolve().parents[1]
    if (sent := folder / COMMIT_FILE).is_file():
        return sent.read_text()
    if not (folder / ".git").exists():
        return ""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()
