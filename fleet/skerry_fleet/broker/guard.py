"""Become another program that ends when its starter does: `python guard.py PID PROGRAM ARGUMENTS...`.

Run by its path and without the site module, since it lives only a moment before it is replaced. prctl(2),
PR_SET_PDEATHSIG: kept over exec, tied to the thread that started this process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(starter: int, command: list[str]) -> None:
    """Ask for SIGTERM at the starter's death and for as many open files as there may be, then become `command`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one for each connection
    if os.getppid() != starter:  # it has died before we asked
        sys.exit(1)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"skerry: error: {command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
