"""Imports that a quick command does without."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    """Finder that hides pandas from PyArrow, whose import of it is a third of a printed leaderboard's time."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Raise ImportError for pandas; leave every other module to the next finder."""
        if fullname == "pandas":
            raise ImportError("pandas is not needed to print")


@contextmanager
def without_pandas() -> Iterator[None]:
    """Hide pandas from what a command imports; what comes after it in the process finds it again."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
