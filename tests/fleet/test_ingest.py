"""Ingest: everything once, acknowledgements only of what is committed, and no message that stops the others."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError
from sqlmodel import select
from tests.fleet.conftest import ACTOR, Bench

from skerry_contracts import codec, topics
from skerry_contracts.device import Ack, Heartbeat, ModelHealth, ModelState, Presence, Received, SpoolHealth
from skerry_contracts.errors import ContractError, MismatchError
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.sketch import Histogram, Sketch
from skerry_contracts.tensor import DType, Tensor
from skerry_fleet import feeds, leaving
from skerry_fleet.ingest import Batch, IngestCore, Written
from skerry_fleet.paging import Page
from skerry_fleet.records import DeadLetter, SampleRow, SketchRow
from skerry_fleet.tables import DeviceModel, DeviceState

DATABASES = "both"
BOOT, NEXT_BOOT = "00000001-00000001", "00000002-00000001"
SPOOL = SpoolHealth(0, 0, 0, 0, 0)


def sample(seq: int, device: str = "d0", boot: str = BOOT) -> Sample:
    tensor = Tensor("x", DType.FP32, (1,), data=b"\0\0\0\0")
    fields = ("digits", "1", "b" * 64, "v", Kept.RANDOM, 1.0, (tensor,), (tensor,))
    return Sample(boot, seq, 0.0, f"{device}/{boot}/{seq}", *fields)


def heartbeat(seq: int, boot: str = BOOT, predictions: int = 1) -> Heartbeat:
    model = ModelHealth("digits", "1", "b" * 64, "v", ModelState.SERVING, predictions, 0, 0, 1.0, 2.0, 3)
    return Heartbeat(boot, seq, 0.0, 1.0, 0, (model,), SPOOL, 1, 1)


def topic(channel: str, device: str = "d0") -> str:
    return topics.topic("default", device, channel)


def put(bench: Bench, channel: str, *records: Any, device: str = "d0") -> dict[str, list[Ack]]:
    """Ingest messages in one batch; return the acknowledgements by topic."""
    for record in records:
        payload = record if isinstance(record, bytes) else codec.encode(record)
        bench.fleet.core.accept(topic(channel, device), payload, bench.clock())
    acks: dict[str, list[Ack]] = {}
    for name, payload in bench.fleet.core.commit().acks:
        acks.setdefault(name, []).append(codec.decode(Ack, payload))
    return acks


def rows(bench: Bench, table: type[Any]) -> list[Any]:
    with bench.fleet.database.read() as session:
        return list(session.exec(select(table)).all())


def dead(bench: Bench) -> list[str]:
    return [row.reason for row in rows(bench, DeadLetter)]


@pytest.fixture
def ready(bench: Bench) -> Bench:
    bench.enrol("d0", "d1")
    return bench


def test_a_message_is_stored_once_and_acknowledged_as_often_as_it_comes(ready: Bench) -> None:
    assert put(ready, "sample", sample(1), sample(2), sample(1)) == {topic("ack"): [Ack((_received(1, 2),))]}
    assert put(ready, "sample", sample(2), sample(1)) == {topic("ack"): [Ack((_received(2, 1),))]}
    assert [row.seq for row in rows(ready, SampleRow)] == [1, 2]
    put(ready, "sample", sample(1, boot=NEXT_BOOT))
    assert len(rows(ready, SampleRow)) == 3
    sketch = Sketch(BOOT, 9, 0.0, 1.0, "digits", "b" * 64, "v", 5, (Histogram("confidence", (1, 2)),))
    assert put(ready, "sketch", sketch) == {topic("ack"): [Ack((_received(9),))]}
    assert codec.decode(Sketch, rows(ready, SketchRow)[0].record.encode()) == sketch


def _received(*seqs: int) -> Received:
    return Received(BOOT, seqs)


def test_heartbeats_are_not_acknowledged_and_only_newer_ones_count(ready: Bench) -> None:
    assert put(ready, "heartbeat", heartbeat(2, predictions=5), heartbeat(1, predictions=7)) == {}
    put(ready, "heartbeat", heartbeat(2, predictions=5), heartbeat(3, predictions=1))
    put(ready, "heartbeat", heartbeat(1, NEXT_BOOT, predictions=2))
    put(ready, "heartbeat", heartbeat(9, predictions=100))
    (model,) = rows(ready, DeviceModel)
    assert model.predictions == 7 + 5 + 1 + 2
    state = next(row for row in rows(ready, DeviceState) if row.name == "d0")
    assert (state.heartbeat_boot, state.heartbeat_seq, state.online) == (NEXT_BOOT, 1, True)


def test_a_model_that_is_gone_from_the_heartbeat_is_gone(ready: Bench) -> None:
    put(ready, "heartbeat", heartbeat(1))
    ready.clock.now += 1
    put(ready, "heartbeat", dataclasses.replace(heartbeat(2), models=()))
    assert rows(ready, DeviceModel) == []


@pytest.mark.parametrize(
    ("channel", "payload", "reason"),
    [
        ("sample", b"{", "not JSON"),
        ("sample", b"\xff", "not UTF-8"),
        ("sample", b'{"boot_id":"x","boot_id":"y"}', "twice"),
        ("sample", b'{"boot_id":NaN}', "NaN"),
        ("sample", b"[" * 5000, "nested deeper"),
        ("sample", b'"' + b"x" * (1 << 17) + b'"', "at most 131072"),
        ("sample", b"{}", "is missing"),
        ("heartbeat", b'{"boot_id":"1","seq":"2"}', "is missing"),
        ("progress", b"null", "object expected"),
        (
            "receipt",
            b'{"payload_type":"x","payload":"","signatures":[],"boot_id":"00000001-00000001","seq":3}',
            "signature",
        ),
        ("receipt", b'{"payload_type":"x","payload":"","signatures":[]}', "carries boot_id and a seq"),
    ],
)
def test_a_bad_message_becomes_a_dead_letter_and_harms_no_other(
    ready: Bench, channel: str, payload: bytes, reason: str
) -> None:
    assert not ready.fleet.core.accept(topic(channel), payload, ready.clock())
    assert put(ready, "sample", sample(1)) != {}
    assert len(rows(ready, SampleRow)) == 1
    assert len(dead(ready)) == 1 and reason in dead(ready)[0]


def test_a_dead_letter_that_says_which_it_is_gets_acknowledged(ready: Bench) -> None:
    plain = codec.to_plain(sample(7))
    del plain["model"]
    assert put(ready, "sample", json.dumps(plain).encode()) == {topic("ack"): [Ack((_received(7),))]}
    assert put(ready, "heartbeat", json.dumps({"boot_id": BOOT, "seq": 8}).encode()) == {}


def test_nobody_speaks_for_another_device(ready: Bench) -> None:
    put(ready, "sample", sample(1, device="d1"))
    assert rows(ready, SampleRow) == [] and "another device" in dead(ready)[0]
    assert not ready.fleet.core.accept("skerry/1/default/d0/down/ack", b"{}", 0.0)
    assert not ready.fleet.core.accept("skerry/1/default/d0/up/nothing", b"{}", 0.0)
    assert not ready.fleet.core.accept("other", b"{}", 0.0)


def test_strangers_and_decommissioned_devices_are_neither_stored_nor_acknowledged(ready: Bench) -> None:
    with ready.fleet.rollouts.open() as session:
        leaving.decommission(session, ACTOR, ready.clock(), "d1")
    for device in ("stranger", "d1"):
        assert put(ready, "sample", sample(1, device=device), device=device) == {}
    assert rows(ready, SampleRow) == [] and len(dead(ready)) == 2


def test_dead_letters_are_bounded(ready: Bench) -> None:
    ready.fleet.core._store._dead_letters = 5  # type: ignore[attr-defined]
    for _ in range(4):
        put(ready, "sample", b"{", b"{", b"{")
    assert len(dead(ready)) == 5


def test_presence_sessions_and_late_wills(ready: Bench) -> None:
    def online() -> bool:
        return next(bool(row.online) for row in rows(ready, DeviceState) if row.name == "d0")

    for presence, expected in (
        (Presence(BOOT, 1, True), True),
        (Presence(BOOT, 2, True), True),
        (Presence(BOOT, 1, False), True),  # the late will of an old session
        (Presence(BOOT, 2, False), False),
        (Presence(BOOT, 2, True), False),  # a redelivery
        (Presence(NEXT_BOOT, 1, True), True),
        (Presence(BOOT, 9, False), True),
    ):
        put(ready, "presence", presence)
        assert online() is expected, presence
    put(ready, "presence", Presence(NEXT_BOOT, 1, False))
    put(ready, "heartbeat", heartbeat(1, NEXT_BOOT))
    assert online(), "a heartbeat is only ever live"


def test_feeds_give_everything_once_in_commit_order(ready: Bench) -> None:
    for seq in range(1, 8):
        put(ready, "sample", sample(seq))
    seen, after = [], ""
    with ready.fleet.database.read() as session:
        while True:
            page = json.loads(feeds.read(session, "default", "samples", Page(after, 3)))
            if page["next"] is None:
                break
            seen += [codec.from_plain(Sample, item["record"]).seq for item in page["items"]]
            after = page["next"]
        assert json.loads(feeds.read(session, "other", "samples", Page())) == {"items": [], "next": None}
    assert seen == [1, 2, 3, 4, 5, 6, 7] and page["items"] == []


def test_a_batch_that_cannot_be_committed_is_not_acknowledged(ready: Bench) -> None:
    with ready.fleet.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE sample RENAME TO elsewhere")
    with pytest.raises(DBAPIError, match="sample"):
        put(ready, "sample", sample(1))
    with ready.fleet.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO sample")
    assert put(ready, "sample", sample(2)) == {topic("ack"): [Ack((_received(2),))]}
    assert [row.seq for row in rows(ready, SampleRow)] == [2]


class MemoryStore:
    """What a simulator brings: durable when `write` returns, or not at all."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str, int], int] = {}
        self.cut = False

    def write(self, batch: Batch) -> Written:
        if self.cut:
            raise OSError("power cut")
        for each in batch.messages:
            key = (each.tenant, each.device, each.boot_id, each.seq)
            self.kept[key] = self.kept.get(key, 0) or 1
        return Written()


