"""Cut one update short at every operation on the disk and the ledger, and look at what a restart finds.

`run(strace=False)` is portable: wrappers of the agent's own Disk and Ledger raise before the n-th operation, and
everything the process knew is thrown away. `run(strace=True)` kills a real process at every system call that changes
the folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agent.world import Bundle, World, make_bundle

from skerry_agent.disk import RealDisk
from skerry_agent.ledger import Change, SqliteLedger
from skerry_simulators import killpoints


class PowerCut(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and go on."""


class Fuse:
    """Counts operations and cuts before the n-th."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last

    def step(self) -> None:
        self.count += 1
        if self.count == self._last:
            raise PowerCut


class CutDisk(RealDisk):
    """A real disk whose changes count."""

    def __init__(self, root: Path, fuse: Fuse) -> None:
        super().__init__(root)
        for name in ("write", "reserve", "fsync", "fsync_dir", "rename", "unlink", "mkdir", "rmdir"):
            setattr(self, name, self._counted(getattr(self, name), fuse))

    def _counted(self, call: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
        def counted(*values: Any) -> Any:
            fuse.step()
            return call(*values)

        return counted


class CutLedger(SqliteLedger):
    """A real ledger whose commits count: before, and after (durable, but nobody was told)."""

    def __init__(self, path: Path, disk: RealDisk, fuse: Fuse) -> None:
        super().__init__(path, disk)
        self._fuse = fuse

    def commit(self, change: Change) -> None:
        self._fuse.step()
        super().commit(change)
        self._fuse.step()


def _boot(root: Path, fuse: Fuse, bundles: list[Bundle]) -> World:
    disk = CutDisk(root, fuse)
    ledger = CutLedger(root / "state.db", disk, fuse)
    try:
        return World(root, ledger=ledger, disk=disk, bundles=bundles)
    except PowerCut:
        ledger.close()
        raise


def _update(root: Path, fuse: Fuse, bundles: list[Bundle]) -> None:
    world = _boot(root, fuse, bundles)
    try:
        world.connect()
        world.assign(bundles[1], sequence=2)
        world.predict()
        world.settle()
        world.ack_all()
        world.pass_s(1)
    finally:
        world.ledger.close()  # type: ignore[attr-defined]  # a real one


def _violation(root: Path, bundles: list[Bundle]) -> str | None:
    """Return what is wrong after a restart; None: a whole bundle serves, and the accounting holds."""
    world = _boot(root, Fuse(None), bundles)
    try:
        served = world.serving.get("digits")
        if served not in (bundles[0].id, bundles[1].id):
            return f"serves {served}"
        manifest = world.store.manifest(served)
        if manifest is None:
            return "serves a bundle without a manifest"
        world.store.check(manifest, manifest.variants[0])
        health = world.core.spool.health
        if health.made != health.acked + health.waiting + health.dropped:
            return f"accounting: {health}"
        world.connect()
        world.assign(bundles[1], sequence=3)
        world.settle()
        return None if world.serving["digits"] == bundles[1].id else "never converges"
    finally:
        world.ledger.close()  # type: ignore[attr-defined]  # a real one


def run(strace: bool) -> tuple[int, int]:
    """Return how many points were cut and how many of them broke a promise."""
    if strace:
        found = killpoints.enumerate_points(strace=True)
        return found.points, len(found.violations)
    points = violations = 0
    bundles = [make_bundle(1), make_bundle(2)]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        before.mkdir()
        world = _boot(before, Fuse(None), bundles)
        world.connect()
        world.assign(bundles[0])
        world.settle()
        world.ledger.close()  # type: ignore[attr-defined]  # a real one
        while True:
            shutil.rmtree(after, ignore_errors=True)
            shutil.copytree(before, after)
            try:
                _update(after, Fuse(points + 1), bundles)
                return points, violations
            except PowerCut:
                points += 1
            if (problem := _violation(after, bundles)) is not None:
                violations += 1
                print(f"point {points}: {problem}")  # shown by pytest where it fails
