"""The update machine: its plain course, its refusals, and its promises under any course of events."""

from __future__ import annotations

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skerry_agent import records
from skerry_agent.machine import advance, wake_s
from skerry_agent.records import Effect, Event, Limits, Measured, Order, Record, Report, Stage
from skerry_contracts.assignment import AssignedModel, Window, target_path
from skerry_contracts.device import Phase, Reason

LIMITS = Limits(
    download_s=600,
    window_s=3600,
    trial_s=60,
    observe_s=10,
    observe_predictions=20,
    retry_first_s=2,
    retry_max_s=60,
    retry_failed_s=900,
)
FAR_S = 2_000_000_000


def order(
    release: int, sequence: int, *, downgrade: bool = False, window: Window | None = None, expires_s: int = FAR_S
) -> Order:
    bundle = f"{release:064x}"
    assigned = AssignedModel(
        "digits", f"v{release}", release, bundle, target_path("digits", bundle), 10, "r", downgrade, window
    )
    return Order(sequence, expires_s, assigned)


def phases(effects: list[Effect]) -> list[tuple[Phase, Reason]]:
    return [(effect.phase, effect.reason) for effect in effects if isinstance(effect, Report)]


class Device:
    """A record with the history of its effects."""

    def __init__(self) -> None:
        self.record = Record("digits")
        self.now_s = 0.0
        self.effects: list[Effect] = []

    def see(self, event: Event) -> list[Effect]:
        self.record, effects = advance(self.record, event, self.now_s, LIMITS)
        self.effects += effects
        return effects

    def tick(self, after_s: float = 0.0, *, open_: bool = True, wall_s: float = 1000.0) -> list[Effect]:
        self.now_s += after_s
        return self.see(records.Tick(wall_s, open_))

    def install(self, release: int, sequence: int) -> None:
        self.see(records.Offered(order(release, sequence)))
        self.to_observing()
        self.tick(LIMITS.observe_s)

    def to_observing(self) -> None:
        self.see(records.Listed(self.record.ticket))
        self.see(records.Fetched(self.record.ticket))
        self.see(records.TrialPassed(self.record.ticket, Measured("native", 8)))


def test_the_plain_course() -> None:
    device = Device()
    assert phases(device.see(records.Offered(order(1, 1)))) == [(Phase.OFFERED, Reason.OK)]
    device.see(records.Listed(device.record.ticket))
    device.see(records.Fetched(device.record.ticket))
    assert device.record.stage.value == "trial"
    effects = device.see(records.TrialPassed(device.record.ticket, Measured("native", 8)))
    assert effects == [records.Swap()] and device.record.active is not None
    assert device.see(records.Served(19)) == []
    done = device.see(records.Served(1))
    assert phases(done) == [(Phase.COMMITTED, Reason.OK)]
    assert any(isinstance(effect, records.SignReceipt) for effect in done)
    assert (device.record.stage, device.record.floor) == (Stage.IDLE, 1)


def test_a_lower_release_is_refused_unless_it_is_ordered() -> None:
    device = Device()
    device.install(5, 1)
    assert phases(device.see(records.Offered(order(4, 2)))) == [(Phase.FAILED, Reason.DOWNGRADE)]
    assert phases(device.see(records.Offered(order(4, 3, downgrade=True)))) == [(Phase.OFFERED, Reason.OK)]
    device.to_observing()
    device.tick(LIMITS.observe_s)
    assert device.record.active is not None and device.record.active.release == 4
    assert device.record.floor == 5, "an ordered step back must not open the way for others"


def test_the_same_bundle_is_adopted_without_an_update() -> None:
    device = Device()
    device.install(1, 1)
    effects = device.see(records.Offered(order(1, 2)))
    assert phases(effects) == [(Phase.COMMITTED, Reason.OK)]
    assert not any(isinstance(effect, records.StartFetch) for effect in effects)


def test_a_newer_order_replaces_one_in_progress() -> None:
    device = Device()
    device.see(records.Offered(order(1, 1)))
    old_ticket = device.record.ticket
    effects = device.see(records.Offered(order(2, 2)))
    assert phases(effects) == [(Phase.FAILED, Reason.SUPERSEDED), (Phase.OFFERED, Reason.OK)]
    assert device.see(records.Fetched(old_ticket)) == [], "an answer to the old order changes nothing"


