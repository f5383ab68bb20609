"""A shadow: a candidate bundle that answers beside the live one and serves nobody; only what it says otherwise counts.

The fleet's order stands in the assignment (`AssignedModel.shadow`), under its signature. What came of it goes up in
`ShadowReport`s: each counts one window of one device's time, so they add up over devices and windows in any order.
"""

from __future__ import annotations

import dataclasses
import math
from enum import StrEnum

from skerry_contracts import names
from skerry_contracts.device import Reason
from skerry_contracts.errors import MismatchError
from skerry_contracts.sketch import Histogram
from skerry_contracts.tensor import Tensor

GROWTH = 1.1  # of latency bins: a quantile is within 5 %
BINS = 176  # 1 us to 17 s
LEAST_MS = 0.001
MOST = 1 << 48  # of one count: sums over many reports stay within 64 bits


@dataclasses.dataclass(frozen=True, slots=True)
class Shadow:
    """What one device is to try beside its live model, and what that may cost.

    `id` names the shadow. `share` of the predictions are asked of the candidate as well, as far as `cpu_share` (of one
    core, on the long run) allows. `memory_bytes` bounds its worker (None: what the device has left). It pauses from
    `max_c` degrees Celsius on, and on a battery that discharges below `min_battery` (0 to 1). Where the model is no
    classifier, outputs that differ by more than `tolerance` of the live ones' root mean square disagree. It ends at
    `until_s` (seconds since 1970) by itself, and reports every `report_s`.
    """

    id: str
    version: str
    release: int
    bundle: str
    target_path: str
    size_bytes: int
    until_s: int
    share: float = 0.1
    cpu_share: float = 0.1
    memory_bytes: int | None = None
    max_c: float = 70.0
    min_battery: float = 0.5
    tolerance: float = 0.1
    report_s: int = 300

    def __post_init__(self) -> None:
        names.name(self.id, "id")
        names.version(self.version)
        names.sha256(self.bundle, "bundle")
        if not (0 < self.share <= 1 and 0 < self.cpu_share <= 1 and 0 <= self.min_battery <= 1):
            raise MismatchError("share", "share and cpu_share above 0 and up to 1; min_battery from 0 to 1")
        if not (0 <= self.tolerance <= 100 and -40 <= self.max_c <= 150 and 1 <= self.report_s <= 86_400):
            raise MismatchError("tolerance", "0 to 100; max_c from -40 to 150; report_s from 1 to 86400")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise MismatchError("memory_bytes", "above 0, or left out")


class ShadowState(StrEnum):
    """How a shadow fares on a device. `WAITING`: it is here and may not run now (heat, memory, an update); the last two
    are final.
    """

    FETCHING = "fetching"
    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowReport:
    """What a shadow came to on one device from `start_s` to `end_s` (seconds since 1970, its own clock).

    `against` is the bundle that served. `chosen` predictions were to be asked of the candidate; `compared` of them
    were, `disagreed` of these said something else; on `failed` the candidate gave no answer, `dropped` it had no time
    for.
    Whatever is in neither waits for the next report. `cpu_s` is the processor time that the candidate took, loading
    included. Latencies are the workers' own, of the same inputs, in `latency_histogram`'s bins.
    """

    boot_id: str
    seq: int
    shadow: str
    model: str
    bundle: str
    state: ShadowState
    start_s: float
    end_s: float
    reason: Reason = Reason.OK
    detail: str = ""
    against: str = ""
    chosen: int = 0
    compared: int = 0
    disagreed: int = 0
    dropped: int = 0
    failed: int = 0
    cpu_s: float = 0.0
    rss_bytes: int = 0
    live_latency: Histogram | None = None
    latency: Histogram | None = None

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)
        names.name(self.shadow, "shadow")
        names.name(self.model, "model")
        names.sha256(self.bundle, "bundle")
        counts = (self.chosen, self.compared, self.disagreed, self.dropped, self.failed, self.rss_bytes)
        if min(counts) < 0 or max(counts) > MOST or self.disagreed > self.compared or not 0 <= self.cpu_s <= MOST:
            raise MismatchError("compared", "counts from 0 to 2^48, and none disagreed that was not compared")


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowAnswer:
    """What a candidate said to the inputs of a sample. Empty outputs: the sample is sealed, and they would not be."""

    shadow: str
    bundle: str
    version: str
    outputs: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        names.name(self.shadow, "shadow")
        names.sha256(self.bundle, "bundle")


def latency_bin(latency_ms: float) -> int:
    """Return the bin that counts a latency; the first holds all below a microsecond, the last all above.

    >>> latency_bin(0.0), latency_bin(0.001), latency_bin(1e9) == BINS - 1
    (0, 0, True)
    """
    if not latency_ms > LEAST_MS:
        return 0
    return min(BINS - 1, int(math.log(min(latency_ms, 1e9) / LEAST_MS) / math.log(GROWTH)))


def latency_quantile_ms(histogram: Histogram, share: float) -> float | None:
    """Return the latency that this share (0 to 1) did not exceed, to within 5 %; None where nothing was counted."""
    total, seen = sum(histogram.counts), 0
    for place, count in enumerate(histogram.counts):
        seen += count
        if count and seen >= share * total:
            return LEAST_MS * math.pow(GROWTH, place + 0.5)
    return None
