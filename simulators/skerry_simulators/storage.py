"""Where a simulated device keeps what must last: a false disk and ledger that forget, or real ones in a folder."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from skerry_agent.disk import Disk
from skerry_agent.ledger import Change, Ledger, SqliteLedger
from skerry_simulators.disk import SimDisk
from skerry_simulators.ledger import SimLedger
from skerry_simulators.operations import PluggedDisk
from skerry_simulators.power import Plug

CAPACITY_BYTES = 4 << 20
DATABASE = "state.db"


class ObservedLedger(Ledger, Protocol):
    """A ledger that says what it has committed."""

    observer: Callable[[Change], None] | None


@dataclasses.dataclass(slots=True)
class Storage:
    """Disk, ledger and the plug both hang on. `provisioned`: the maker's bundle is there already."""

    plug: Plug
    disk: Disk
    ledger: ObservedLedger
    provisioned: bool = False

    def settle(self) -> None:
        """Make everything durable, as unmounting does."""
        if isinstance(self.disk, SimDisk):
            self.disk.settle()

    def power_cut(self, rng: random.Random) -> None:
        """Forget what was not durable; a real disk under a living kernel forgets nothing."""
        if isinstance(self.disk, SimDisk):
            self.disk.power_cut(rng)

    def fill(self, left_bytes: int) -> None:
        """Let other programs take all but so many bytes."""
        if isinstance(self.disk, SimDisk):
            self.disk.filler_bytes += self.disk.free_bytes() - left_bytes

    def refuse(self) -> None:
        """Let the file system become read-only."""
        if isinstance(self.disk, SimDisk):
            self.disk.read_only = True

    def mend(self) -> None:
        """Put the disk right: it can be written, and other programs give back what they took."""
        if isinstance(self.disk, SimDisk):
            self.disk.filler_bytes = 0
            self.disk.read_only = False
            self.disk.bad = None

    def rot(self, rng: random.Random, folder: str) -> str | None:
        """Let one bit of a file below a folder change; return which file."""
        return self.disk.rot(rng, folder) if isinstance(self.disk, SimDisk) else None

    def fail(self, bad: Callable[[], bool]) -> None:
        """Let the medium fail whatever `bad` says."""
        if isinstance(self.disk, SimDisk):
            self.disk.bad = bad

    @property
    def failing(self) -> bool:
        """Whether the medium fails some reads and writes just now."""
        return isinstance(self.disk, SimDisk) and self.disk.bad is not None

    def damaged(self, path: str) -> bool:
        """Return whether a file rotted once."""
        return isinstance(self.disk, SimDisk) and path in self.disk.damaged

    def truth(self, path: str) -> bytes | None:
        """Return a file's content for those who watch, whatever the medium is like."""
        return self.disk.truth(path) if isinstance(self.disk, SimDisk) else self.disk.read(path)


class WatchedSqliteLedger(SqliteLedger):
    """The real ledger, which says what it has committed and lets the plug be pulled before."""

    def __init__(self, path: Path, disk: Disk, plug: Plug) -> None:
        super().__init__(path, disk)
        self.observer: Callable[[Change], None] | None = None
        self._plug = plug

    def commit(self, change: Change) -> None:
        """Apply a change durably."""
        self._plug.operation("commit", ",".join(change.puts))
        super().commit(change)
        if self.observer is not None:
            self.observer(change)


def simulated(disk_class: type[SimDisk] = SimDisk) -> Storage:
    """Return empty storage in memory."""
    plug = Plug()
    disk = disk_class(plug, CAPACITY_BYTES)
    return Storage(plug, disk, SimLedger(plug, disk))


def real(root: Path, plug: Plug) -> Storage:
    """Return storage in a real folder: new, or what an earlier process left there."""
    provisioned = (root / DATABASE).exists()
    disk = PluggedDisk(root, plug)
    return Storage(plug, disk, WatchedSqliteLedger(root / DATABASE, disk, plug), provisioned)
