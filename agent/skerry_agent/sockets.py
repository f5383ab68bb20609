"""Unix sockets by path, however long the path is, and without stepping on a live server's toes."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

_PATH_BYTES = 107  # sockaddr_un holds 108 with the closing zero
MODE = 0o660


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """Give an address for the path that fits sockaddr_un: a long one goes through its opened folder in /proc."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, timeout_s: float | None, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a connection to the server at the path.

    Raises:
        OSError: nobody listens there.
    """
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        made.settimeout(timeout_s)
        with address(path) as where:
            made.connect(where)
    except BaseException:
        made.close()
        raise
    return made


def listen(path: Path, kind: int = socket.SOCK_STREAM, *, backlog: int = 64) -> socket.socket:
    """Return a listening socket at the path, readable and writable for owner and group only.

    A socket that a dead server left behind is replaced.

    Raises:
        OSError: a server listens there already, something else has that name, or the folder cannot be written.
    """
    _remove_stale(path, kind)
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        before = os.umask(0o777 & ~MODE)  # the mode must be right from the first instant; nothing else runs in between
        try:
            with address(path) as where:
                made.bind(where)
        finally:
            os.umask(before)
        made.listen(backlog)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _remove_stale(path: Path, kind: int) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    try:
        connect(path, 1.0, kind).close()
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    raise FileExistsError(f"a server listens at {path} already")
