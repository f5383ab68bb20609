"""A child for the sandbox that does what its job says: never end, eat memory, fill the disk, crash."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_compiler import sandbox


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


DEEDS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(60),
    "spin": lambda: sum(iter(int, 1)),
    "allocate": lambda: bytearray(2 << 40),
    "fill": fill,
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "mistake": lambda: DEEDS["x"],
    "work": lambda: time.sleep(0.7),
}


def work(job: dict[str, Any], folder: Path) -> str:
    (folder / sandbox.STEP).write_text("drafting for the engine native\n\x1b[2J")
    DEEDS[job["do"]]()
    return "done"


if __name__ == "__main__":
    sys.exit(sandbox.answer(sys.argv, work))
