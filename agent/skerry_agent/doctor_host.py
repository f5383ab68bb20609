"""The doctor's checks of this machine: folder, space, another agent, sandbox, engines, temperature."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry_agent import health, sandbox
from skerry_agent.disk import RealDisk, replace_file
from skerry_agent.engines import catalogue
from skerry_agent.errors import NetworkError
from skerry_agent.findings import Finding, note, well, wrong
from skerry_agent.spawn import import_roots
from skerry_agent.status import ask_status

PROBE_S = 30.0
_PROBE = """
import sys
sys.path[:0] = {roots!r}
from skerry_agent import sandbox
print(sandbox.lock(directories=[], files=[], extra_bytes=64 << 20, threads=1), flush=True)
"""
_OPTION = {
    "rlimits": "setrlimit(2) fails: is the agent itself confined too tightly?",
    "landlock": "the kernel needs 5.13 or later with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= list",
    "capabilities": "capset(2) fails: is the agent itself confined too tightly?",
    "seccomp": "the kernel needs CONFIG_SECCOMP_FILTER, on x86-64 or AArch64",
}


def folder(disk: RealDisk) -> Finding:
    """Write, fsync, rename and remove a small file, as an update does.

    Raises:
        StorageError: one of them failed.
    """
    if not disk.root.is_dir():
        return wrong("folder", f"{disk.root} is not there", "skerry agent enroll, or give the right --root")
    path = f"doctor.{os.getpid()}"
    try:
        disk.write(path, b"skerry")
        disk.fsync(path)
        replace_file(disk, f"./{path}", b"skerry again")
    finally:
        for each in (path, f"{path}.new"):
            if disk.size(each) is not None:
                disk.unlink(each)
    return well("folder", f"{disk.root}: writable, fsync works")


def space(disk: RealDisk, reserve_bytes: int) -> Finding:
    """Compare what is free with what an update must leave.

    Raises:
        StorageError: the file system does not say.
    """
    free = disk.free_bytes()
    says = f"{free // 10**6} MB free, {reserve_bytes // 10**6} MB are kept back from updates"
    if free <= reserve_bytes:
        return wrong("space", says, "free some space: updates are refused until then")
    return well("space", says)


def running(root: Path) -> tuple[Mapping[str, Any] | None, Finding]:
    """Return the status of the agent that runs in this root (None: none answers), and the finding."""
    held = _held(root / "run" / "lock")
    try:
        status = ask_status(root / "run" / "api.sock")
    except NetworkError as error:
        if held:
            hint = "wait a moment; if it stays so, restart it (systemd does by its watchdog)"
            return None, wrong("agent", f"one holds this folder, but does not answer: {error}", hint)
        return None, note("agent", "none runs in this folder", "start it: skerry agent run")
    degraded = status.get("degraded") or {}
    if degraded:
        words = "; ".join(f"{key}: {text}" for key, text in sorted(degraded.items()))
        return status, wrong("agent", f"runs, degraded: {words}", "see the lines below, and docs/agent.md")
    return status, well("agent", f"runs, up {status['uptime_s']:.0f} s")


def _held(path: Path) -> bool:
    """Return whether some agent holds the lock. A shared lock is tried, for an instant: two doctors do not meet."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sandboxed() -> Finding:
    """Lock a process down as a worker is, and say which layers the kernel gave."""
    command = [sys.executable, "-I", "-S", "-c", _PROBE.format(roots=import_roots())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
    layers = done.stdout.strip()
    lacks = sandbox.missing(layers)
    if done.returncode != 0 and not layers:
        words = (done.stderr.strip().splitlines() or ["no words"])[-1]
        return wrong("sandbox", f"a worker cannot be locked down: {words:.160}", "update the agent or the kernel")
    if lacks:
        return note("sandbox", f"{layers}; not here: {', '.join(lacks)}", _OPTION[lacks[0]])
    return well("sandbox", layers)


def engines() -> Finding:
    """Say which engines are here, in which version."""
    found = catalogue.available()
    missing = [name for name in catalogue.ENGINES if name not in found]
    says = ", ".join(f"{name} {version}" for name, version in found.items())
    return well("engines", f"{says}; not here: {', '.join(missing)}" if missing else says)


def temperature(hot_c: float) -> Finding:
    """Compare the hottest sensor with the limit above which the agent does less."""
    found = health.temperature_c()
    if found is None:
        return note("temperature", "this machine has no sensor in /sys/class/thermal")
    says = f"{found:.1f} °C, hot above {hot_c:g}"
    if found >= hot_c:
        return wrong("temperature", says, "cool the device: the agent serves smaller variants meanwhile")
    return well("temperature", says)
