"""What disturbs a recorded life: other programs that let the kernel write back at any moment; and, to see that the
checks find something, storage that is careless.
"""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Callable
from pathlib import Path

from skerry_agent.ledger import Change
from skerry_simulators import storage as storages
from skerry_simulators.operations import PluggedDisk
from skerry_simulators.power import Plug
from skerry_simulators.storage import DATABASE, Storage, WatchedSqliteLedger

_SYNC_FILE_RANGE_WRITE = 2
_WRITE_BACK, _SYNC = 0.2, 0.03  # shares of the moments

_libc = ctypes.CDLL(None, use_errno=True)


def disturber(root: Path, chance: random.Random) -> Callable[[], None]:
    """Return what, now and then, starts the writing of files under way (without waiting, and without a flush), or has
    the whole file system written as another program's sync does.
    """

    def disturb() -> None:
        drawn = chance.random()
        if drawn < _SYNC:
            sync(root)
        elif drawn < _WRITE_BACK:
            for folder in ("", "store/partial", "store/blobs", "identity", "tuf"):
                for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
                    if path.is_file():
                        _each(
                            path,
                            lambda file: _libc.sync_file_range(
                                file, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE
                            ),
                        )

    return disturb


def sync(folder: Path) -> None:
    """Have a folder's file system written, and no other."""
    _each(folder, _libc.syncfs)


def _each(path: Path, call: Callable[[int], object]) -> None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        call(file)
    finally:
        os.close(file)


class NoFsyncDisk(PluggedDisk):
    """`missing-fsync`: files are not made durable."""

    def fsync(self, path: str) -> None:
        """Say yes and do nothing."""


class NoFolderFsyncDisk(PluggedDisk):
    """`missing-folder-fsync`: names are not made durable."""

    def fsync_dir(self, path: str) -> None:
        """Say yes and do nothing."""


class NormalLedger(WatchedSqliteLedger):
    """`ledger-normal`: SQLite's synchronous=NORMAL, which syncs its log only now and then."""

    def commit(self, change: Change) -> None:
        """Apply a change, and leave it to the kernel."""
        self._opened().execute("PRAGMA synchronous=NORMAL")
        super().commit(change)


class HastyDisk(NoFsyncDisk, NoFolderFsyncDisk):
    """For a device whose power will not go: nothing needs to be durable."""


class HastyLedger(WatchedSqliteLedger):
    """The same for the ledger."""

    def commit(self, change: Change) -> None:
        """Apply a change, without waiting for the disk."""
        self._opened().execute("PRAGMA synchronous=OFF")
        super().commit(change)


BUGS: dict[str, tuple[type[PluggedDisk], type[WatchedSqliteLedger]]] = {
    "missing-fsync": (NoFsyncDisk, WatchedSqliteLedger),
    "missing-folder-fsync": (NoFolderFsyncDisk, WatchedSqliteLedger),
    "ledger-normal": (PluggedDisk, NormalLedger),
}


def store(bug: str) -> Callable[[Path, Plug], Storage]:
    """Return how storage in a real folder is opened, with a bug or (empty) without."""
    return _opening(*BUGS[bug]) if bug else storages.real


def hasty(root: Path, plug: Plug) -> Storage:
    """Open storage in a real folder of which no cut will ask anything: what is tried after the cut goes faster."""
    return _opening(HastyDisk, HastyLedger)(root, plug)


def _opening(disk_class: type[PluggedDisk], ledger_class: type[WatchedSqliteLedger]) -> Callable[[Path, Plug], Storage]:
    def opening(root: Path, plug: Plug) -> Storage:
        provisioned = (root / DATABASE).exists()
        disk = disk_class(root, plug)
        return Storage(plug, disk, ledger_class(root / DATABASE, disk, plug), provisioned)

    return opening
