"""What the update machine tries again, how often, and what the fleet hears meanwhile."""

from __future__ import annotations

import dataclasses

import pytest
from tests.agent.machine_parts import LIMITS, Device, order, phases

from skerry_agent import records, steps
from skerry_contracts.device import Phase, Reason


def observed_again(device: Device) -> str:
    """Let the pause pass and the candidate serve once more; return its bundle."""
    assert device.record.retry_at_s is not None
    device.tick(device.record.retry_at_s - device.now_s)
    device.to_observing()
    assert device.record.active is not None
    return device.record.active.bundle


@pytest.mark.parametrize("reason", sorted(steps.DOUBTFUL))
def test_what_any_model_may_die_of_takes_a_release_back_each_time_but_is_no_verdict_until_the_third(
    reason: Reason,
) -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    bundle, pauses = f"{2:064x}", []
    for _ in range(steps.MAX_DOUBTS):
        effects = device.see(records.Unhealthy(bundle, reason, "by chance"))
        assert phases(effects) == [(Phase.DOWNLOADING, reason)]
        assert device.record.active is not None and device.record.active.release == 1, "safe meanwhile"
        assert any(isinstance(effect, records.Serve) for effect in effects)
        assert device.record.retry_at_s is not None
        pauses.append(device.record.retry_at_s - device.now_s)
        assert observed_again(device) == bundle
    assert pauses == sorted(pauses) and pauses[0] < pauses[-1] <= LIMITS.retry_failed_s
    assert phases(device.see(records.Unhealthy(bundle, reason, "again"))) == [(Phase.ROLLED_BACK, reason)]
    assert device.record.active is not None and device.record.active.release == 1
    assert device.record.retry_at_s is None, "the fleet has to order it again"
    device.see(records.Offered(order(2, 3)))
    device.to_observing()
    assert phases(device.see(records.Unhealthy(bundle, reason))) == [(Phase.DOWNLOADING, reason)], "a new order"


def test_a_release_that_proves_itself_after_a_crash_is_kept() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    device.see(records.Unhealthy(f"{2:064x}", Reason.CRASHED))
    observed_again(device)
    assert phases(device.tick(LIMITS.observe_s)) == [(Phase.COMMITTED, Reason.OK)]


@pytest.mark.parametrize("reason", [Reason.UNHEALTHY, Reason.GOLDEN])
def test_wrong_answers_are_a_verdict_at_once(reason: Reason) -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    device.to_observing()
    assert phases(device.see(records.Unhealthy(f"{2:064x}", reason))) == [(Phase.ROLLED_BACK, reason)]
    assert device.record.retry_at_s is None


def test_a_trial_without_memory_is_repeated_for_hours_and_the_fleet_hears_why() -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    for attempt in range(steps.MAX_TRIALS):
        device.see(records.Listed(device.record.ticket))
        device.see(records.Fetched(device.record.ticket))
        effects = device.see(records.TrialFailed(device.record.ticket, Reason.UNFIT, "no memory"))
        assert phases(effects) == [(Phase.DOWNLOADING, Reason.UNFIT)], attempt
        assert device.record.retry_at_s is not None
        device.tick(device.record.retry_at_s - device.now_s)
    assert device.now_s > 4 * LIMITS.retry_failed_s
    device.see(records.Fetched(device.record.ticket))
    effects = device.see(records.TrialFailed(device.record.ticket, Reason.UNFIT, "no memory"))
    assert phases(effects) == [(Phase.FAILED, Reason.UNFIT)], "but not for ever"


@pytest.mark.parametrize("reason", [Reason.NO_SPACE, Reason.STORAGE])
def test_a_download_waits_for_space_and_for_the_disk_until_its_deadline_and_says_so_once(reason: Reason) -> None:
    device = Device()
    device.install(1, 1)
    began_s = device.now_s
    device.see(records.Offered(order(2, 2)))
    told = []
    while device.record.stage is records.Stage.DOWNLOADING:
        told += phases(device.see(records.Refused(device.record.ticket, reason, "the disk")))
        assert device.record.retry_at_s is not None
        told += phases(device.tick(min(LIMITS.retry_max_s, device.record.retry_at_s - device.now_s)))
    assert told == [(Phase.DOWNLOADING, reason), (Phase.FAILED, reason)]
    assert device.now_s - began_s >= LIMITS.download_s and len(device.effects) < 60, "and did not spin"


@pytest.mark.parametrize("reason", [Reason.CORRUPT, Reason.STORAGE, Reason.LOAD])
def test_what_was_committed_and_cannot_start_is_mended_while_something_else_serves(reason: Reason) -> None:
    device = Device()
    device.install(1, 1)
    device.install(2, 2)
    most = steps.MAX_TRIALS if reason in steps.ROTTEN else steps.MAX_DOUBTS
    for _ in range(most):
        effects = device.see(records.Unhealthy(f"{2:064x}", reason))
        assert phases(effects) == [(Phase.DOWNLOADING, reason)], "on its way, not failed"
        assert device.record.active is not None and device.record.active.release == 1
        assert observed_again(device) == f"{2:064x}"
        device.record = dataclasses.replace(device.record, stage=records.Stage.IDLE, deadline_s=None)  # not yet proven
    assert phases(device.see(records.Unhealthy(f"{2:064x}", reason))) == [(Phase.ROLLED_BACK, reason)]
    assert device.record.retry_at_s == device.now_s + LIMITS.retry_failed_s, "and still tried again"


@pytest.mark.parametrize("reason", [Reason.CORRUPT, Reason.EXPIRED, Reason.NETWORK])
def test_the_fleet_hears_once_that_what_it_has_is_wrong(reason: Reason) -> None:
    device = Device()
    device.install(1, 1)
    device.see(records.Offered(order(2, 2)))
    told = []
    for _ in range(3):
        told += phases(device.see(records.Delayed(device.record.ticket, reason, "as it came", 1.0)))
        told += phases(device.tick(LIMITS.retry_max_s))
    silent = reason is Reason.NETWORK  # nobody to tell it to
    assert told == ([] if silent else [(Phase.DOWNLOADING, reason)])
    assert device.record.active is not None and device.record.active.release == 1
