"""Kill points: all are survived, and a device that would not survive is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry_agent.ledger import Change
from skerry_simulators import killpoints, storage
from skerry_simulators.errors import SimulatorError
from skerry_simulators.operations import PluggedDisk
from skerry_simulators.power import Plug


def test_ends_between_operations_of_disk_and_ledger_are_survived() -> None:
    outcome = killpoints.enumerate_points(strace=False, every=7)
    assert outcome.how == "wrapper" and outcome.points >= 8
    assert outcome.violations == ()


def test_a_careless_ledger_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that writes each transaction one call late must not pass."""
    right = storage.WatchedSqliteLedger.commit
    late: list[Change] = []

    def lazy(self: storage.WatchedSqliteLedger, change: Change) -> None:
        late.append(change)
        if len(late) > 1:
            right(self, late.pop(0))
        if self.observer is not None:
            self.observer(change)

    monkeypatch.setattr(storage.WatchedSqliteLedger, "commit", lazy)
    with pytest.raises((SimulatorError, ValueError, AssertionError)):
        assert killpoints.enumerate_points(strace=False, every=7).violations == ()


def test_the_plugged_disk_counts_what_changes(tmp_path: Path) -> None:
    plug = Plug()
    plug.trace = []
    disk = PluggedDisk(tmp_path, plug)
    disk.mkdir("a")
    disk.reserve("a/f", 10)
    disk.write("a/f", b"12")
    disk.fsync("a/f")
    disk.rename("a/f", "a/g")
    disk.fsync_dir("a")
    assert disk.read("a/g") == b"12" and disk.names("a") == ["g"]
    disk.unlink("a/g")
    disk.rmdir("a")
    kinds = [each.split()[0] for each in plug.trace]
    assert kinds == ["mkdir", "reserve", "write", "fsync", "rename", "fsync_dir", "unlink", "rmdir"]


@pytest.mark.strace
def test_kills_at_system_calls_are_survived() -> None:
    """A sample of them; all of them are a figure of `benchmarks/spine_simulation.py`."""
    outcome = killpoints.enumerate_points(strace=True, every=19)
    assert outcome.how == "strace" and outcome.points >= 10
    assert outcome.violations == ()
