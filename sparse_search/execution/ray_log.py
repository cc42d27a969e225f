"""File for what Ray itself says: its dumps and warnings are no part of a sweep's progress."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path

LOG_NAME = "ray.log"
"""Name of the file, in a sweep's folder."""

_STANDARD_ERROR = 2


@contextmanager
def ray_log(path: Path) -> Iterator[None]:
    """Append to a file what Ray says in this process, and what the processes say that it starts.

    Ray's C++ parts know no logger: above a severity that cannot be raised they write to file descriptor 2, from threads
    of their own, until they abort the process. So the descriptor is the file meanwhile, and `sys.stderr` is a stream of
    its own to where it led before.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("a", encoding="utf-8", errors="replace"))
        stack.enter_context(_logged(file))
        stack.enter_context(_descriptor_to(file.fileno()))
        yield


@contextmanager
def _descriptor_to(file: int) -> Iterator[None]:
    """Let descriptor 2 lead to a file; `sys.stderr`, if it writes there, leads to where it did."""
    before = os.dup(_STANDARD_ERROR)  # where it was closed, the file itself
    with ExitStack() as stack:
        stack.callback(os.close, before)
        if _writes_to(_STANDARD_ERROR):
            sys.stderr.flush()
            words = os.fdopen(before, "w", 1, encoding=sys.stderr.encoding, errors="replace", closefd=False)
            stack.enter_context(redirect_stderr(stack.enter_context(words)))
        stack.callback(os.dup2, before, _STANDARD_ERROR)
        os.dup2(file, _STANDARD_ERROR)
        yield


def _writes_to(descriptor: int) -> bool:
    """Return True if `sys.stderr` writes to a file descriptor; a notebook's does not."""
    try:
        return sys.stderr.fileno() == descriptor
    except (AttributeError, io.UnsupportedOperation, ValueError):
        return False


@contextmanager
def _logged(file: io.TextIOWrapper) -> Iterator[None]:
    """Let Ray's Python parts log to a file alone."""
    logger = logging.getLogger("ray")
    before, handler = logger.handlers[:], logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"))
    logger.handlers[:] = [handler]
    try:
        yield
    finally:
        logger.handlers[:] = before
