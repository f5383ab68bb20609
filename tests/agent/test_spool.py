"""The spool's accounting holds whatever happens, only the fleet's word deletes, and one bad message blocks nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skerry_agent.ledger import Key, Row, SqliteLedger
from skerry_agent.spool import TOTALS, Spool

BOOT = "00000001-00000000"


def row(seq: int, *, priority: int = 1, size: int = 10) -> Row:
    return Row(BOOT, seq, "sample", priority, b"x" * size)


class Parts:
    def __init__(self, *, quota: int = 1000, in_flight: int = 4, redeliver_s: float = 30.0) -> None:
        self.ledger = SqliteLedger(Path(":memory:"))
        self.settings = {"quota_bytes": quota, "in_flight": in_flight, "redeliver_s": redeliver_s}
        self.spool = self.reopen()

    def reopen(self) -> Spool:
        self.spool = Spool(self.ledger, **self.settings)  # type: ignore[arg-type]  # one value a setting
        self.spool.load(self.ledger.load().get(TOTALS))
        return self.spool

    def put(self, *rows: Row, acked: tuple[Key, ...] = (), dropped: tuple[Key, ...] = (), lost: int = 0) -> None:
        plan = self.spool.plan(rows, acked=acked, dropped=dropped, lost=lost)
        self.ledger.commit(plan.change({}))
        self.spool.settle(plan)

    def seqs(self, now_s: float = 0.0) -> list[int]:
        return [each.seq for each in self.spool.due(now_s)]


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_the_cheapest_and_then_the_oldest_go_first(parts: Parts) -> None:
    parts.put(*(row(i, priority=i % 2, size=100) for i in range(10)))
    parts.put(row(10, priority=1, size=100), row(11, priority=0, size=100))
    assert {stub.key[1] for stub in parts.ledger.cheapest(99)} == {1, 3, 5, 7, 9, 10, 4, 6, 8, 11}
    assert parts.spool.health.dropped == 2 and parts.spool.health.waiting_bytes == 1000


def test_a_newcomer_cheaper_than_all_is_dropped_itself(parts: Parts) -> None:
    parts.put(*(row(i, priority=2, size=100) for i in range(10)))
    parts.put(row(10, priority=0, size=100))
    assert 10 not in {stub.key[1] for stub in parts.ledger.cheapest(99)}
    assert parts.spool.health.made == 11 and parts.spool.health.dropped == 1


def test_no_more_than_the_window_is_on_its_way(parts: Parts) -> None:
    parts.put(*(row(i) for i in range(10)))
    assert parts.seqs() == [0, 1, 2, 3]
    assert parts.seqs() == []
    parts.put(acked=((BOOT, 1), (BOOT, 2)))
    assert parts.seqs() == [4, 5]


def test_what_an_update_came_to_passes_a_full_window(parts: Parts) -> None:
    parts.put(*(row(i) for i in range(10)))
    parts.seqs()
    parts.put(row(20, priority=3))
    assert parts.seqs() == [20]


def test_an_overdue_answer_sends_again_with_growing_patience(parts: Parts) -> None:
    parts.put(row(1))
    assert parts.seqs(0.0) == [1] and parts.seqs(29.0) == [] and parts.seqs(30.0) == [1]
    assert parts.seqs(59.0) == [] and parts.seqs(90.0) == [1]


def test_a_new_connection_sends_everything_again(parts: Parts) -> None:
    parts.put(row(1), row(2))
    parts.seqs()
    assert parts.spool.disconnected(()) == []
    assert parts.seqs() == [1, 2]


def test_an_ack_counts_once_and_strangers_count_nothing(parts: Parts) -> None:
    parts.put(row(1))
    for _ in range(3):
        parts.put(acked=((BOOT, 1), (BOOT, 1), (BOOT, 99)))
    assert (parts.spool.health.acked, parts.spool.health.waiting) == (1, 0)


def test_a_message_the_broker_never_takes_is_dropped_at_last(parts: Parts) -> None:
    parts = Parts(quota=100_000)
    parts.put(row(1, size=50_000), row(2, size=10))
    for _ in range(2):
        parts.seqs()
        assert parts.spool.disconnected([(BOOT, 1), (BOOT, 2)]) == []
    parts.seqs()
    assert parts.spool.disconnected([(BOOT, 1)]) == [(BOOT, 1)]
    parts.put(dropped=((BOOT, 1),))
    assert parts.seqs() == [2] and parts.spool.health.dropped == 1


def test_small_messages_are_never_taken_for_poison(parts: Parts) -> None:
    parts.put(row(1))
    for _ in range(10):
        parts.seqs()
        assert parts.spool.disconnected([(BOOT, 1)]) == []


def test_a_device_that_makes_more_than_it_can_send_still_sends(parts: Parts) -> None:
    """Giving up the oldest would be giving up what is on its way: nothing sent would ever be acknowledged."""
    parts.put(*(row(i, size=100) for i in range(10)))
    on_their_way = parts.seqs()
    for i in range(10, 40):
        parts.put(row(i, size=100))
    parts.put(acked=tuple((BOOT, seq) for seq in on_their_way))
    health = parts.spool.health
    assert (health.acked, health.dropped, health.waiting) == (4, 30, 6)
    assert parts.seqs() == [34, 35, 36, 37]


def test_more_old_messages_than_are_looked_at_first_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry_agent.spool.EVICT_ROWS", 2)
    parts = Parts(quota=1000, in_flight=1)
    parts.put(*(row(i, priority=0, size=10) for i in range(100)))
    parts.put(row(200, priority=1, size=900))
    assert parts.spool.health.dropped == 90 and parts.spool.health.waiting_bytes == 1000
    assert 200 in {stub.key[1] for stub in parts.ledger.cheapest(99)}


@given(
    old=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 90)), max_size=25),
    new=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 90)), min_size=1, max_size=8),
    in_flight=st.integers(1, 5),
    first=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_who_goes_is_exact(old: list[tuple[int, int]], new: list[tuple[int, int]], in_flight: int, first: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skerry_agent.spool.EVICT_ROWS", first)
        parts = Parts(quota=400, in_flight=in_flight)
        sizes = [*old, *new]
        rows = [row(i, priority=priority, size=size) for i, (priority, size) in enumerate(sizes)]
        kept = [each.seq for each in rows]

        def give_up(sent: list[int]) -> None:
            """The rule in its plainest form: one at a time, the cheapest, not on its way, oldest."""
            while sum(sizes[seq][1] for seq in kept) > 400:
                kept.remove(min(kept, key=lambda seq: (sizes[seq][0], seq in sent, seq)))

        parts.put(*rows[: len(old)])
        kept, later = kept[: len(old)], kept[len(old) :]
        give_up([])
        sent = parts.seqs()
        parts.put(*rows[len(old) :])
        kept += later
        give_up(sent)
        assert {stub.key[1] for stub in parts.ledger.cheapest(99)} == set(kept)
        assert parts.spool.health.dropped == len(sizes) - len(kept)


class Accounting(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts(quota=300)
        self.seq = 0
        self.now_s = 0.0

    @rule(count=st.integers(1, 5), priority=st.integers(0, 3), size=st.integers(0, 120), lost=st.integers(0, 2))
    def make(self, count: int, priority: int, size: int, lost: int) -> None:
        rows = [row(self.seq + i, priority=priority, size=size) for i in range(count)]
        self.seq += count
        self.parts.put(*rows, lost=lost)

    @rule(seqs=st.lists(st.integers(0, 60), max_size=6))
    def ack(self, seqs: list[int]) -> None:
        self.parts.put(acked=tuple((BOOT, seq) for seq in seqs))

    @rule(seq=st.integers(0, 60))
    def drop(self, seq: int) -> None:
        self.parts.put(dropped=((BOOT, seq),))

    @rule(after_s=st.floats(0, 100))
    def send(self, after_s: float) -> None:
        self.now_s += after_s
        self.parts.seqs(self.now_s)

    @rule()
    def disconnect(self) -> None:
        self.parts.spool.disconnected(())

    @rule()
    def boot(self) -> None:
        self.parts.reopen()

    @invariant()
    def holds(self) -> None:
        health = self.parts.spool.health
        assert health.made == health.acked + health.waiting + health.dropped
        assert (health.waiting, health.waiting_bytes) == self.parts.ledger.size()
        assert health.waiting_bytes <= 300


Accounting.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAccounting = Accounting.TestCase
