"""What the supervisor can say of itself and the machine (/proc, /sys), and to systemd. A missing source is no error."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import socket
from pathlib import Path

_THERMAL = Path("/sys/class/thermal")


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


def trim() -> None:
    """Give memory that start-up used back to the system: 1 MB, or 3 where modules had to be compiled (glibc only)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def notify(address: str | None, state: str) -> None:
    """Tell systemd a state (sd_notify(3)); does nothing where nobody asked (`address`: NOTIFY_SOCKET)."""
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), target)
