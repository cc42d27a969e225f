"""Mutators of valid examples: other types and odd values in plain values, flipped and cut bytes, odd texts."""

import copy
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

DEEP = 300
"""Levels of nesting that JSON and YAML can still write."""

MAX_LEVEL = 8
"""Level at most at which something is changed: what is nested there can be written too."""

DEEPER = 100_000
"""Levels that no reader can follow."""

TEXTS = (
    "", " ", "x", "-1", "0", "nan", "1e400", "true", "null", "../../etc", "/", ".", "a/b", "a\\b", "\x00", "\x1b[31m",
    "\n", "\u202e", "é" * 300, "x" * 5000, "%s%n", "{}", "=", "@", ":", "digits@0", "digits:0x0",
    "trainables.pixels:METHOD", "9" * 5000, "²", "٣",
)  # fmt: skip

NUMBERS = (
    0, -1, 1, 2, 7, 255, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e12, 1e308,
    math.nan, math.inf, -math.inf,
)  # fmt: skip


def nested(depth: int) -> Any:
    """Lists and mappings in each other."""
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def odd_value(rng: Random) -> Any:
    """Value of any type, seldom one that is expected."""
    others: Sequence[Callable[[], Any]] = (
        lambda: None, lambda: True, lambda: False, list, dict, lambda: [[]], lambda: {"": None},
        lambda: [None, "x", 1.5],
        lambda: [0] * 5000, lambda: nested(5), lambda: nested(DEEP),
        lambda: {str(n): n for n in range(1000)},
    )  # fmt: skip
    return rng.choice((lambda: rng.choice(TEXTS), lambda: rng.choice(NUMBERS), rng.choice(others)))()


def changed_values(rng: Random, values: Any, most: int = 3) -> Any:
    """Copy of plain values with one to some of them changed, removed, renamed or added, at any depth."""
    values = copy.deepcopy(values)
    for _ in range(rng.randint(1, most)):
        places = _places(values)
        if not places:
            return odd_value(rng)
        holder, key = rng.choice(places)
        _change(rng, holder, key)
    return values


def _places(values: Any) -> list[tuple[Any, Any]]:
    """Every mapping or list within, down to `MAX_LEVEL`, with each of its keys."""
    if not isinstance(values, dict | list):
        return []
    found, waiting = [], [(values, 1)]
    while waiting:
        holder, level = waiting.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            found.append((holder, key))
            if isinstance(value, dict | list) and len(found) < DEEP and level < MAX_LEVEL:
                waiting.append((value, level + 1))
    return found


def _change(rng: Random, holder: Any, key: Any) -> None:
    how = rng.random()
    if how < 0.7:
        holder[key] = odd_value(rng)
    elif how < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key) if how < 0.9 else odd_value(rng)
    else:
        holder.append(odd_value(rng))


def changed_bytes(rng: Random, content: bytes) -> bytes:
    """Copy of bytes, with some flipped, cut out, doubled, overwritten or added."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(found) + 1)
        end = min(len(found), start + rng.choice((1, 1, 2, 4, 8, 64)))
        how = rng.randrange(7)
        if how < 2 and start < len(found):
            found[start] ^= 1 << rng.randrange(8)
        elif how == 2:
            del found[start:]
        elif how == 3:
            del found[start:end]
        elif how == 4:
            found[start:end] = rng.choice((b"\x00", b"\xff", b"\x7f")) * (end - start)
        elif how == 5:
            found[start:start] = rng.choice((b"\n", b"\x00", b'"', b"[" * DEEPER, b"9" * 5000, rng.randbytes(16)))
        else:
            found += found[start:end]
    return bytes(found)


def changed_text(rng: Random, text: str) -> str:
    """Copy of a text with characters changed, removed, doubled or added."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        how = rng.randrange(4)
        if how == 0:
            text = text[:start] + rng.choice((*TEXTS, "@28", ":2x2", "+1", ".", "1", "x", "9" * 20)) + text[start:]
        elif how == 1:
            text = text[:start] + text[start + 1 :]
        elif how == 2:
            text = text[:start] + chr(rng.choice((0, 10, 27, 46, 47, 58, 64, 0x661, 0xD800, rng.randrange(32, 127))))
        else:
            text = text[:start] + text
    return text
