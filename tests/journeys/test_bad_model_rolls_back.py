"""Bad models reach no more devices than the exposure budget allows, and everybody ends on the old one."""

from __future__ import annotations

import pytest
from sqlmodel import select

from skerry_fleet.records import Alert
from skerry_fleet.tables import Rollout, RolloutDevice
from skerry_simulators import faults
from skerry_simulators.catalogue import MODEL, Kind
from skerry_simulators.faults import HOUR_S, Faults
from skerry_simulators.world import BAD_KINDS, Settings, World

DEVICES = 50
BUDGET = 3


def serving(world: World) -> set[int]:
    """Return the releases that devices serve."""
    found = set()
    for device in world.devices.values():
        active = device.core.memory.records[MODEL].active if device.core is not None else None
        found.add(active.release if active is not None else 0)
    return found


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_bad_model_rolls_back(kind: Kind) -> None:
    world = World(Settings(devices=DEVICES, seed=2, faults=faults.NONE, releases=False))
    world.start()
    world.let_pass(0.2 * HOUR_S)
    world.release(Kind.GOOD)
    world.let_pass(5 * HOUR_S)
    assert serving(world) == {2}

    rollout = world.release(kind)
    assert rollout is not None
    world.let_pass(2 * HOUR_S)
    assert world.fleet.exposure.worst[rollout] <= BUDGET
    assert serving(world) == {2}
    with world.fleet.database.read() as session:
        row = session.exec(select(Rollout).where(Rollout.id == rollout)).one()
        assert row.status == "rolled-back", row.reason
        offered = session.exec(
            select(RolloutDevice).where(RolloutDevice.rollout == rollout, RolloutDevice.place != "waiting")
        )
        assert len(offered.all()) <= BUDGET
        alerts = session.exec(select(Alert).where(Alert.subject == rollout)).all()
        assert [alert.kind for alert in alerts] == ["rollout-rolled-back"]
    world.settle()
    world.reckon()


def test_bad_model_rolls_back_under_bad_luck() -> None:
    world = World(Settings(devices=30, seed=7, faults=Faults(), releases=False))
    world.start()
    world.let_pass(0.2 * HOUR_S)
    world.release(Kind.GOOD)
    world.let_pass(6 * HOUR_S)
    rollout = world.release(Kind.NAN, supersede=True)
    assert rollout is not None
    world.let_pass(4 * HOUR_S)
    assert world.fleet.exposure.worst[rollout] <= BUDGET
    world.settle()
    world.reckon()  # everybody serves what the fleet wants, and nobody a bad model
