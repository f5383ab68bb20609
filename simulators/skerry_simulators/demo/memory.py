"""What processes hold, as the kernel counts it: proportional set size, so that shared pages are shared out fairly."""

from __future__ import annotations

import contextlib
from pathlib import Path

KIB = 1024


def pss_bytes(pid: int) -> int:
    """Return a process's proportional set size in bytes; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * KIB
    return 0


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's direct children."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task")
        return [int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()]
    return []
