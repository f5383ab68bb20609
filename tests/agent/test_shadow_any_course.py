"""A shadow's promises under any course of events."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.agent.machine_parts import LIMITS
from tests.agent.test_shadow_core import CANDIDATE, LIVE, OTHER, terms
from tests.agent.world import NOW_S

from skerry_agent import shadow_machine as machine
from skerry_agent import shadow_records as records
from skerry_agent.records import Order
from skerry_agent.shadow_records import Stage
from skerry_contracts.assignment import AssignedModel, target_path
from skerry_contracts.device import Reason


class AnyCourse(RuleBasedStateMachine):
    """Whatever happens in whatever order: final stays final, every wait ends, strikes are few, stops match starts."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number, self.rng = 0.0, 0, random.Random(1)
        self.record: records.Record | None = None
        self.running = self.fetching = False

    def take(self, after: records.Record, wishes: list[records.Wish]) -> None:
        before, self.record = self.record, after
        if before is not None and before.stage is Stage.FETCHING and after.stage is not Stage.FETCHING:
            self.fetching = False
        for wish in wishes:
            match wish:
                case records.Fetch():
                    self.fetching = True
                case records.StopFetch():
                    self.fetching = False
                case records.Load():
                    assert after.starting, "durable first"
                    self.running = True
                case records.Stop():
                    self.running = False
        if before is not None and before.final and before.terms.id == after.terms.id:
            assert after == dataclasses.replace(before, order=after.order, terms=after.terms), "final stays final"

    def see(self, event: records.Event) -> None:
        if self.record is not None:
            self.take(*machine.advance(self.record, event, self.now, LIMITS))

    @rule(fresh=st.booleans(), same_bundle=st.booleans())
    def offer(self, fresh: bool, same_bundle: bool) -> None:
        self.number += fresh
        bundle = CANDIDATE if same_bundle else OTHER
        path = target_path("digits", LIVE.id)
        line = AssignedModel("digits", "v1", 1, LIVE.id, path, len(LIVE.data), "r")
        own = terms(bundle, 2 * self.number + same_bundle)
        self.take(*machine.offered(self.record, Order(self.number + 1, 2**40, line), own, self.now, LIMITS))

    @rule(stale=st.booleans())
    def arrive(self, stale: bool) -> None:
        ticket = self.record.ticket - stale if self.record is not None else 0
        self.see(records.Listed(ticket))
        self.see(records.Fetched(ticket))

    @rule(stale=st.booleans(), final=st.booleans())
    def fetch_fails(self, stale: bool, final: bool) -> None:
        ticket = self.record.ticket - stale if self.record is not None else 0
        refused = records.Refused(ticket, Reason.CORRUPT)
        self.see(refused if final else records.Delayed(ticket, Reason.NETWORK, "no", self.rng.random()))

    @rule()
    def load(self) -> None:
        self.see(records.Loading())

    @rule(
        event=st.sampled_from(
            [records.Proven(), records.Rested(), records.Struck(Reason.CRASHED), records.Lost(), records.Online()]
        )
    )
    def happen(self, event: records.Event) -> None:
        if isinstance(event, (records.Rested, records.Struck)):
            self.running = False
        self.see(event)

    @rule(here=st.booleans())
    def boot(self, here: bool) -> None:
        self.now, self.running, self.fetching = 0.0, False, False
        self.see(records.Boot(here))

    @rule(seconds=st.floats(0, 5000))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.see(records.Tick(NOW_S, LIVE.id))

    @rule()
    @precondition(lambda self: self.record is not None)
    def withdraw(self) -> None:
        assert self.record is not None
        wishes = machine.withdrawn(self.record)
        assert records.Collect() in wishes
        if self.fetching:
            assert records.StopFetch() in wishes
        if self.running:
            assert records.Stop() in wishes
        self.record, self.running, self.fetching = None, False, False

    @invariant()
    def sound(self) -> None:
        if self.record is None:
            return
        assert self.record.strikes <= machine.STRIKES
        assert self.record.stage is not Stage.FETCHING or self.record.deadline_s is not None, "every fetch ends"
        if self.record.final:
            assert not self.running and not self.record.starting and machine.wake_s(self.record) is None
            assert records.Collect() in machine.withdrawn(self.record)


AnyCourse.TestCase.settings = settings(derandomize=True, max_examples=60, stateful_step_count=30, deadline=None)
TestAnyCourse = AnyCourse.TestCase
