"""What devices send, from bytes to committed rows to acknowledgements. No link, no clock, no database: see
`ingest_store.py`.

A message counts once for each (device, boot_id, seq), however often it comes. An acknowledgement is made only of what
the store has committed. A message that cannot be accepted becomes a dead letter, and is acknowledged too if it says
which it is: otherwise the device would send it for ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from skerry_contracts import codec, sample, topics
from skerry_contracts.assignment import Envelope, Receipt
from skerry_contracts.device import Ack, Presence, Received
from skerry_contracts.errors import ContractError, MismatchError
from skerry_contracts.topics import MAX_PAYLOAD_BYTES, Direction
from skerry_fleet import reading

ACK_SEQS = 4000
"""Sequence numbers in one Ack at most: 20 bytes each stay below the payload limit."""
DEAD_PAYLOAD_BYTES = 4096
"""How much of a refused message is kept."""

CheckReceipt = Callable[[str, str, Envelope], Receipt]
"""(tenant, device, envelope) -> the receipt, if this device signed it; raises ContractError otherwise."""


@dataclasses.dataclass(frozen=True, slots=True)
class Incoming:
    """An accepted message. `record` is of the channel's type (of a receipt: the verified Receipt).

    `carried`: it came by file, so that it says nothing of whether the device is there now.
    """

    tenant: str
    device: str
    channel: str
    boot_id: str
    seq: int
    record: Any
    payload: bytes
    received_ms: int
    carried: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Dead:
    """A refused message. Tenant and device are empty where the topic does not say."""

    tenant: str
    device: str
    topic: str
    reason: str
    payload: bytes
    size_bytes: int
    received_ms: int


@dataclasses.dataclass(slots=True)
class Batch:
    """What goes into one transaction, in the order it came."""

    messages: list[Incoming] = dataclasses.field(default_factory=list)
    dead: list[Dead] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What the store made of a batch. `unknown` devices are none of ours: nothing of theirs was stored or is
    acknowledged.

    `beats` are heartbeats newer than any before; `turned` devices that went online (True) or offline.
    """

    unknown: frozenset[tuple[str, str]] = frozenset()
    beats: tuple[Incoming, ...] = ()
    turned: tuple[tuple[str, str, bool], ...] = ()


class IngestStore(Protocol):
    """Where messages are kept."""

    def write(self, batch: Batch) -> Written:
        """Keep a batch in one transaction; everything is durable when this returns, and nothing if it raises."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of a commit: acknowledgements to publish (topic, payload), and what else changed."""

    acks: tuple[tuple[str, bytes], ...]
    written: Written
    channels: dict[str, int]
    dead: int
    size_bytes: int


class IngestCore:
    """Collects messages and commits them in batches. Not for several threads at once."""

    def __init__(self, store: IngestStore, check_receipt: CheckReceipt, *, carried: bool = False) -> None:
        self._store = store
        self._carried = carried
        self._check_receipt = check_receipt
        self._batch = Batch()
        self._owed: dict[tuple[str, str, str, int], None] = {}

    def __len__(self) -> int:
        return len(self._batch.messages) + len(self._batch.dead)

    def accept(self, topic: str, payload: bytes, now: float) -> bool:
        """Take in one message; return False where it became a dead letter."""
        now_ms = int(now * 1000)
        tenant = device = ""
        try:
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise MismatchError("payload", f"{len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}")
            parsed = topics.parse(topic)
            if parsed.channel.direction is not Direction.UP:
                raise MismatchError("topic", "not a channel that devices send on")
            tenant, device = parsed.tenant, parsed.device
            record = reading.decode(parsed.channel.record, payload)
            boot_id, seq = _number(record)
            if isinstance(record, Envelope):
                record = self._check_receipt(tenant, device, record)
            _check_owner(tenant, device, record)
        except ContractError as error:
            kept = payload[:DEAD_PAYLOAD_BYTES]
            self._batch.dead.append(Dead(tenant, device, topic[:512], str(error)[:512], kept, len(payload), now_ms))
            self._owe_dead(topic, payload)
            return False
        name = parsed.channel.name
        message = Incoming(tenant, device, name, boot_id, seq, record, payload, now_ms, self._carried)
        self._batch.messages.append(message)
        if parsed.channel.spooled:
            self._owed[tenant, device, boot_id, seq] = None
        return True

    def commit(self) -> Committed:
        """Commit everything accepted so far. If the store raises, the batch is dropped: devices send it again,
        unacknowledged.
        """
        batch, owed = self._batch, self._owed
        self._batch, self._owed = Batch(), {}
        written = self._store.write(batch)
        channels: dict[str, int] = {}
        for message in batch.messages:
            channels[message.channel] = channels.get(message.channel, 0) + 1
        size_bytes = sum(len(message.payload) for message in batch.messages)
        return Committed(tuple(_acks(owed, written.unknown)), written, channels, len(batch.dead), size_bytes)

    def _owe_dead(self, topic: str, payload: bytes) -> None:
        """Acknowledge a refused message as well, where it can be told which one it is."""
        try:
            parsed = topics.parse(topic)
            plain = codec.parse_json(payload, max_bytes=MAX_PAYLOAD_BYTES)
            ack = codec.from_plain(Received, {"boot_id": plain["boot_id"], "seqs": [plain["seq"]]})
        except (ContractError, KeyError, TypeError):
            return
        if parsed.channel.spooled:
            self._owed[parsed.tenant, parsed.device, ack.boot_id, ack.seqs[0]] = None


def _number(record: Any) -> tuple[str, int]:
    """Return a message's boot id and sequence number (of a presence: its session)."""
    if isinstance(record, Presence):
        return record.boot_id, record.session
    boot_id, seq = record.boot_id, record.seq
    if boot_id is None or seq is None or seq < 0:
        raise MismatchError("seq", "every message carries boot_id and a seq that is not negative")
    return str(boot_id), int(seq)


def _check_owner(tenant: str, device: str, record: Any) -> None:
    """Refuse a record that speaks for another device than the topic, which the broker has checked."""
    if isinstance(record, sample.Sample) and sample.parse_prediction(record.prediction)[0] != device:
        raise MismatchError("prediction", "made by another device")
    if isinstance(record, Receipt) and (record.tenant, record.device) != (tenant, device):
        raise MismatchError("device", "a receipt of another device")


def _acks(owed: dict[tuple[str, str, str, int], None], unknown: frozenset[tuple[str, str]]) -> list[tuple[str, bytes]]:
    """Return one or more acknowledgements a device, each within the payload limit."""
    by_device: dict[tuple[str, str], dict[str, list[int]]] = {}
    for tenant, device, boot_id, seq in owed:
        if (tenant, device) not in unknown:
            by_device.setdefault((tenant, device), {}).setdefault(boot_id, []).append(seq)
    found = []
    for (tenant, device), boots in by_device.items():
        topic = f"{topics.ROOT}/{tenant}/{device}/down/ack"  # both names were checked when its topic was read
        for boot_id, seqs in boots.items():
            for at in range(0, len(seqs), ACK_SEQS):
                ack = Ack((Received(boot_id, tuple(seqs[at : at + ACK_SEQS])),))
                found.append((topic, reading.encode(ack)))
    return found


def made(message: Incoming) -> tuple[str, int]:
    """Return a sort key: the order in which a device made its messages."""
    return message.boot_id, message.seq
