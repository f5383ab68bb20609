"""Cut the power before every single durable operation of one update: each time the device comes back with a whole
model, its accounts in order, and ends on the new bundle.
"""

from __future__ import annotations

import pytest

from skerry_simulators.alone import Alone
from skerry_simulators.bugs import CarelessDisk
from skerry_simulators.catalogue import MODEL, Kind
from skerry_simulators.errors import ViolationError
from skerry_simulators.storage import simulated

UPDATE_S = 600.0


def operations_of_an_update(seed: int, kind: Kind = Kind.GOOD) -> tuple[int, list[str]]:
    """Return how many operations came before the offer, and those of the update itself."""
    world = Alone(seed)
    world.run(100)
    before = world.device.plug.operations
    world.device.plug.trace = []
    world.offer(world.make(2, kind))
    world.run(UPDATE_S)
    return before, world.device.plug.trace


def cut_at(seed: int, operation: int, kind: Kind = Kind.GOOD, careless: bool = False) -> Alone:
    """Run the same update with the power cut before one operation, and let it come back."""
    world = Alone(seed, storage=simulated(CarelessDisk) if careless else None)
    world.run(100)
    world.device.plug.cut_in(operation)
    bundle = world.make(2, kind)
    world.offer(bundle)
    world.run(UPDATE_S + 1200)
    assert world.history.counts["power cut"] == 1
    expected = bundle.id if kind is Kind.GOOD else world.factory.id
    assert world.active == expected, world.device.plug.operations
    core = world.device.core
    assert core is not None
    assert core.memory.records[MODEL].floor == (2 if kind is Kind.GOOD else 1)
    world.invariants.bounded(world.device)
    return world


def test_the_update_writes_what_we_think_it_writes() -> None:
    _, trace = operations_of_an_update(1)
    kinds = {each.split()[0] for each in trace}
    assert kinds >= {"write", "reserve", "fsync", "rename", "fsync_dir", "mkdir", "commit"}
    assert len(trace) > 40


@pytest.mark.parametrize("kind", [Kind.GOOD, Kind.NAN])
def test_every_operation_can_be_the_last(kind: Kind) -> None:
    _, trace = operations_of_an_update(1, kind)
    for operation in range(1, len(trace) + 1):
        cut_at(1, operation, kind)


def test_without_fsync_this_journey_would_fail() -> None:
    _, trace = operations_of_an_update(1)
    with pytest.raises((ViolationError, AssertionError)):
        for operation in range(1, len(trace) + 1):
            cut_at(1, operation, careless=True)
