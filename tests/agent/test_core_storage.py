"""The core on a disk that fails, and after the ledger is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agent.world import World, make_bundle

from skerry_agent import effects
from skerry_agent.config import AgentConfig
from skerry_agent.errors import StorageError
from skerry_agent.ledger import Change, SqliteLedger
from skerry_agent.memory import BUFFER_BYTES
from skerry_agent.records import Measured
from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.device import Presence, Progress


class FailingLedger(SqliteLedger):
    broken = False
    tries = 0

    def commit(self, change: Change) -> None:
        self.tries += 1
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


def test_what_waits_for_a_refusing_disk_is_bounded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry_agent.memory.BUFFER_BYTES", 50_000)
    ledger = FailingLedger(Path(":memory:"))
    config = AgentConfig(root=tmp_path, reserve_free_bytes=0, flush_rows=4)
    world = World(tmp_path, ledger=ledger, config=config)
    world.connect()
    world.assign(make_bundle(1), sampling=SamplingPolicy(random_share=1.0, bytes_per_hour=10**9))
    world.settle()
    world.pass_s(10)
    made = world.core.spool.health.made
    ledger.broken, ledger.tries = True, 0
    for _ in range(500):
        world.predict()
    assert ledger.tries <= 2, "a disk that refuses is not asked with every sample"
    assert sum(len(row.payload) for row in world.core.memory.buffered) <= 50_000
    held = len(world.core.memory.buffered)
    ledger.broken = False
    world.pass_s(10)
    health = world.core.spool.health
    assert health.made == health.acked + health.waiting + health.dropped
    assert health.made - made >= 500 > held and health.dropped == 500 - held


def test_a_sketch_whose_window_ended_on_a_full_disk_comes_later(tmp_path: Path) -> None:
    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    world.connect()
    world.assign(make_bundle(1), sampling=SamplingPolicy(sketch_seconds=60, random_share=0.0, uncertain_margin=0.0))
    world.settle()
    world.pass_s(61)
    before = len([each for each in world.published if each.channel == "sketch"])
    world.predict()
    ledger.broken = True
    world.pass_s(61)
    ledger.broken = False
    world.pass_s(10)
    assert len([each for each in world.published if each.channel == "sketch"]) == before + 1


@pytest.mark.parametrize("stage", [effects.FetchManifest, effects.FetchBlobs, effects.Trial])
def test_a_boot_that_could_not_be_written_goes_on_with_the_update_later(tmp_path: Path, stage: type) -> None:
    """What it served it serves; the fetch or the trial that was under way begins as soon as the disk works."""
    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    world.connect()
    first, second = make_bundle(1), make_bundle(2)
    world.assign(first)
    world.settle()
    world.hold = {stage}
    world.assign(second, sequence=2)
    ledger.broken = True
    world.hold = set()
    world.boot()
    assert world.serving == {"digits": first.id}
    for _ in range(3):
        world.pass_s(6)
    assert world.serving == {"digits": first.id} and "storage" in world.core.degraded
    ledger.broken = False
    world.pass_s(6)
    world.settle()
    assert world.serving == {"digits": second.id} and world.core.degraded == {}
    again = World(tmp_path, ledger=ledger)
    assert again.core.outbox.boot_id > world.core.outbox.boot_id and again.serving == {"digits": second.id}


def test_a_refusal_that_could_not_be_written_is_one_all_the_same(tmp_path: Path) -> None:
    """The bundle does not fit, and the disk is full just then: the update ends and is told, and no deadline is waited
    for.
    """
    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    world.connect()
    world.hold = {effects.FetchManifest}
    wrong = make_bundle(2, features=("avx512_vnni",))
    world.assign(wrong)
    ticket = world.core.memory.records["digits"].ticket
    ledger.broken = True
    world.do(world.core.manifest("digits", ticket, wrong.data, {"timestamp": 1}))
    ledger.broken = False
    world.pass_s(6)
    assert world.progress()[-1] == ("failed", "unfit")


def test_what_was_seen_while_the_disk_was_bad_is_kept_or_counted(tmp_path: Path) -> None:
    """Sketches, refusals and samples wait in a bounded memory; what does not fit is in the accounts."""
    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    world.connect()
    world.assign(make_bundle(), sampling=SamplingPolicy(random_share=1.0, sketch_seconds=60, bytes_per_hour=1 << 40))
    world.settle()
    made = world.core.spool.health.made
    ledger.broken = True
    world.predict()
    world.pass_s(61)
    world.down("assignment", b"rubbish")
    for _ in range(3000):
        world.predict()
        world.clock.pass_s(1)
    waiting = sum(len(row.payload) for row in world.core.memory.buffered)
    assert waiting <= BUFFER_BYTES
    ledger.broken = False
    world.pass_s(6)
    said = {each.channel for each in world.published}
    health = world.core.spool.health
    assert {"sketch", "progress", "sample"} <= said
    assert health.made - made >= 3003 and health.made == health.acked + health.waiting + health.dropped


def test_the_fleet_hears_a_device_again_whose_boots_could_not_be_counted_under_a_wrong_clock(tmp_path: Path) -> None:
    """The fleet believes the highest boot id: one of a boot in 2100 that nobody took down must not be the last."""

    def boot(wall_s: float, *, broken: bool) -> str:
        ledger.broken, world.clock.wall = broken, wall_s
        world.boot()
        world.connect()
        return world.core.outbox.boot_id

    ledger = FailingLedger(Path(":memory:"))
    world = World(tmp_path, ledger=ledger)
    now_s = world.clock.wall
    in_2100, later = boot(4_102_444_800.0, broken=True), boot(now_s + 60, broken=True)
    assert in_2100 != later
    world.published.clear()
    ledger.broken = False
    world.pass_s(10)
    healed = world.core.outbox.boot_id
    told = [codec.decode(Presence, each.payload) for each in world.published if each.channel == "presence"]
    assert healed > max(in_2100, later) and [(each.boot_id, each.online) for each in told] == [(healed, True)]
    world.assign(make_bundle(1))
    world.settle()
    made = [codec.decode(Progress, each.payload) for each in world.published if each.channel == "progress"]
    assert len({(each.boot_id, each.seq) for each in made}) == len(made) > 0
    unwritten = boot(4_102_444_800.0, broken=True)
    assert healed < unwritten < boot(now_s + 120, broken=False)
