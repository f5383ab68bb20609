"""Two slow illnesses of a worker, told from numbers alone: memory that grows with every prediction, and slowness."""

from __future__ import annotations

WARM_PREDICTIONS = 200  # before that an engine still fills its arenas
RISES = 3  # new highs after the base was taken: one jump is an arena, not a leak
ENOUGH = 20  # predictions that make a percentile


class LeakWatch:
    """Whether the memory of one slot's workers grows without end. Fed now and then with what is known of the worker.

    The base is the resident size after a warm-up; a size below it becomes the new base. A worker leaks when it has
    passed the base by `bound_bytes`, in at least three steps, each with predictions between.

    >>> watch = LeakWatch(1000)
    >>> [watch.see(7, count, 5000 + 2 * count) for count in (0, 200, 400, 600, 800)]
    [0, 0, 0, 0, 1200]
    """

    def __init__(self, bound_bytes: int) -> None:
        self._bound_bytes = bound_bytes
        self._worker = -1
        self._begun = self._seen = 0
        self._base: int | None = None
        self._high = self._rises = 0

    def see(self, worker: int, predictions: int, rss_bytes: int) -> int:
        """Return by how many bytes a worker has grown too much; 0 while it is well.

        `worker` is a number that changes with the worker, `predictions` a count that only rises.
        """
        if worker != self._worker:
            self._worker, self._begun, self._base = worker, predictions, None
        if predictions - self._begun < WARM_PREDICTIONS or rss_bytes <= 0:
            return 0
        if self._base is None or rss_bytes < self._base:
            self._base = self._high = rss_bytes
            self._rises = 0
        elif rss_bytes > self._high and predictions > self._seen:
            self._high = rss_bytes
            self._rises += 1
        self._seen = predictions
        grown = rss_bytes - self._base
        return grown if self._rises >= RISES and grown > self._bound_bytes else 0


class SlowWatch:
    """For how long the 95th percentile has been above what the bundle promises."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def see(self, p95_ms: float, promised_ms: float, now_s: float) -> float:
        """Return for how many seconds answers have been too slow.

        >>> watch = SlowWatch()
        >>> [watch.see(p95, 10.0, now) for p95, now in ((9.0, 0.0), (30.0, 5.0), (30.0, 65.0), (8.0, 70.0))]
        [0.0, 0.0, 60.0, 0.0]
        """
        if p95_ms <= promised_ms:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        return 0.0 if self._since_s is None else now_s - self._since_s
