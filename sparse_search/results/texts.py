"""Numbers as people read them; loads at once."""

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
