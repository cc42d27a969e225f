"""The command line within this process, where it is what it prints that is tested and not that a process starts."""

import sys
import warnings
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from subprocess import CompletedProcess
from unittest.mock import patch

from sparse_search.cli.app import main


def call(*arguments, cwd):
    """Run `sparse-search` in a folder as its entry point does: exit code and what was printed.

    Finders of modules stay: the package `importlib_metadata`, once imported, is the only one that finds versions.
    """
    words = ["sparse-search", *map(str, arguments)]
    printed, complained = (TextIOWrapper(BytesIO(), write_through=True) for _ in range(2))
    with ExitStack() as left_as_found:
        for changed in (
            chdir(cwd), patch.object(sys, "argv", words), patch.object(sys, "path", [*sys.path]),
            warnings.catch_warnings(),
            redirect_stdout(printed), redirect_stderr(complained),
        ):  # fmt: skip
            left_as_found.enter_context(changed)
        warnings.simplefilter("default")
        code = _exit_code()
    texts = (stream.buffer.getvalue().decode() for stream in (printed, complained))
    return CompletedProcess(words, code, *texts)


def _exit_code():
    try:
        main()
    except SystemExit as ending:
        return ending.code or 0
    return 0
