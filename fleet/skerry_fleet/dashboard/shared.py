"""What takes long to find out is found out once for all who look: a thousand open pages ask the same question."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 200


class Shared:
    """Answers by what was asked. While one is being found, whoever asks the same waits for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[threading.Lock, float, Any]] = OrderedDict()

    def get(self, key: Hashable, lasts_s: float, find: Callable[[], T]) -> T:
        """Return what `find` says, or said at most `lasts_s` ago."""
        with self._lock:
            alone, at, answer = self._found.get(key, (threading.Lock(), -1e9, None))
            self._found[key] = (alone, at, answer)
            self._found.move_to_end(key)
            while len(self._found) > MOST:
                self._found.popitem(last=False)
        if self._clock() - at < lasts_s:
            return answer  # type: ignore[no-any-return]  # what was put here under this key
        with alone:
            _, at, answer = self._found.get(key, (alone, -1e9, None))
            if self._clock() - at >= lasts_s:
                answer = find()
                self._found[key] = (alone, self._clock(), answer)
            return answer  # type: ignore[no-any-return]
