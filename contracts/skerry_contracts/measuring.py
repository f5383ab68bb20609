"""Measuring on a device: candidates of a compile that run there for a while, beside what serves, and serve nobody.

The fleet's order stands in the assignment (`Assignment.measure`), under its signature; the candidates are the variants
of a bundle that the update repository lists under a role of its own (`MODEL`), which no assignment may install. What
came of each goes up in `MeasureReport`s, each bounded.
"""

from __future__ import annotations

import dataclasses
import math
from enum import StrEnum

from skerry_contracts import names
from skerry_contracts.device import Reason
from skerry_contracts.errors import MismatchError

MODEL = "skerry-measuring"  # the role of candidates in the update repository; nothing of this name is ever installed
MAX_CANDIDATES = 16
MAX_ROUNDS = 64
MAX_ANSWERS_BYTES = 48 * 1024  # of one candidate: with base64 half of a message
MAX_DETAIL = 500
MAX_NS = 1 << 53


def model_name(value: str, path: str = "model") -> str:
    """Return the name of a model that may be installed.

    Raises:
        MismatchError: no name, or the one that is kept for candidates.
    """
    if names.name(value, path) == MODEL:
        raise MismatchError(path, f"{MODEL} is only ever measured, never installed", hint="choose another name")
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class MeasureOrder:
    """What one device is to measure, and what that may cost.

    `id` names the lease. The first variant of the bundle that runs is the yardstick of the others. Each pair runs up to
    `rounds` rounds; all together take at most `seconds`, and end at `until_s` (seconds since 1970) whatever happens.
    `memory_bytes` bounds the resident memory of one candidate, `disk_bytes` what is downloaded. It pauses from `max_c`
    degrees Celsius on, and on a battery that discharges below `min_battery` (0 to 1).
    """

    id: str
    version: str
    release: int
    bundle: str
    target_path: str
    size_bytes: int
    until_s: int
    seconds: int = 300
    rounds: int = 8
    memory_bytes: int = 512_000_000
    disk_bytes: int = 512_000_000
    max_c: float = 70.0
    min_battery: float = 0.5

    def __post_init__(self) -> None:
        names.name(self.id, "id")
        names.version(self.version)
        names.sha256(self.bundle, "bundle")
        if self.target_path != f"{MODEL}/{self.bundle}.json":
            raise MismatchError("target_path", f"must be {MODEL}/<bundle>.json: no other bundle is only measured")
        if not (1 <= self.seconds <= 3600 and 1 <= self.rounds <= MAX_ROUNDS):
            raise MismatchError("seconds", f"1 to 3600, and 1 to {MAX_ROUNDS} rounds")
        if not (0 < self.memory_bytes <= 1 << 40 and 0 < self.disk_bytes <= 1 << 40):
            raise MismatchError("memory_bytes", "bytes of memory and disk above 0 and up to 2^40")
        if not (-40 <= self.max_c <= 150 and 0 <= self.min_battery <= 1):
            raise MismatchError("max_c", "-40 to 150; min_battery from 0 to 1")


class MeasureState(StrEnum):
    """How a measuring goes. `WAITING`: not now (live traffic, heat, battery, memory, an update); the last three are
    final.
    """

    FETCHING = "fetching"
    WAITING = "waiting"
    MEASURING = "measuring"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class Outcome(StrEnum):
    """What became of a candidate on the device. None of them is a failure of the device."""

    MEASURED = "measured"
    UNFIT = "unfit"
    NO_LOAD = "no-load"
    CRASHED = "crashed"
    HUNG = "hung"
    TOO_LARGE = "too-large"
    NO_NUMBER = "no-number"
    UNREACHED = "unreached"


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredCandidate:
    """What one candidate came to, beside the yardstick `against` ("": it is the yardstick).

    `p50_ns` holds the median of each round, and `against_p50_ns` the yardstick's median in the same round: the order
    within a round turns each time (A B, B A, ...), so that what drifts falls on both alike. Percentiles are over all
    `runs`, by the worker's own clock; `load_ms` is the engine's start, `rss_bytes` the highest resident size seen.
    `answers` are its outputs for the first `rows` of the golden inputs, as golden rows are written; without any, a row
    was too large.
    """

    id: str
    engine: str
    precision: str
    outcome: Outcome
    detail: str = ""
    against: str = ""
    p50_ns: tuple[int, ...] = ()
    against_p50_ns: tuple[int, ...] = ()
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    latency_p99_ms: float = 0.0
    load_ms: float = 0.0
    rss_bytes: int = 0
    runs: int = 0
    disturbed: int = 0
    rows: int = 0
    answers: bytes | None = None

    def __post_init__(self) -> None:
        names.name(self.id, "id")
        names.name(self.engine, "engine")
        if len(self.p50_ns) > MAX_ROUNDS or len(self.against_p50_ns) not in (0, len(self.p50_ns)):
            raise MismatchError("p50_ns", f"at most {MAX_ROUNDS} rounds, the yardstick's as many or none")
        counts = (*self.p50_ns, *self.against_p50_ns, self.rss_bytes, self.runs, self.disturbed, self.rows)
        if not all(0 <= each <= MAX_NS for each in counts):
            raise MismatchError("p50_ns", "times, sizes and counts from 0 to 2^53")
        times = (self.latency_p50_ms, self.latency_p95_ms, self.latency_p99_ms, self.load_ms)
        if not all(math.isfinite(each) and each >= 0 for each in times):
            raise MismatchError("latency_p50_ms", "times are not negative")
        if len(self.detail) > MAX_DETAIL or len(self.answers or b"") > MAX_ANSWERS_BYTES:
            raise MismatchError("answers", f"at most {MAX_ANSWERS_BYTES} bytes, and {MAX_DETAIL} letters of detail")


@dataclasses.dataclass(frozen=True, slots=True)
class MeasureReport:
    """A step of one measuring: a change of state, or what one candidate came to (`candidate`, its state `MEASURING`).

    `reported` is how many candidates were told of by the end; `notes` say under which conditions (the processor's
    governor, temperatures, how often live traffic came first).
    """

    boot_id: str
    seq: int
    time_s: float
    order: str
    bundle: str
    state: MeasureState
    reason: Reason = Reason.OK
    detail: str = ""
    candidate: MeasuredCandidate | None = None
    reported: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)
        names.name(self.order, "order")
        names.sha256(self.bundle, "bundle")
        if not 0 <= self.reported <= MAX_CANDIDATES or len(self.notes) > 8:
            raise MismatchError("reported", f"0 to {MAX_CANDIDATES} candidates, and at most 8 notes")


FINAL = (MeasureState.DONE, MeasureState.STOPPED, MeasureState.FAILED)
