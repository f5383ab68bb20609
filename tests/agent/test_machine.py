"""The update machine: its plain course and its refusals."""

from __future__ import annotations

from tests.agent.machine_parts import LIMITS, Device, order, phases

from skerry_agent import records
from skerry_agent.machine import wake_s
from skerry_agent.records import Measured, Stage
from skerry_contracts.assignment import Window
from skerry_contracts.device import Phase, Reason


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
    effects = device.tick(1, wall_s=501)
    assert phases(effects) == [(Phase.DOWNLOADING, Reason.EXPIRED)] and records.StopFetch() in effects
    while device.now_s < LIMITS.download_s - 60:
        assert device.tick(50, wall_s=501) == [], "said once"
    assert phases(device.tick(60, wall_s=501)) == [(Phase.FAILED, Reason.EXPIRED)]


def test_an_order_that_expired_by_a_wrong_clock_goes_on_once_the_clock_is_right() -> None:
    device = Device()
    device.see(records.Offered(order(1, 1, window=Window(60, 60), expires_s=500)))
    device.see(records.Listed(device.record.ticket))
    device.see(records.Fetched(device.record.ticket))
    assert phases(device.tick(1, wall_s=501)) == [(Phase.DOWNLOADING, Reason.EXPIRED)], "not activated in its window"
    device.see(records.Online())  # the clock was set
    assert records.StartFetch() in device.tick(0, wall_s=100)
    device.see(records.Fetched(device.record.ticket))
    assert phases(device.tick(1, wall_s=101)) == [(Phase.TRIAL, Reason.OK)]


def test_an_unhealthy_candidate_goes_back_to_what_served() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    assert device.record.active is not None
    effects = device.see(records.Unhealthy(device.record.active.bundle, Reason.CRASHED, "signal 11"))
    assert phases(effects) == [(Phase.DOWNLOADING, Reason.CRASHED)], "not given up: any model may crash once"
    assert device.record.active.release == 1 and device.record.floor == 1
    assert any(isinstance(effect, records.Serve) for effect in effects)


def test_the_second_boot_within_a_trial_ends_it() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.see(records.Fetched(device.record.ticket))
    first = device.see(records.Boot())
    assert any(isinstance(effect, records.StartTrial) for effect in first)
    assert phases(device.see(records.Boot())) == [(Phase.DOWNLOADING, Reason.POWER_CUT)]
    assert device.record.active is not None and device.record.active.release == 1


def test_the_second_boot_within_an_observation_rolls_back() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    assert phases(device.see(records.Boot())) == []
    assert phases(device.see(records.Boot())) == [(Phase.DOWNLOADING, Reason.POWER_CUT)]
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


def test_time_that_nobody_saw_pass_is_no_trial_and_no_proof() -> None:
    """The process was stopped for an hour: neither is the candidate late, nor has it served for long enough."""
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.see(records.Listed(device.record.ticket))
    device.see(records.Fetched(device.record.ticket))
    assert device.tick(3600) == []
    device.see(records.TrialPassed(device.record.ticket, Measured("native", 8)))
    assert device.tick(3600) == []
    assert device.record.stage is Stage.OBSERVING
    assert phases(device.tick(LIMITS.observe_s)) == [(Phase.COMMITTED, Reason.OK)]


def test_a_trial_that_is_late_though_time_was_seen_to_pass_fails() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.see(records.Listed(device.record.ticket))
    device.see(records.Fetched(device.record.ticket))
    assert phases(device.tick(LIMITS.trial_s)) == [(Phase.FAILED, Reason.TIMEOUT)]


def test_a_model_that_is_unloaded_while_observed_proves_nothing() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    for _ in range(3):
        device.now_s += LIMITS.observe_s
        assert device.see(records.Tick(1000.0, True, unloaded=True)) == []
    assert phases(device.tick(LIMITS.observe_s)) == [(Phase.COMMITTED, Reason.OK)], "loaded again, and seen"
    device.see(records.Offered(order(3, 3)))
    device.to_observing()
    device.see(records.Offered(order(4, 4)))
    device.now_s += LIMITS.observe_s
    found = phases(device.see(records.Tick(1000.0, True, unloaded=True)))
    assert found == [(Phase.ROLLED_BACK, Reason.SUPERSEDED), (Phase.OFFERED, Reason.OK)]
    assert device.record.active is not None and device.record.active.release == 2 and device.record.floor == 2
