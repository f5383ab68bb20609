"""A device is cut off for a week: it goes on serving, keeps what it may, counts what it must drop, and catches up."""

from __future__ import annotations

import dataclasses

from skerry_simulators import faults
from skerry_simulators.catalogue import CONFIG, MODEL, Kind
from skerry_simulators.faults import DAY_S, HOUR_S
from skerry_simulators.world import Settings, World

LONELY = "d0001"
WEEK_S = 7 * DAY_S


def test_device_offline_for_a_week() -> None:
    config = dataclasses.replace(CONFIG, spool_quota_bytes=60_000, heartbeat_s=1200.0)
    world = World(Settings(devices=3, seed=4, faults=faults.NONE, releases=False, config=config))
    lonely = world.devices[LONELY]
    world.start()
    world.let_pass(HOUR_S)
    world.release(Kind.GOOD)
    world.let_pass(4 * HOUR_S)
    assert {active(world, name) for name in world.devices} == {2}

    lonely.link.partition(WEEK_S)
    world.release(Kind.GOOD)
    world.let_pass(3 * DAY_S)
    assert [active(world, name) for name in world.devices] == [3, 2, 3]  # the fleet does not wait for it
    world.release(Kind.GOOD)
    world.let_pass(3.9 * DAY_S)
    assert [active(world, name) for name in world.devices] == [4, 2, 4]
    assert lonely.core is not None and lonely.body is not None and lonely.body.live[MODEL].running
    alone = lonely.core.spool.health
    assert alone.waiting_bytes <= config.spool_quota_bytes
    assert alone.dropped > 0 and alone.waiting > 20
    assert alone.made == alone.acked + alone.waiting + alone.dropped

    world.let_pass(DAY_S)
    assert [active(world, name) for name in world.devices] == [4, 4, 4]  # straight to the newest
    health = lonely.core.spool.health
    assert health.waiting < 5 and health.dropped < alone.dropped + 20
    assert health.acked <= len(world.invariants.stored[LONELY])
    world.settle()
    world.reckon()


def active(world: World, name: str) -> int:
    """Return the release that a device serves."""
    core = world.devices[name].core
    record = core.memory.records[MODEL] if core is not None else None
    return record.active.release if record is not None and record.active is not None else 0
