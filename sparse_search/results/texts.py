"""Numbers as people read them; loads at once."""

import re
from typing import Any

_TINY = 0.01


def score_text(value: float | None, digits: int = 3) -> str:
    """Format a score with so many digits, or two that count where it is tiny; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < abs(value) < _TINY else f"{value:.{digits}f}"


def setting_text(value: Any) -> str:
    """A setting with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text with a mark for each character that would steer a terminal, and for halves of characters."""
    return _CONTROL.sub("\ufffd", text.encode("utf-8", "replace").decode())
