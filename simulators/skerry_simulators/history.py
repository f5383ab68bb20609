"""What happened, as a running digest (so that two runs can be compared) and as the last few lines (so that one can be
understood).
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque

from skerry_simulators.clock import TrueClock

LAST_LINES = 400


class History:
    """Every fact of a run goes into one SHA-256; the last lines are kept for people."""

    def __init__(self, clock: TrueClock) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._hash = hashlib.sha256()
        self._last: deque[tuple[float, str, str, str]] = deque(maxlen=LAST_LINES)

    def add(self, who: str, what: str, detail: str = "") -> None:
        """Note that something happened to somebody."""
        self.counts[what] += 1
        self._hash.update(f"{self._clock.now_s:.6f} {who} {what} {detail}\n".encode())
        self._last.append((self._clock.now_s, who, what, detail))

    def digest(self) -> str:
        """Return the SHA-256 of the whole history so far, in hex."""
        return self._hash.hexdigest()

    def last(self, count: int, who: str | None = None) -> list[str]:
        """Return the last events, of one device or of all, oldest first."""
        chosen = [line for line in self._last if who is None or line[1] in (who, "fleet")]
        return [f"{time_s:12.3f} s  {name:<10} {what:<18} {detail}" for time_s, name, what, detail in chosen[-count:]]
