"""The update machine's promises under any course of events."""

from __future__ import annotations

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.agent.machine_parts import LIMITS, Device, order, phases

from skerry_agent import records
from skerry_agent.machine import advance
from skerry_agent.records import Event, Measured, Stage
from skerry_contracts.assignment import Window
from skerry_contracts.device import Phase, Reason


class AnyCourse(RuleBasedStateMachine):
    """Whatever happens in whatever order, the promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device()
        self.sequence = 0
        self.floor = 0
        self.ticket = 0
        self.tried: set[str] = set()
        self.committed = False

    def see(self, event: Event) -> None:
        before = self.device.record
        effects = self.device.see(event)
        after = self.device.record
        if after.active != before.active and after.active is not None:
            assert isinstance(event, records.TrialPassed) or after.active in (
                before.previous,
                before.factory,
                after.factory,
            )
        reported = phases(effects)
        if (Phase.COMMITTED, Reason.OK) in reported:
            self.committed = True
        if isinstance(event, records.Unnamed):
            self.committed = False
        for effect in effects:
            if isinstance(effect, records.Serve):
                assert effect.installed == after.active, "what serves is what the record says"

    @rule(release=st.integers(0, 6), downgrade=st.booleans(), window=st.booleans())
    def offer(self, release: int, downgrade: bool, window: bool) -> None:
        self.sequence += 1
        wanted = order(release, self.sequence, downgrade=downgrade, window=Window(0, 60) if window else None)
        self.see(records.Offered(wanted))

    @rule()
    def unname(self) -> None:
        self.see(records.Unnamed(self.sequence))

    @rule(stale=st.integers(0, 2))
    def fetched(self, stale: int) -> None:
        self.see(records.Listed(self.device.record.ticket - stale))
        self.see(records.Fetched(self.device.record.ticket - stale))

    @rule(reason=st.sampled_from([Reason.CORRUPT, Reason.NO_SPACE, Reason.NOT_LISTED, Reason.UNFIT]))
    def refused(self, reason: Reason) -> None:
        self.see(records.Refused(self.device.record.ticket, reason))

    @rule(jitter=st.floats(0, 1))
    def delayed(self, jitter: float) -> None:
        self.see(records.Delayed(self.device.record.ticket, Reason.NETWORK, "", jitter))

    @rule(stale=st.integers(0, 1))
    def passed(self, stale: int) -> None:
        self.see(records.TrialPassed(self.device.record.ticket - stale, Measured("native")))

    @rule()
    def failed(self) -> None:
        self.see(records.TrialFailed(self.device.record.ticket, Reason.GOLDEN))

    @rule(count=st.integers(1, 25))
    def served(self, count: int) -> None:
        self.see(records.Served(count))

    @rule(reason=st.sampled_from([Reason.CRASHED, Reason.CORRUPT]))
    @precondition(lambda self: self.device.record.active is not None)
    def unhealthy(self, reason: Reason) -> None:
        active = self.device.record.active
        assert active is not None
        self.see(records.Unhealthy(active.bundle, reason))

    @rule()
    def boot(self) -> None:
        self.device.now_s = 0.0
        self.see(records.Boot(self.device.record.factory))

    @rule()
    def online(self) -> None:
        self.see(records.Online())

    @rule(after_s=st.floats(0, 1000), open_=st.booleans())
    def tick(self, after_s: float, open_: bool) -> None:
        self.device.now_s += after_s
        self.see(records.Tick(1000.0, open_))

    @rule()
    def nothing_stays_in_progress(self) -> None:
        """With time alone, and the same record, every stage ends."""
        record, now_s = self.device.record, self.device.now_s
        record = dataclasses.replace(record, following=None)
        for _ in range(10):
            if record.stage == Stage.IDLE:
                return
            assert record.deadline_s is not None
            now_s = max(now_s, record.deadline_s)
            record, _ = advance(record, records.Tick(1000.0, False), now_s, LIMITS)
        raise AssertionError(f"still {record.stage}")

    @invariant()
    def promises(self) -> None:
        record = self.device.record
        assert record.floor >= self.floor, "the floor never falls"
        assert record.ticket >= self.ticket
        self.floor, self.ticket = record.floor, record.ticket
        assert (record.stage == Stage.IDLE) == (record.deadline_s is None)
        assert record.stage == Stage.IDLE or record.order is not None
        assert record.following is None or record.stage == Stage.OBSERVING
        if self.committed:
            assert record.active is not None, "once a model was committed, one always serves"


AnyCourse.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyCourse = AnyCourse.TestCase
