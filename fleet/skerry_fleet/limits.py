"""Rate limits: a token bucket for each key and each address (as in RFC 2697, without its colours).

A bucket holds `burst` tokens and gains `per_s` a second; a request takes one, and waits outside where there is none.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from skerry_fleet.config import FleetConfig

MOST = 10_000
"""Buckets that are kept; the one unused for longest makes room, and is full again when it comes back."""
GUESS = 10
"""What a refused key costs its address, besides the request itself."""
FREE = frozenset({"/healthz", "/readyz"})
DOWNLOADS = ("/blobs/", "/tuf/", "/deltas/")
"""Devices of one site share an address and fetch much: only refused tokens cost them anything."""


class Buckets:
    """Buckets by name. Not for several threads."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_s, self.burst, self._clock = per_s, burst, clock
        self._found: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, tokens: float = 1.0) -> float:
        """Take tokens; return 0, or after how many seconds there are enough (nothing is taken then)."""
        if not self.per_s:
            return 0.0
        left = self._left(name)
        if left < tokens:
            return (tokens - left) / self.per_s
        self._keep(name, left - tokens)
        return 0.0

    def charge(self, name: str, tokens: float) -> None:
        """Take tokens that may not be there: a bucket can be emptied to as far below nothing as it holds."""
        if self.per_s:
            self._keep(name, max(-self.burst, self._left(name) - tokens))

    def _left(self, name: str) -> float:
        left, at = self._found.get(name, (self.burst, 0.0))
        return min(self.burst, left + max(0.0, self._clock() - at) * self.per_s)

    def _keep(self, name: str, left: float) -> None:
        self._found[name] = (left, self._clock())
        self._found.move_to_end(name)
        while len(self._found) > MOST:
            self._found.popitem(last=False)


class Limits:
    """What one client may ask: by its key, and by its address."""

    def __init__(self, config: FleetConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys = Buckets(config.key_per_s, config.key_burst, clock)
        self.addresses = Buckets(config.address_per_s, config.address_burst, clock)

    def wait_s(self, path: str, address: str, key: bytes) -> tuple[str, float]:
        """Take in a request; return what is over its limit (`key`, `address`, or nothing) and the seconds to wait."""
        if path in FREE or path.startswith(DOWNLOADS):
            return "", 0.0
        wait_s = self.addresses.take(address)
        if wait_s:
            return "address", wait_s
        # A hash of the whole key: who knows only its public part cannot use up what its owner may ask.
        wait_s = self.keys.take(hashlib.sha256(key).hexdigest()) if key else 0.0
        return ("key", wait_s) if wait_s else ("", 0.0)

    def guessed(self, address: str) -> None:
        """Make a refused key dear."""
        self.addresses.charge(address, GUESS)
