"""Updates counted from outside, and the faults they are counted under."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest

from skerry_agent.errors import StorageError
from skerry_agent.store import Store
from skerry_simulators.alone import Alone
from skerry_simulators.cli import main
from skerry_simulators.disk import SimDisk
from skerry_simulators.faults import NONE
from skerry_simulators.power import Plug
from skerry_simulators.runner import run_world
from skerry_simulators.storm import run_storm
from skerry_simulators.updates import Updates
from skerry_simulators.weather import YEAR_2100_S
from skerry_simulators.world import Settings


def test_each_update_has_one_outcome() -> None:
    books = Updates()
    books.offered("a", "m", "one")
    books.hit("a", "power cut")
    books.hit("b", "power cut")
    books.offered("a", "m", "one")  # signed again with another sequence: the same update
    books.committed("a", "m")
    books.offered("a", "m", "two")
    books.offered("a", "m", "three")  # a newer one came
    books.lasts("a", "partition", begins=True)
    books.gave_up("a", "m", "crashed")
    books.offered("a", "m", None)  # taken back after the device had given it up
    books.offered("a", "m", "four")  # the partition still lasts
    books.offered("b", "m", "five")
    found = books.tally()
    assert (found.updates, found.faulted, found.succeeded, found.superseded, found.failed) == (5, 4, 1, 0, 3)
    assert found.kinds == {"partition": 1, "power cut": 1}
    assert len(found.lost) == 3 and "crashed (partition)" in found.lost[0]


def test_what_was_given_up_and_done_after_all_succeeded() -> None:
    books = Updates()
    books.offered("a", "m", "one")
    books.hit("a", "worker crash")
    books.gave_up("a", "m", "crashed")
    books.committed("a", "m")
    assert books.tally().succeeded == 1 and books.tally().failed == 0


def test_what_is_taken_up_again_is_no_failure_when_a_newer_one_comes() -> None:
    books = Updates()
    books.offered("a", "m", "one")
    books.hit("a", "disk full")
    books.gave_up("a", "m", "no-space")
    books.gave_up("a", "m", "")
    books.offered("a", "m", "two")
    assert books.tally().superseded == 1 and books.outcomes == {"faulted superseded": 1}


def test_a_small_storm_loses_no_update_and_no_device() -> None:
    found = run_storm(40, seed=3, devices=12, days=0.4)
    assert found.violations == () and found.bricks == 0 and found.lost == ()
    assert found.faulted == found.succeeded >= 40
    assert len(found.kinds) >= 8


def test_wrong_clocks_interrupt_no_inference() -> None:
    clocks = dataclasses.replace(NONE, wrong_clock_every_s=1800.0)
    settings = Settings(6, 1, 0.3, clocks, release_every_s=5400.0, brisk=True, ask_every_s=60.0)
    found = run_world(settings)
    assert found.violation is None and found.bricks == 0
    assert found.counts["wrong clock"] > 20 and found.counts["swap"] > 6
    assert found.asked > 1000 and found.unanswered == 0


def test_an_update_resumes_with_the_first_heartbeat_after_the_clock_is_right_again() -> None:
    world = Alone(1)
    world.run(60)
    new, device = world.make(2), world.device
    device.clock.set_wall(YEAR_2100_S)
    world.run(700)
    world.offer(new, days=1.0)
    world.run(1800)
    assert world.active == world.factory.id, "refused by its date"
    device.clock.error_s = 0.0
    world.run(device.config.heartbeat_s + device.config.observe_s + 60)
    assert world.active == new.id


def test_an_update_under_way_outlives_a_clock_that_jumps_ahead() -> None:
    world = Alone(2)
    world.run(60)
    new, device = world.make(2), world.device
    world.link.partition(3600)
    world.run(1)
    device.clock.set_wall(YEAR_2100_S)
    world.link.heal()
    world.offer(new, days=1.0)
    world.run(3000)
    device.clock.error_s = 0.0
    world.run(device.config.heartbeat_s + device.config.observe_s + 60)
    assert world.active == new.id


def test_the_command_says_what_it_counted(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["updates", "--updates", "5", "--devices", "4", "--days", "0.1", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["faulted"] >= 5 and said["bricks"] == 0 and sum(said["kinds"].values()) >= 5


def test_a_sync_that_failed_leaves_nothing_to_believe() -> None:
    """After an error the kernel calls lost pages clean: the next sync says yes, and the medium holds nothing."""
    disk = SimDisk(Plug(), 1 << 20)
    store = Store(disk)
    store.prepare()
    fails = iter([False, True])  # the write, then its sync
    disk.bad = lambda: next(fails)
    with pytest.raises(StorageError, match="Input/output error"):
        store.put_blob(b"weights" * 100)
    disk.bad = None
    blob = store.put_blob(b"weights" * 100)
    disk.power_cut(random.Random(1))
    assert disk.digest(f"store/blobs/{blob.sha256}") == blob.sha256


def test_a_rotten_blob_is_removed_and_counts_as_missing() -> None:
    disk = SimDisk(Plug(), 1 << 20)
    store = Store(disk)
    store.prepare()
    store.put_blob(b"weights" * 100)
    disk.settle()
    path = disk.rot(random.Random(1), "store/blobs")
    assert path is not None and disk.digest(path) != path.rpartition("/")[2]
    assert disk.rot(random.Random(1), "store/none") is None
