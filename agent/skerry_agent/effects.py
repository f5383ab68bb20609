"""What the core asks of the world: the daemon does it with processes, sockets and threads, the simulator with none.

Each says which of the core's methods takes the answer. An effect whose ticket is no longer the model's may be carried
out or not: its answer changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from skerry_agent.ledger import Key
from skerry_contracts.assignment import Receipt
from skerry_contracts.bundle import Blob
from skerry_contracts.measuring import MeasureOrder
from skerry_contracts.shadow import Shadow


@dataclasses.dataclass(frozen=True, slots=True)
class Verify:
    """Check an assignment's signature; answers: `verified`, `unverified`."""

    envelope: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class FetchManifest:
    """Ask the update repository (TUF) for a manifest; answers: `manifest`, `fetch_failed`.

    `floors` are the least versions of its roles that may be believed; `clock_floor_s` the earliest time it can be.
    """

    model: str
    ticket: int
    bundle: str
    target_path: str
    size_bytes: int
    floors: Mapping[str, int]
    clock_floor_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class FetchBlobs:
    """Put these blobs and then the manifest into the store, durably; answers: `received`, `fetched`, `fetch_failed`."""

    model: str
    ticket: int
    manifest: bytes
    blobs: tuple[Blob, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CancelFetch:
    """Stop fetching for a model."""

    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """Load these variants in a slot of its own, one after the other, ask the golden vectors, choose the fastest.

    Answers: `trial_passed`, `trial_failed`.
    """

    model: str
    ticket: int
    bundle: str
    variants: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CancelTrial:
    """End the trial slot of a model."""

    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class Swap:
    """Make the trial slot the live one; where there is none, serve this; answers where it fails: `unhealthy`."""

    model: str
    bundle: str
    variant: str


@dataclasses.dataclass(frozen=True, slots=True)
class Serve:
    """Make a bundle serve in place of whatever does; answers where it fails: `unhealthy`."""

    model: str
    bundle: str
    variant: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """End the live worker of a model."""

    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class Sign:
    """Sign a receipt with the device's key; answers: `signed`."""

    receipt: Receipt


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Send a message; no answer. `key` is the spooled message it is (None: it is not kept)."""

    channel: str
    payload: bytes
    key: Key | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowReady:
    """A model's candidate is here: run it beside the live model where there is room; answers: `shadow_loading`."""

    model: str
    bundle: str
    terms: Shadow


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowLoad:
    """Start the candidate's worker; answers: `shadow_proven`, `shadow_rested`, `shadow_struck`, `shadow_lost`."""

    model: str
    bundle: str
    variant: str


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowStop:
    """End the candidate's worker, and start no other."""

    model: str


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """Measure the candidates of an order, which are in the store; answers: `measure_told`, `measured`,
    `measure_over`.
    """

    order: MeasureOrder


@dataclasses.dataclass(frozen=True, slots=True)
class MeasureStop:
    """End the measuring of an order, and its workers."""

    order: str


Effect = (
    Verify
    | FetchManifest
    | FetchBlobs
    | CancelFetch
    | Trial
    | CancelTrial
    | Swap
    | Serve
    | Stop
    | Sign
    | Publish
    | ShadowReady
    | ShadowLoad
    | ShadowStop
    | Measure
    | MeasureStop
)
