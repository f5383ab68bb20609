"""The core on a disk that fails, and after the ledger is gone."""

from __future__ import annotations

from pathlib import Path

from tests.agent.world import World, make_bundle

from skerry_agent import effects
from skerry_agent.errors import StorageError
from skerry_agent.ledger import Change, SqliteLedger
from skerry_agent.records import Measured


class FailingLedger(SqliteLedger):
    broken = False

    def commit(self, change: Change) -> None:
        if self.broken:
            raise StorageError("ledger: disk I/O error")
        super().commit(change)


def test_a_disk_that_cannot_be_written_stops_updates_but_never_service(tmp_path: Path) -> None:
    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    world.connect()
    first, second = make_bundle(1), make_bundle(2)
    world.assign(first)
    world.settle()
    ledger.broken = True
    world.assign(second, sequence=2)
    assert world.serving == {"digits": first.id} and "storage" in world.core.degraded
    world.predict()
    world.boot()
    assert world.serving == {"digits": first.id}, "a boot serves without writing"
    ledger.broken = False
    world.connect()
    world.assign(second, sequence=2)
    world.pass_s(10)
    assert world.serving == {"digits": second.id} and "storage" not in world.core.degraded


def test_an_answer_that_could_not_be_written_is_taken_up_later(tmp_path: Path) -> None:
    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    world.hold = {effects.Trial}
    world.connect()
    bundle = make_bundle()
    world.assign(bundle)
    ticket = world.core.memory.records["digits"].ticket
    ledger.broken = True
    world.do(world.core.trial_passed("digits", ticket, Measured("native-fp32")))
    assert world.serving == {}
    ledger.broken = False
    world.pass_s(6)
    assert world.serving == {"digits": bundle.id}


def test_a_ledger_lost_with_its_mirror_is_rebuilt_from_the_store(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.connect()
    bundle = make_bundle(3)
    world.assign(bundle)
    world.settle()
    world.ledger = SqliteLedger(Path(":memory:"))
    world.boot()
    assert world.serving == {"digits": bundle.id}
    assert world.core.memory.records["digits"].floor == 3
