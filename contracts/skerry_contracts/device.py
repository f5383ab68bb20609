"""What a device says of itself, and the fleet's acknowledgement.

Every message carries the boot it was made in and a sequence number within that boot: (device, boot_id, seq) names it
for ever, makes redelivery harmless and shows gaps. Times are seconds since 1970 by the device's own clock; ages and
durations are monotonic.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from skerry_contracts import names


class Phase(StrEnum):
    """Where an update stands. The last three are final."""

    OFFERED = "offered"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an update failed or was rolled back. `OK` where it did not."""

    OK = "ok"
    SUPERSEDED = "superseded"
    UNSIGNED = "unsigned"
    WRONG_DEVICE = "wrong-device"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    DOWNGRADE = "downgrade"
    NOT_LISTED = "not-listed"
    CORRUPT = "corrupt"
    UNFIT = "unfit"
    NO_SPACE = "no-space"
    NETWORK = "network"
    TIMEOUT = "timeout"
    LOAD = "load"
    GOLDEN = "golden"
    CONTRACT = "contract"
    CRASHED = "crashed"
    UNHEALTHY = "unhealthy"
    POWER_CUT = "power-cut"
    ORDERED = "ordered"
    STORAGE = "storage"


class ModelState(StrEnum):
    """How a model fares on a device."""

    STARTING = "starting"
    SERVING = "serving"
    TRIAL = "trial"
    DEGRADED = "degraded"
    STOPPED = "stopped"


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """Said on every connection, and as the will when the connection is lost. A late will of an older session changes
    nothing. `leaving`: the device goes offline on purpose; no will says so.
    """

    boot_id: str
    session: int
    online: bool
    leaving: bool | None = None

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)


@dataclasses.dataclass(frozen=True, slots=True)
class Hardware:
    """What the device is: enough to check a bundle's predicates from afar."""

    os: str
    machine: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_bytes: int
    libc: str
    libc_version: str
    profile: str
    agent_version: str
    engines: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class ModelHealth:
    """One model on the device, since the last heartbeat where counts are concerned. Latencies are those of the
    worker.
    """

    model: str
    version: str
    bundle: str
    variant: str
    state: ModelState
    predictions: int
    errors: int
    restarts: int
    latency_p50_ms: float
    latency_p95_ms: float
    rss_bytes: int
    mean_confidence: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """A change that a device saw in its own stream: the mean of `source` (named as in a baseline) was `before`, and is
    `after` over the last `predictions`; seen `age_s` ago.
    """

    model: str
    bundle: str
    source: str
    before: float
    after: float
    predictions: int
    age_s: float

    def __post_init__(self) -> None:
        names.name(self.model, "model")
        names.sha256(self.bundle, "bundle")


@dataclasses.dataclass(frozen=True, slots=True)
class SpoolHealth:
    """The accounting of kept messages: made = acked + waiting + dropped, at every instant."""

    made: int
    acked: int
    waiting: int
    dropped: int
    waiting_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Heartbeat:
    """The device's health. `sequence` is the assignment it has adopted; `degraded` lists what is wrong, in words;
    `drift` the alarms that stand (None: none).
    """

    boot_id: str
    seq: int
    time_s: float
    uptime_s: float
    sequence: int
    models: tuple[ModelHealth, ...]
    spool: SpoolHealth
    supervisor_rss_bytes: int
    disk_free_bytes: int
    temperature_c: float | None = None
    degraded: tuple[str, ...] = ()
    hardware: Hardware | None = None
    drift: tuple[Drift, ...] | None = None

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """One step of one update. `sequence` is the assignment's; `rollout` the one that ordered it; `detail` is for
    people.
    """

    boot_id: str
    seq: int
    time_s: float
    sequence: int
    rollout: str
    model: str
    bundle: str
    phase: Phase
    reason: Reason = Reason.OK
    detail: str = ""
    received_bytes: int = 0
    total_bytes: int = 0

    def __post_init__(self) -> None:
        names.boot_id(self.boot_id)


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """The sequence numbers of one boot that the fleet has committed."""

    boot_id: str
    seqs: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Ack:
    """The fleet has committed these messages: the device may forget them. Only this deletes; a broker's PUBACK never
    does.
    """

    received: tuple[Received, ...]
