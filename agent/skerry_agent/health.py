"""What the supervisor can say of itself and the machine (/proc, /sys), and to systemd. A missing source is no error."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import socket
import time
from pathlib import Path

from skerry_contracts.device import Reason

_THERMAL = Path("/sys/class/thermal")
_POWER = Path("/sys/class/power_supply")
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
SHORT_SHARE = 0.05  # of the memory: with less available the kernel begins to end processes
MODELS_SHARE = 0.5  # of the memory, where no budget is set


def rss_bytes() -> int:
    """Return this process's resident memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def temperature_c(thermal: Path = _THERMAL) -> float | None:
    """Return the hottest thermal zone in degrees Celsius; None where there is none."""
    found = []
    for zone in sorted(thermal.glob("thermal_zone*/temp")):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
    return max((each for each in found if -40 <= each <= 150), default=None)


def battery(power: Path = _POWER) -> float | None:
    """Return what is left of the emptiest battery that discharges, from 0 to 1; None where none does.

    Source: the kernel's Documentation/ABI/testing/sysfs-class-power (type, status, capacity in percent).
    """
    found = []
    for supply in sorted(power.glob("*")):
        with contextlib.suppress(OSError, ValueError):
            kind, status = (_word(supply / name) for name in ("type", "status"))
            if kind == "Battery" and status == "Discharging":
                found.append(int(_word(supply / "capacity")) / 100)
    return min((each for each in found if 0 <= each <= 1), default=None)


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken, all threads together; 0 where it is gone.

    The clock's number is clock_getcpuclockid(3)'s, as the kernel makes it (linux/posix-timers.h, CPUCLOCK_SCHED).
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def memory_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the memory this process may use: the machine's, or less where a control group says so; 0: unknown.

    Source: the kernel's cgroup-v2.rst, memory.max, which binds in every group above as well.
    """
    found = [_meminfo(proc).get("MemTotal", 0)]
    try:
        own = (proc / "self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        own = []
    group = next((line.removeprefix("0::/") for line in own if line.startswith("0::/")), None)
    if group is not None:
        here = cgroups / group
        for folder in [here, *here.parents][: len(Path(group).parts) + 1]:
            with contextlib.suppress(OSError, ValueError):
                found.append(int((folder / "memory.max").read_text(encoding="ascii")))
    return min((each for each in found if each > 0), default=0)


def available_share(proc: Path = _PROC) -> float:
    """Return which share of the machine's memory programs can still have (MemAvailable); 1 where it does not say."""
    found = _meminfo(proc)
    total = found.get("MemTotal", 0)
    return found["MemAvailable"] / total if total and "MemAvailable" in found else 1.0


def memory_short() -> bool:
    """Return whether so little is available that the kernel may end whatever begins to load."""
    return available_share() < SHORT_SHARE


def blameless(reason: Reason) -> bool:
    """Return whether a worker that ended so had no room, or may have been ended because memory is short."""
    return reason is Reason.UNFIT or (reason in (Reason.LOAD, Reason.CRASHED) and memory_short())


def _word(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _meminfo(proc: Path) -> dict[str, int]:
    """Return the sizes of /proc/meminfo in bytes."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[1] == "kB":
                found[name] = int(words[0]) * 1024
    return found


def trim() -> None:
    """Give memory that start-up used back to the system: 1 MB, or 3 where modules had to be compiled (glibc only).

    What start-up made stays for good; the collector then no longer looks through all of it, for 5 ms and more, while
    inferences wait.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def notify(address: str | None, state: str) -> None:
    """Tell systemd a state (sd_notify(3)); does nothing where nobody asked (`address`: NOTIFY_SOCKET)."""
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), target)
