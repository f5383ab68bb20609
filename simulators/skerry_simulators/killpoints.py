"""Kill the process at every durable system call of one update on a real folder, restart it, and look at what is left.

The parent loads everything once and forks a child for each point: the child runs one whole update through the real
core, the real store and the real SQLite ledger, in virtual time. strace kills it at the N-th call that changes the
folder, one run for each of them. Where strace is missing or may not trace, a wrapper of the agent's own Disk and
Ledger ends the process before the N-th operation instead: fewer points, because one commit is one operation there and
several system calls here.

A killed process leaves its writes with the kernel; what a power cut forgets is the simulated disk's business.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skerry_agent.ledger import Change, Row
from skerry_simulators import storage
from skerry_simulators.alone import Alone
from skerry_simulators.catalogue import MODEL
from skerry_simulators.children import run, spawn
from skerry_simulators.errors import SimulatorError
from skerry_simulators.power import Plug

SEED = 1
BEFORE_S, UPDATE_S, AFTER_S = 5.0, 500.0, 2400.0
EARLIER = (2, 3)  # releases installed before, so that the update to the next also removes something
CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,fallocate"
)
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
_PATHED = {"openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"}
JOURNAL = "journal"
ATTACH_S = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What an enumeration found. `how`: strace or wrapper; `calls`: how many points of each kind."""

    how: str
    points: int
    violations: tuple[str, ...]
    calls: dict[str, int]


def enumerate_points(
    progress: Callable[[int, int], None] | None = None, *, strace: bool | None = None, every: int = 1
) -> Outcome:
    """Kill one update at each of its durable operations in turn (or at every n-th), and check the restart.

    `strace` None: use it where it works. Raises SimulatorError where the update does not even end undisturbed.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-kill-") as folder:
        base = Path(folder)
        if problem := run(partial(_provision, base / "new")):
            raise SimulatorError(problem, hint="`skerry sim world` says more")
        usable = _strace_works(base) if strace is None else strace
        points = (_traced_points(base) if usable else _wrapped_points(base))[::every]
        violations = []
        for done, (kind, number) in enumerate(points):
            root = base / "point"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(base / "new", root)
            killed = _kill(root, kind, number, usable)
            problem = run(partial(_recover, root)) if killed else "the process was not killed"
            if problem:
                violations.append(f"{kind} {number}: {problem}")
            if progress is not None:
                progress(done + 1, len(points))
    calls = dict(Counter(kind for kind, _ in points))
    return Outcome("strace" if usable else "wrapper", len(points), tuple(violations), calls)


# What the children do.


class Fuse(Plug):
    """A plug whose pulling ends the process, at once and without a word."""

    def pull(self, last: str) -> None:
        """End the process."""
        os._exit(0)


def _provision(root: Path) -> str:
    """Be the device's maker and its fleet for a while, so that the folder is one of a device in service."""
    (root / "root").mkdir(parents=True)
    world = _world(root)
    world.sequence = 0
    for bundle in world.made[:-1]:
        world.run(BEFORE_S)
        world.offer(bundle)
        world.run(UPDATE_S)
    if world.active != world.made[-2].id:
        return "the device cannot be prepared"
    return ""