def no_receipt(tenant: str, device: str, envelope: object) -> Any:
    raise MismatchError("receipt", "none here")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.booleans(), st.booleans()), max_size=40))
def test_acknowledged_means_kept(history: list[tuple[int, int, bool, bool]]) -> None:
    """Whatever comes twice and whenever the power goes: what was acknowledged is in the store."""
    store = MemoryStore()
    core = IngestCore(store, no_receipt)
    acked: set[tuple[str, str, int]] = set()
    for device, seq, commit, cut in history:
        name = f"d{device}"
        core.accept(topic("sample", name), codec.encode(sample(seq, name)), 0.0)
        if not commit:
            continue
        store.cut = cut
        try:
            acks = core.commit().acks
        except OSError:
            continue
        for ack_topic, payload in acks:
            for received in codec.decode(Ack, payload).received:
                acked |= {(topics.parse(ack_topic).device, received.boot_id, each) for each in received.seqs}
    assert acked <= {key[1:] for key in store.kept}


def test_acknowledgements_stay_within_the_payload_limit() -> None:
    core = IngestCore(MemoryStore(), no_receipt)
    for seq in range(10_000):
        core._owed["default", "d0", BOOT, seq + 2**60] = None
    acks = core.commit().acks
    assert len(acks) == 3 and all(len(payload) <= topics.MAX_PAYLOAD_BYTES for _, payload in acks)


def test_contract_errors_are_all_that_accept_takes_for_bad(ready: Bench) -> None:
    def broken(tenant: str, device: str, envelope: object) -> Any:
        raise ContractError("no")

    core = IngestCore(MemoryStore(), broken)
    assert not core.accept(
        topic("receipt"),
        b'{"payload_type":"x","payload":"","signatures":[],"boot_id":"00000001-00000001","seq":1}',
        0.0,
    )
    assert len(core) == 1
