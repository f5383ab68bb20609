"""What a shadow came to since the last report, in numbers that add up."""

from __future__ import annotations

import dataclasses

from skerry_contracts.device import Reason
from skerry_contracts.shadow import BINS, ShadowReport, ShadowState, latency_bin
from skerry_contracts.sketch import Histogram


@dataclasses.dataclass(slots=True)
class Tally:
    """One window of one candidate against one live bundle. `start_s` is seconds since 1970."""

    shadow: str
    model: str
    bundle: str
    start_s: float
    against: str = ""
    chosen: int = 0
    compared: int = 0
    disagreed: int = 0
    dropped: int = 0
    failed: int = 0
    cpu_s: float = 0.0
    live: list[int] = dataclasses.field(default_factory=lambda: [0] * BINS)
    own: list[int] = dataclasses.field(default_factory=lambda: [0] * BINS)

    def compare(self, *, disagrees: bool, live_ms: float, own_ms: float) -> None:
        """Count an answer beside the live one, and both latencies."""
        self.compared += 1
        self.disagreed += disagrees
        self.live[latency_bin(live_ms)] += 1
        self.own[latency_bin(own_ms)] += 1

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.chosen or self.cpu_s or self.compared or self.failed or self.dropped)

    def report(
        self,
        boot_id: str,
        seq: int,
        end_s: float,
        state: ShadowState,
        reason: Reason = Reason.OK,
        detail: str = "",
        rss_bytes: int = 0,
    ) -> ShadowReport:
        """Return the window as a message."""
        latencies = [
            Histogram("latency_ms", _trimmed(each)) if self.compared else None for each in (self.live, self.own)
        ]
        return ShadowReport(
            boot_id,
            seq,
            self.shadow,
            self.model,
            self.bundle,
            state,
            self.start_s,
            max(end_s, self.start_s),
            reason,
            detail[:500],
            self.against,
            self.chosen,
            self.compared,
            self.disagreed,
            self.dropped,
            self.failed,
            self.cpu_s,
            rss_bytes,
            *latencies,
        )


def _trimmed(counts: list[int]) -> tuple[int, ...]:
    """Return counts without the empty bins at the end: most are, and a report is small then."""
    last = max((place for place, count in enumerate(counts) if count), default=-1)
    return tuple(counts[: last + 1])
