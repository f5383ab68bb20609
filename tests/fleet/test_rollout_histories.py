"""Random histories of a rollout, checked after every event against a model that counts for itself."""

from __future__ import annotations

import copy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skerry_contracts.device import Phase, Reason
from skerry_fleet import rollout_machine as machine
from skerry_fleet.errors import ConflictError
from skerry_fleet.rollout_plan import Plan, Wave
from skerry_fleet.rollout_words import (
    OVER,
    UNCONFIRMED,
    Confirmed,
    Effect,
    Failed,
    Heard,
    Issued,
    Joined,
    Left,
    Offer,
    Order,
    Ordered,
    Place,
    Reached,
    Regressed,
    Reported,
    Revert,
    RolloutEvent,
    State,
    Status,
    Tick,
)

NEW, OLD = "b" * 64, "a" * 64
DEVICES = st.integers(0, 11).map(lambda number: f"d{number}")

plans = st.builds(
    lambda canary, percents, grow, failures, spare, soak, approval: Plan(
        canary=canary,
        waves=tuple(Wave(percent, in_flight=grow) for percent in sorted(percents)),
        failure_budget=failures,
        exposure_budget=failures + spare,
        soak_s=soak,
        timeout_s=200.0,
        retries=1,
        approval=approval,
    ),
    st.integers(1, 3),
    st.sets(st.integers(1, 100), min_size=1, max_size=3),
    st.sampled_from([None, 2, 8]),
    st.integers(0, 2),
    st.integers(1, 4),
    st.sampled_from([0.0, 20.0]),
    st.booleans(),
)


class Histories(RuleBasedStateMachine):
    """`exposed` and `failed` are told from the effects alone: what a fleet has really sent out."""

    @initialize(plan=plans, away=st.sets(st.integers(0, 7)))
    def begin(self, plan: Plan, away: set[int]) -> None:
        self.now = 0.0
        self.plan = plan
        self.exposed: set[str] = set()
        self.failed: set[str] = set()
        self.granted = plan.exposure_budget
        self.sequence = 0
        self.late_failures = 0
        self.state: State = machine.start("r1", NEW, plan, [(f"d{i}", i not in away) for i in range(8)], 0.0)
        self.do(Tick())

    def do(self, event: RolloutEvent) -> list[Effect]:
        before = self.state.status
        _, effects = machine.step(self.state, event, self.now)
        for effect in effects:
            if isinstance(effect, Offer):
                assert self.state.status in (Status.RUNNING, Status.COMPLETE)
                self.exposed.add(effect.device)
                self.granted = max(self.granted, self.state.allowance)
                assert len(self.exposed) + len(self.failed) <= self.state.allowance
                self.issue(effect.device)
            elif isinstance(effect, Confirmed):
                assert effect.device in self.exposed
                self.exposed.discard(effect.device)
            elif isinstance(effect, Failed):
                if effect.device not in self.exposed:
                    self.late_failures += 1
                self.exposed.discard(effect.device)
                self.failed.add(effect.device)
            elif isinstance(effect, Revert):
                self.exposed.discard(effect.device)
                self.issue(effect.device)
        if before in OVER:
            assert not effects
        return effects

    def issue(self, device: str) -> None:
        self.sequence += 1
        assert machine.step(self.state, Issued(device, self.sequence), self.now)[1] == []

    @rule(seconds=st.sampled_from([0.0, 1.0, 25.0, 150.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(Tick())

    @rule(device=DEVICES, reachable=st.booleans())
    def reach(self, device: str, reachable: bool) -> None:
        self.do(Reached(device, reachable))

    @rule(
        device=DEVICES, phase=st.sampled_from(list(Phase)), reason=st.sampled_from(list(Reason)), age=st.integers(0, 3)
    )
    def report(self, device: str, phase: Phase, reason: Reason, age: int) -> None:
        self.do(Reported(device, NEW, max(self.sequence - age, 0), phase, reason))

    @rule(device=DEVICES)
    def commit(self, device: str) -> None:
        self.do(Reported(device, NEW, self.sequence, Phase.COMMITTED, Reason.OK))

    @rule(device=DEVICES, bundle=st.sampled_from([NEW, OLD, None]), serving=st.booleans(), age=st.integers(0, 2))
    def hear(self, device: str, bundle: str | None, serving: bool, age: int) -> None:
        self.do(Heard(device, bundle, max(self.sequence - age, 0), serving))

    @rule(device=DEVICES)
    def regress(self, device: str) -> None:
        self.do(Regressed(device, "slow"))

    @rule(device=DEVICES, reachable=st.booleans())
    def join(self, device: str, reachable: bool) -> None:
        self.do(Joined(device, reachable))

    @rule(device=DEVICES)
    def leave(self, device: str) -> None:
        if self.state.status not in OVER:  # its place is free at once: another may be offered in the same step
            self.exposed.discard(device)
            self.failed.discard(device)
        self.do(Left(device))

    @rule(order=st.sampled_from(list(Order)))
    def order(self, order: Order) -> None:
        before = copy.deepcopy(self.state)
        try:
            self.do(Ordered(order))
        except ConflictError:
            assert self.state == before

    @rule()
    def restart(self) -> None:
        """Memory is lost; members, status, stage and allowance come back from rows."""
        old = self.state
        state = State(old.rollout, old.bundle, old.plan, old.status, old.stage, old.allowance, old.reason)
        self.state = machine.restore(state, old.members.values())
        assert self.state.counts == old.counts and self.state.ready_count == old.ready_count

    @invariant()
    def exposure_is_within_what_was_granted(self) -> None:
        if self.state.status in (Status.RUNNING, Status.PAUSED, Status.COMPLETE):
            exposed = {each.device for each in self.state.members.values() if each.place in UNCONFIRMED}
            assert exposed == self.exposed
            # Devices that had confirmed and failed later were not exposed by any offer that is still open.
            assert len(self.exposed) + len(self.failed) <= self.granted + self.late_failures

    @invariant()
    def counters_are_right(self) -> None:
        places = [member.place for member in self.state.members.values()]
        assert {place: places.count(place) for place in Place} == self.state.counts
        ready = sum(each.place is Place.WAITING and each.reachable for each in self.state.members.values())
        assert ready == self.state.ready_count

    @invariant()
    def too_many_failures_never_go_on(self) -> None:
        unforgiven = len(self.failed) - self.late_failures
        if unforgiven > self.plan.failure_budget:
            assert self.state.status not in (Status.RUNNING, Status.PAUSED)

    @invariant()
    def nothing_waits_without_reason(self) -> None:
        """Liveness: a running rollout that has room, budget and a ready device has offered it."""
        if self.state.status is Status.RUNNING:
            unconfirmed = any(self.state.counts[place] for place in UNCONFIRMED)
            out_of_reach = not self.state.ready_count
            assert unconfirmed or out_of_reach or self.state.exposure >= self.plan.exposure_budget


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
