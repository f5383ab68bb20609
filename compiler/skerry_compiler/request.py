"""What a person asks of the compiler."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skerry_compiler.fleet_client import Fleet
from skerry_targets.profile import Profile

ANY = "any"


@dataclasses.dataclass(frozen=True, slots=True)
class OnDevice:
    """Which board is to measure (ANY, or a device's name), and which fleet lends it."""

    fleet: Fleet
    device: str = ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What is to be compiled, for what, and how. `time_s` bounds building and measuring
    together; `retrain` is where a hand-over for quantisation-aware retraining goes; `engines` names those that may
    compete (None: all of the profile's that need not be named); `threads` may share one inference; `scales` is a
    hand-over with those of an earlier release, in which bytes are to be kept; `like` names the only candidates that may
    compete (None: all); `on` is where candidates are measured, if not on this machine.
    """

    source: Path
    profile: Profile
    model: str
    version: str
    release: int
    calibration: Path | None = None
    evaluation: Path | None = None
    objective: str = "latency"
    time_s: float = 60.0
    trust_pickle: bool = False
    input_name: str | None = None
    shapes: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    retrain: Path | None = None
    engines: tuple[str, ...] | None = None
    threads: int = 1
    scales: Path | None = None
    like: frozenset[str] | None = None
    on: OnDevice | None = None
