"""Errors that a user can cause, as one small tree.

    UserError            the message is shown as it is, one line, exit code 2
    ├── ConfigError      a configuration or sweep file: unknown key, wrong type, impossible value
    ├── DataError        a data set: missing, damaged, too small, unknown
    ├── ResultsError     the results folder: unwritable, nothing in it, damaged
    ├── ModelError       a saved model: missing, damaged, of another format; or none can be saved
    ├── LockedError      another driver works on the same sweep
    └── ClusterError     a cluster: no answer, no token, refused

They live in the lowest layer because every layer raises them.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake the user can mend; its text says what was given, what was expected, what to change."""


class ConfigError(UserError):
    """A configuration or a sweep file cannot be used as it is."""


class DataError(UserError):
    """A data set cannot be found, read or split as asked."""


class ResultsError(UserError):
    """The results folder cannot be used, or holds nothing that answers the question."""


class ModelError(UserError):
    """A saved model cannot be read, or there can be none."""


class LockedError(UserError):
    """Another process holds what was asked for."""


class ClusterError(UserError):
    """A cluster cannot be reached or does not do what it was asked."""


def suggestion(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close, followed by all known names."""
    names = sorted(known)
    close = get_close_matches(given, names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{hint} Known: {', '.join(names)}."
