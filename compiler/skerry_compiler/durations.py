"""Times as people write them: 90s, 5m, 1h, or a bare number of seconds."""

from __future__ import annotations

import math
import re

from skerry_compiler.errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_WORDS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([smh]?)")
MAX_S = 86_400.0


def seconds(words: str, flag: str = "--budget") -> float:
    """Return a time in seconds.

    Raises:
        UsageError: not a time, not above 0, or a day and more.

    >>> seconds("5m"), seconds("90s"), seconds("1.5")
    (300.0, 90.0, 1.5)
    """
    found = _WORDS.fullmatch(words.strip().lower())
    value = float(found[1]) * _UNITS[found[2]] if found else math.nan
    if not 0 < value < MAX_S:
        raise UsageError(f"{flag} {words!r:.40} is no time between 0 and a day", hint="write 90s, 5m or 1h")
    return value
