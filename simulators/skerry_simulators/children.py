"""Forked children: what one does ends with it, and what the parent has loaded is there at once."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


def run(action: Callable[[], str]) -> str:
    """Run an action in a forked child and return what it returned, or the exception that ended it."""
    read, write = os.pipe()
    pid = spawn(action, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return said.decode() if os.WIFEXITED(status) else f"ended by signal {os.WTERMSIG(status)}"


def spawn(action: Callable[[], str], write: int | None) -> int:
    """Fork a child that runs an action and writes what it returns to a descriptor; None: it first stops itself, for a
    tracer. Returns its id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        if write is None:  # to be traced: wait for the tracer
            os.kill(os.getpid(), signal.SIGSTOP)
        said = action()
    except BaseException:  # noqa: BLE001  # a child must never return into the parent's code
        said = traceback.format_exc().strip().splitlines()[-1]
    if write is not None and said:
        os.write(write, said.encode())
    os._exit(0)
