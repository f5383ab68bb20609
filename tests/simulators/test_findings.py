"""What the simulators have found, each as the shortest history that showed it."""

from __future__ import annotations

from skerry_simulators import faults
from skerry_simulators.alone import Alone
from skerry_simulators.catalogue import Kind
from skerry_simulators.faults import HOUR_S
from skerry_simulators.weather import YEAR_2100_S
from skerry_simulators.world import Settings, World


def test_a_wrong_date_does_not_outlive_its_hour() -> None:
    """The clock floor was taken from the wall clock: after an hour in 2100 every assignment was expired for ever."""
    world = Alone(1)
    world.run(100)
    world.device.clock.set_wall(YEAR_2100_S)
    world.run(2 * HOUR_S)
    early = world.make(2)
    world.offer(early)
    world.run(HOUR_S)
    assert world.active == world.factory.id  # refused while the date is wrong, and nothing stopped
    world.device.clock.error_s = 0.0
    world.run(1.5 * HOUR_S)
    assert world.active == early.id  # without a new assignment, without a new connection
    late = world.make(3)
    world.offer(late)
    world.run(600)
    assert world.active == late.id


def test_a_rollout_taken_over_offers_to_nobody_on_the_way_out() -> None:
    """Each unconfirmed device that left made room for one that waited, and that one left with the order in hand."""
    world = World(Settings(devices=40, seed=1, faults=faults.NONE, releases=False))
    world.start()
    world.let_pass(0.1 * HOUR_S)
    first = world.release(Kind.GOOD)
    world.let_pass(1.25 * HOUR_S)
    assert first is not None
    before = world.fleet.exposure.worst[first]
    second = world.release(Kind.GOOD, supersede=True)
    assert second is not None and world.fleet.exposure.worst[first] == before
    world.let_pass(HOUR_S)
