"""What a simulated device says: real records in canonical JSON, written once by the contracts' own codec and filled in
for each message. Filling in costs a hundredth of encoding anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from skerry_contracts import codec
from skerry_contracts.device import (
    Drift,
    Heartbeat,
    ModelHealth,
    ModelState,
    Phase,
    Presence,
    Progress,
    Reason,
    SpoolHealth,
)
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.tensor import Tensor
from skerry_simulators.catalogue import INPUT, MODEL, OUTPUT

BOOT = "00000000-00000000"
"""Stands in templates where a boot id will be."""
_NUMBER = 8_000_000_000_000_000_000  # of these whole numbers, and the floats below, none occurs otherwise
_FLOAT = 7_000_000_000.5
DEVICE = "swarm-device"


@dataclasses.dataclass(frozen=True, slots=True)
class Behaviour:
    """How a bundle does on devices. `error_share` of its predictions fail; `ends` is the phase updates to it end in;
    `silences`: who runs it keeps its connection and says nothing more.
    """

    version: str
    bundle: str
    error_share: float = 0.0
    latency_ms: float = 2.5
    confidence: float = 0.9
    ends: Phase = Phase.COMMITTED
    reason: Reason = Reason.OK
    silences: bool = False


def template(record: Any, *marks: tuple[Any, str]) -> Callable[..., bytes]:
    """Return a function of as many values as there are marks: each (what stands for it, its format), in any order.

    A mark stands once in the record, or, text such as a boot id, as often as it likes.
    """
    text = codec.encode(record).replace(b"%", b"%%")
    places: list[tuple[int, int, str]] = []
    for index, (mark, spelling) in enumerate(marks):
        shown = mark.encode() if isinstance(mark, str) else codec.canonical_json(mark)
        at = text.find(shown)
        if at < 0:
            raise ValueError(f"{mark!r} is not in the record")
        while at >= 0:
            places.append((at, index, spelling))
            text = text[:at] + b"\0" * len(shown) + text[at + len(shown) :]
            at = text.find(shown)
    written, last = b"", 0
    order = []
    for start, index, spelling in sorted(places):
        written += text[last:start] + spelling.encode()
        last = start
        while last < len(text) and text[last] == 0:
            last += 1
        order.append(index)
    written += text[last:]
    return lambda *values: written % tuple([values[index] for index in order])


def presence(online: bool) -> Callable[..., bytes]:
    """Return (boot id, session) -> a presence."""
    return template(Presence(BOOT, _NUMBER, online), (BOOT, "%b"), (_NUMBER, "%d"))


def heartbeat(behaviour: Behaviour | None, drifting: bool, predictions: int = 100) -> Callable[..., bytes]:
    """Return (boot id, seq, time in s, uptime in s, assignment's sequence) -> a heartbeat."""
    models: tuple[ModelHealth, ...] = ()
    drift: tuple[Drift, ...] | None = None
    if behaviour is not None:
        errors = round(predictions * behaviour.error_share)
        figures = (behaviour.latency_ms / 2, behaviour.latency_ms, 1 << 20, behaviour.confidence)
        told = (MODEL, behaviour.version, behaviour.bundle, "native-i8", ModelState.SERVING)
        models = (ModelHealth(*told, predictions, errors, 0, *figures),)
        drift = (Drift(MODEL, behaviour.bundle, "confidence", 0.9, 0.6, 500, 30.0),) if drifting else ()
    spool = SpoolHealth(100, 100, 0, 0, 0)
    record = Heartbeat(
        BOOT, _NUMBER, _FLOAT, _FLOAT + 1, _NUMBER + 1, models, spool, 24 << 20, 1 << 30, 45.5, (), None, drift
    )
    return template(record, (BOOT, "%b"), (_NUMBER, "%d"), (_FLOAT, "%.1f"), (_FLOAT + 1, "%.1f"), (_NUMBER + 1, "%d"))


def progress(behaviour: Behaviour, phase: Phase) -> Callable[..., bytes]:
    """Return (boot id, seq, time in s, assignment's sequence, rollout) -> a step of an update."""
    reason = behaviour.reason if phase is behaviour.ends else Reason.OK
    record = Progress(BOOT, _NUMBER, _FLOAT, _NUMBER + 1, "ROLLOUT", MODEL, behaviour.bundle, phase, reason)
    return template(record, (BOOT, "%b"), (_NUMBER, "%d"), (_FLOAT, "%.1f"), (_NUMBER + 1, "%d"), ("ROLLOUT", "%b"))


def sample(behaviour: Behaviour) -> Callable[..., bytes]:
    """Return (boot id, seq, time in s, device) -> a kept prediction of four inputs and three outputs."""
    inputs = (Tensor(INPUT.name, INPUT.dtype, INPUT.shape, b"\0\1\2\3" * (INPUT.size_bytes // 4)),)
    outputs = (Tensor(OUTPUT.name, OUTPUT.dtype, OUTPUT.shape, b"\0\1\2\3" * (OUTPUT.size_bytes // 4)),)
    # The counter within the boot is the sequence number, so that each prediction's id is its own.
    record = Sample(
        BOOT,
        _NUMBER,
        _FLOAT,
        f"{DEVICE}/{BOOT}/{_NUMBER // 10}",
        MODEL,
        behaviour.version,
        behaviour.bundle,
        "native-i8",
        Kept.RANDOM,
        100.0,
        inputs,
        outputs,
        behaviour.confidence,
    )
    spelled = template(record, (BOOT, "%b"), (_NUMBER, "%d"), (_FLOAT, "%.1f"), (DEVICE, "%b"), (_NUMBER // 10, "%d"))
    return lambda boot, seq, time_s, device: spelled(boot, seq, time_s, device, seq)


class Received(msgspec.Struct):
    """See `skerry_contracts.device.Received`."""

    boot_id: str
    seqs: list[int]


class Ack(msgspec.Struct):
    """See `skerry_contracts.device.Ack`."""

    received: list[Received]


class Ordered(msgspec.Struct):
    """The part of `AssignedModel` that a simulated device acts on."""

    model: str
    version: str
    bundle: str
    rollout: str


class Order(msgspec.Struct):
    """The part of `Assignment` that a simulated device acts on."""

    tenant: str
    device: str
    sequence: int
    models: list[Ordered]


class _Envelope(msgspec.Struct):
    payload: bytes


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_order = msgspec.json.Decoder(Order).decode
read_ack = msgspec.json.Decoder(Ack).decode


def read_order(payload: bytes) -> Order:
    """Return what an assignment's envelope orders. The signature is not checked: that is the agent's business, and
    tested there.
    """
    return _read_order(_read_envelope(payload).payload)


def steps(behaviour: Behaviour, told: str) -> Sequence[Phase]:
    """Return the phases that an update to a bundle goes through, as the agent reports them; `told` "last": the end."""
    if told == "last":
        return (behaviour.ends,)
    before = (Phase.OFFERED, Phase.DOWNLOADING, Phase.VERIFIED, Phase.TRIAL)
    return (*before, behaviour.ends)
