"""Fail a durable operation of one update on a real folder, and look at what the agent makes of it.

As in killpoints.py, but the operation fails instead of being the last: a full disk, an I/O error, a file system that
became read-only; once, or from there on until the update's time is over. strace lets each system call that changes the
folder fail once, in the real disk and in SQLite; a wrapper of the agent's own Disk and Ledger lets each operation fail
once, and then all from it on; as root, a small file system is really filled before each operation, with bytes and with
names. The process lives on. What serves must be whole at every instant (invariants.py), a
disk that stays bad must be said, and as soon as the disk works the update completes and every message goes, in the same
process and after a restart.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import mmap
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from skerry_agent.errors import StorageError
from skerry_contracts.device import Reason
from skerry_simulators import killpoints, mounts
from skerry_simulators.alone import Alone
from skerry_simulators.catalogue import MODEL
from skerry_simulators.children import run
from skerry_simulators.errors import SimulatorError
from skerry_simulators.killpoints import AFTER_S, BEFORE_S, UPDATE_S, Outcome
from skerry_simulators.power import Plug

ERRORS = ("ENOSPC", "EIO", "EROFS")
BYTES, NAMES = "no bytes left", "no names left"
SMALL = "size=4m,nr_inodes=300"
SAID_BYTES = 4096
SILENT = b"the process ended without a word"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One way in which the disk fails. `call`: a system call, or `operation` of the agent's own disk and ledger. An
    `error` that is no errno's name is real: a file system that is filled before the operation.
    """

    error: str
    call: str
    number: int
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.error} at {self.call} {self.number}{' and all after it' if self.lasting else ''}"


class BadDisk(Plug):
    """A plug whose operations fail from one on: only that one, or all until the disk is mended."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self._point = point
        self.failed = 0
        self.mended = False

    def mend(self) -> None:
        """Make the disk a good one."""
        self.mended = True

    def operation(self, kind: str, what: str) -> None:
        """Count one operation.

        Raises:
            StorageError: this one fails.
        """
        super().operation(kind, what)
        point = self._point
        late = self.operations - point.number
        if self.mended or late < 0 or (late > 0 and not point.lasting):
            return
        self.failed += 1
        words = os.strerror(getattr(errno, point.error))
        reason = Reason.NO_SPACE if point.error == "ENOSPC" else Reason.STORAGE
        raise StorageError(f"{kind} {what}: {words}", reason=reason)


class FullDisk(BadDisk):
    """A plug that fills the file system below a folder before an operation, and gives all back when it is mended."""

    def __init__(self, point: Point, folder: Path) -> None:
        super().__init__(point)
        self._folder = folder / "fill"

    def operation(self, kind: str, what: str) -> None:
        """Count one operation; the kernel says what fails."""
        Plug.operation(self, kind, what)
        if self.operations == self._point.number:
            self.failed += 1
            self._folder.mkdir()
            with contextlib.suppress(OSError), (self._folder / "bytes").open("wb", buffering=0) as file:
                while self._point.error == BYTES:
                    file.write(bytes(4096))
            with contextlib.suppress(OSError):
                for number in range(100_000 if self._point.error == NAMES else 0):
                    (self._folder / f"{number}").touch()

    def mend(self) -> None:
        """Make room."""
        shutil.rmtree(self._folder, ignore_errors=True)


def enumerate_errors(
    progress: Callable[[int, int], None] | None = None,
    *,
    strace: bool | None = None,
    small: bool | None = None,
    every: int = 1,
) -> Outcome:
    """Let each durable operation of one update fail in each way (or every n-th of all these), and check.

    `strace`, `small` (a small file system that is really full) None: besides the wrapper, where they work. Raises
    SimulatorError where the update does not even end undisturbed.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-errors-") as folder:
        base = Path(folder)
        if problem := run(partial(killpoints._provision, base / "new")):
            raise SimulatorError(problem, hint="`skerry sim world` says more")
        usable = killpoints._strace_works(base) if strace is None else strace
        mountable = run(_mountable) == "" if small is None else small
        points = list(_points(base, usable, mountable))[::every]
        violations = []
        for done, point in enumerate(points):
            root = base / "point"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(base / "new", root)
            if problem := _problem(root, point):
                violations.append(f"{point}: {problem}")
            if progress is not None:
                progress(done + 1, len(points))
    calls = dict(Counter(point.call for point in points))
    how = ["wrapper", *(["strace"] if usable else []), *(["small file system"] if mountable else [])]
    return Outcome(", ".join(how), len(points), tuple(violations), calls)


