"""What was measured when a bundle was made: the original, every candidate, and why each won or lost. Never part of
the id.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Verdict(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    RUNNER_UP = "runner-up"
    SLOWER = "slower"
    INACCURATE = "inaccurate"
    TOO_LARGE = "too-large"
    FAILED = "failed"
    UNMEASURED = "unmeasured"


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """Latency of one inference, peak memory of its process, start of process to first answer, bytes on disk.

    `cpu_ms` is the processor time of one inference in the quietest round: by it candidates are compared.
    """

    latency_p50_ms: float
    latency_p95_ms: float
    rss_mb: float
    cold_start_ms: float
    size_bytes: int
    cpu_ms: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """How far answers are from the original's: worst cosine, largest absolute difference, share of equal best
    classes.
    """

    cosine: float
    max_abs: float
    top1: float
    accuracy: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Unsupported:
    """Nodes of one operator that an engine has no form for, for one reason; `nearest` is the form that it has. Of a
    model with thousands of such nodes the first are named and all are counted.
    """

    operator: str
    opset: int
    nodes: tuple[str, ...]
    count: int
    reason: str
    nearest: str = ""
    domain: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One way that was tried. A candidate runs all nodes of the model in one engine, or is not made: `unsupported`
    holds every node that kept it from being made. `speed` is how many times as fast it was as the original beside it.
    """

    id: str
    engine: str
    precision: str
    verdict: Verdict
    reason: str
    measurement: Measurement | None = None
    agreement: Agreement | None = None
    unsupported: tuple[Unsupported, ...] | None = None
    speed: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """The enrolled device that a compile was measured on, and when (seconds since 1970, by the fleet's clock).

    `reference` is the candidate that the others were measured beside; `lease` names the measuring in the fleet's
    performance database; `notes` say under which conditions.
    """

    profile: str
    device: str
    cpu: str
    agent_version: str
    measured_s: int
    reference: str
    lease: str
    engines: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """The tournament's record. `executed_on` says where the figures come from: the host, a device (`board`), an
    emulator, or nowhere.

    `ships_original`: nobody passed the gates, so the model as it came ships. `rows` is on how many rows answers were
    compared; `operators` counts the nodes of the model by operator, after the passes.
    """

    bundle: str
    target: str
    executed_on: str
    host: str
    created_s: int
    candidates: tuple[Candidate, ...]
    original: Measurement | None = None
    original_accuracy: float | None = None
    notes: tuple[str, ...] = ()
    ships_original: bool | None = None
    objective: str | None = None
    rows: int | None = None
    operators: dict[str, int] | None = None
    board: Board | None = None