def test_network_trouble_is_tried_again_later_and_later_and_ends_at_the_deadline() -> None:
    device = Device()
    device.see(records.Offered(order(1, 1)))
    waits = []
    while device.record.stage == Stage.DOWNLOADING:
        device.see(records.Delayed(device.record.ticket, Reason.NETWORK, "down", 1.0))
        wake = wake_s(device.record)
        assert wake is not None
        waits.append(wake - device.now_s)
        last = device.tick(wake - device.now_s)
    assert waits[:5] == [2, 4, 8, 16, 32] and max(waits) <= 60
    assert phases(last) == [(Phase.FAILED, Reason.NETWORK)]
    again = device.tick(LIMITS.retry_failed_s)
    assert phases(again) == [(Phase.OFFERED, Reason.OK)], "a device that was long offline is never stuck"


def test_a_window_holds_activation_back_but_not_the_download() -> None:
    device = Device()
    device.see(records.Offered(order(1, 1, window=Window(120, 60))))
    device.see(records.Listed(device.record.ticket))
    device.see(records.Fetched(device.record.ticket))
    assert device.tick(5, open_=False) == [] and device.record.stage == Stage.VERIFIED
    assert phases(device.tick(5, open_=True)) == [(Phase.TRIAL, Reason.OK)]


def test_an_expired_order_stops_before_activation() -> None:
    device = Device()
    device.see(records.Offered(order(1, 1, expires_s=500)))
    assert phases(device.tick(1, wall_s=501)) == [(Phase.FAILED, Reason.EXPIRED)]


def test_an_unhealthy_candidate_goes_back_to_what_served() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    assert device.record.active is not None
    effects = device.see(records.Unhealthy(device.record.active.bundle, Reason.CRASHED, "signal 11"))
    assert phases(effects) == [(Phase.ROLLED_BACK, Reason.CRASHED)]
    assert device.record.active.release == 1 and device.record.floor == 1
    assert any(isinstance(effect, records.Serve) for effect in effects)


def test_the_second_boot_within_a_trial_ends_it() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.see(records.Fetched(device.record.ticket))
    first = device.see(records.Boot())
    assert any(isinstance(effect, records.StartTrial) for effect in first)
    assert phases(device.see(records.Boot())) == [(Phase.FAILED, Reason.POWER_CUT)]
    assert device.record.active is not None and device.record.active.release == 1


def test_the_second_boot_within_an_observation_rolls_back() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    assert phases(device.see(records.Boot())) == []
    assert phases(device.see(records.Boot())) == [(Phase.ROLLED_BACK, Reason.POWER_CUT)]
    assert device.record.active is not None and device.record.active.release == 1


def test_an_order_that_comes_during_an_observation_waits_for_its_end() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    assert device.see(records.Offered(order(3, 3))) == []
    assert phases(device.tick(LIMITS.observe_s)) == [(Phase.COMMITTED, Reason.OK), (Phase.OFFERED, Reason.OK)]


def test_the_order_to_go_back_does_not_wait() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    effects = device.see(records.Offered(order(1, 3, downgrade=True)))
    assert phases(effects) == [(Phase.ROLLED_BACK, Reason.ORDERED), (Phase.COMMITTED, Reason.OK)]
    assert device.record.active is not None and device.record.active.release == 1


def test_the_factory_model_serves_when_nothing_else_is_left() -> None:
    device = Device()
    factory = records.Installed("f" * 64, "v0", 0, Measured("native"))
    device.see(records.Boot(factory))
    assert device.record.active == factory
    device.see(records.Offered(order(1, 1)))
    device.to_observing()
    device.see(records.Unhealthy(f"{1:064x}", Reason.CRASHED))
    assert device.record.active == factory
    device.see(records.Unnamed(2))
    assert device.record.active == factory


def test_a_model_no_longer_named_is_removed_and_its_floor_stays() -> None:
    device = Device()
    device.install(3, 1)
    effects = device.see(records.Unnamed(2))
    assert records.Stop() in effects and records.Collect() in effects
    assert device.record.active is None and device.record.floor == 3


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
