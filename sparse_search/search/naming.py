"""Names of studies as names of folders."""

import re

from search_spaces.core.config import short_hash

MAX_FOLDER = 200
"""Most characters of the name of a study's folder."""


def study_folder(name: str) -> str:
    """Return the name of a study as a folder may be called."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return plain if len(plain) <= MAX_FOLDER else f"{plain[:MAX_FOLDER]}_{short_hash({'name': name})}"