def _world(root: Path, last: int | None = None, plug: Plug | None = None) -> Alone:
    """Return the device of a folder, which notes beside the folder what it has made durable and what the fleet has.

    `last`: the process ends before this operation. `plug`: another plug than one that ends the process.
    """
    plug = plug or Fuse()
    kept = storage.real(root / "root", plug)
    if last is not None:
        plug.cut_in(last)
    journal = os.open(root / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    world = Alone(SEED, storage=kept, boot=False)
    for release in (*EARLIER, max(EARLIER) + 1):
        world.invariants.signed_for("lonely", world.make(release).id, downgrade=False)
    world.sequence = len(EARLIER)
    world.invariants.resume("lonely", kept.ledger.load())
    watched = kept.ledger.observer

    def note(**facts: object) -> None:
        os.write(journal, json.dumps(facts).encode() + b"\n")

    def committed(change: Change) -> None:
        if watched is not None:
            watched(change)
        core = world.device.core
        record = core.memory.records.get(MODEL) if core is not None else None
        note(
            added=[row.key for row in change.add],
            floor=record.floor if record is not None else 0,
            sequence=core.memory.sequence if core is not None else 0,
        )

    kept.ledger.observer = committed
    world.on_stored = lambda key: note(stored=key)
    world.device.boot()
    return world


def _update(root: Path, last: int | None = None) -> str:
    """Run one whole update; returns how many operations of disk and ledger it took."""
    world = _world(root, last)
    world.run(BEFORE_S)
    world.offer(world.made[-1])
    world.run(UPDATE_S)
    return str(world.device.plug.operations)


def _recover(root: Path) -> str:
    """Restart on what a kill left, finish the update, and return what is wrong with it; empty: nothing."""
    lines = [json.loads(line) for line in (root / JOURNAL).read_text().splitlines() if line.endswith("}")]
    stored = {(line["stored"][0], line["stored"][1]) for line in lines if "stored" in line}
    added = {(boot, seq) for line in lines for boot, seq in line.get("added", ())}
    floor = max(line.get("floor", 0) for line in lines)
    sequence = max(line.get("sequence", 0) for line in lines)
    world = _world(root)
    core = world.device.core
    if core is None:
        return "the device did not boot"
    kept = {row.key for row in _rows(world)}
    record = core.memory.records[MODEL]
    if missing := added - stored - kept:
        return f"{len(missing)} kept messages are gone, such as {min(missing)}"
    if record.floor < floor or core.memory.sequence < sequence:
        return f"floor {floor} -> {record.floor}, sequence {sequence} -> {core.memory.sequence}"
    world.invariants.stored.setdefault("lonely", set()).update(stored)
    bundle = world.made[-1]
    world.offer(bundle)
    world.run(AFTER_S)
    if world.active != bundle.id:
        return f"the update did not complete: {world.active[:12]} serves"
    if core.spool.health.waiting > 0:
        return f"{core.spool.health.waiting} messages never went"
    return ""


def _rows(world: Alone) -> list[Row]:
    return world.device.ledger.head(1 << 20)


# Where to kill.


def _traced(root: Path, arguments: list[str], action: Callable[[Path], str] | None = None) -> bool:
    """Run the update (or another action) under strace, and wait for its end; return whether it was killed."""
    pid = spawn(partial(action or _update, root), None)
    os.waitpid(pid, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", "-qq", "-p", str(pid), *arguments], stderr=subprocess.DEVNULL)
    try:
        waited_s = 0.0
        while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text() and tracer.poll() is None:
            waited_s += 0.005
            if waited_s > ATTACH_S:
                tracer.kill()
                raise SimulatorError("strace does not attach", hint="look at kernel.yama.ptrace_scope")
            signal.sigtimedwait([], 0.005)
    finally:
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
        tracer.wait()
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _strace_works(base: Path) -> bool:
    if shutil.which("strace") is None:
        return False
    root = base / "try"
    shutil.copytree(base / "new", root)
    _traced(root, ["-o", str(base / "try.log"), "-e", "trace=rename"])
    return (base / "try.log").is_file() and "rename(" in (base / "try.log").read_text()


def _traced_points(base: Path) -> list[tuple[str, int]]:
    """Return (system call, its how-manieth in the process) of every call that changes something below the root."""
    root, log = base / "count", base / "count.log"
    shutil.copytree(base / "new", root)
    _traced(root, ["-y", "-s", "300", "-o", str(log), "-e", f"trace={CALLS}"])
    seen: Counter[str] = Counter()
    found = []
    inside = str(root / "root")
    for line in log.read_text("utf-8", "replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        call, rest = match.groups()
        seen[call] += 1
        if inside in (rest if call in _PATHED else rest.split(",")[0]) and (call != "openat" or "O_CREAT" in rest):
            found.append((call, seen[call]))
    if not found:
        raise SimulatorError("the update changed nothing on the disk", hint="this is a mistake of the benchmark")
    return found


def _wrapped_points(base: Path) -> list[tuple[str, int]]:
    root = base / "count"
    shutil.copytree(base / "new", root)
    return [("operation", number) for number in range(1, int(run(lambda: _update(root))) + 1)]


def _kill(root: Path, kind: str, number: int, strace: bool) -> bool:
    """Run the update to its last operation; return whether that came."""
    if strace:
        return _traced(
            root, ["-o", os.devnull, "-e", f"trace={kind}", "-e", f"inject={kind}:signal=KILL:when={number}"]
        )
    return run(lambda: _update(root, number)) == ""