def _problem(root: Path, point: Point) -> str:
    if point.error in (BYTES, NAMES):
        return run(partial(_in_small, root, point))
    problem = _traced(root, point) if point.call != "operation" else run(partial(_endure, root, point))
    return problem or run(partial(killpoints._recover, root))


def _mountable() -> str:
    try:
        mounts.own_namespace()
    except OSError as error:
        return str(error)
    return ""


def _in_small(root: Path, point: Point) -> str:
    """Run in a file system of a few megabytes, which goes with this process; only the notes lie outside."""
    mounts.own_namespace()
    folder = root.with_name("small")
    folder.mkdir(exist_ok=True)
    mounts.mount("skerry", folder, "tmpfs", SMALL)
    here = folder / "point"
    shutil.copytree(root, here)
    (here / killpoints.JOURNAL).unlink()
    (here / killpoints.JOURNAL).symlink_to(root / killpoints.JOURNAL)
    return run(partial(_endure, here, point)) or run(partial(killpoints._recover, here))


def _points(base: Path, strace: bool, small: bool) -> Iterator[Point]:
    for call, number in killpoints._traced_points(base) if strace else ():
        yield from (Point(error, call, number) for error in ERRORS)
        shutil.rmtree(base / "count", ignore_errors=True)
    for call, number in killpoints._wrapped_points(base):
        yield from (Point(error, call, number, lasting) for error in ERRORS[:2] for lasting in (False, True))
        yield from (Point(error, call, number, lasting=True) for error in (BYTES, NAMES) if small)


def _traced(root: Path, point: Point) -> str:
    """Let one system call fail; return what is wrong with what came of it."""
    with mmap.mmap(-1, SAID_BYTES) as said:  # shared with the child, whose words pass by no system call

        def action(where: Path) -> str:
            said[:] = _endure(where, point).encode()[:SAID_BYTES].ljust(SAID_BYTES, b"\0")
            return ""

        said[: len(SILENT)] = SILENT
        inject = f"inject={point.call}:error={point.error}:when={point.number}"
        killpoints._traced(root, ["-o", os.devnull, "-e", f"trace={point.call}", "-e", inject], action)
        return said[:].rstrip(b"\0").decode()


def _endure(root: Path, point: Point) -> str:
    """Run one update on a disk that fails, mend the disk, and return what is wrong; empty: nothing."""
    plug = Plug()
    if point.call == "operation":
        plug = FullDisk(point, root.parent) if point.error in (BYTES, NAMES) else BadDisk(point)
    world = killpoints._world(root, plug=plug)
    world.run(BEFORE_S)
    world.offer(world.made[-1])
    world.run(UPDATE_S)
    if wrong := _meanwhile(world, plug):
        return wrong
    if isinstance(plug, BadDisk):
        plug.mend()
    world.run(AFTER_S)
    core = world.device.core
    if core is None:
        return "the agent ended"
    if world.active != world.made[-1].id:
        return f"the update did not complete on a sound disk: {world.active[:12]} serves"
    if core.degraded:
        return f"it still says: {core.degraded}"
    return f"{core.spool.health.waiting} messages never went" if core.spool.health.waiting else ""


def _meanwhile(world: Alone, plug: Plug) -> str:
    """Return what is wrong while the disk is still bad."""
    core = world.device.core
    if core is None:
        return "the agent ended"
    if world.active not in (world.made[-2].id, world.made[-1].id):
        return f"{world.active[:12] or 'nothing'} serves on the bad disk"
    if not isinstance(plug, BadDisk):
        return ""
    if not plug.failed:
        return "the disk did not fail"
    record = core.memory.records[MODEL]
    complete = world.active == world.made[-1].id and record.trouble is None
    if not complete and not core.degraded and record.trouble is None:
        return "nothing says that the disk is bad"
    return ""
