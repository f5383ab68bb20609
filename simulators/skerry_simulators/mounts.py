"""Loop devices and mounts by system calls, in a mount namespace of one's own: what a killed process leaves, the kernel
takes away. Linux, and root.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import tempfile
import time
from pathlib import Path

from skerry_simulators.children import run

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_MNT_DETACH = 2
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_CLR_FD = 0x4C82, 0x4C0A, 0x4C01
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_MAJOR = 7
# linux/loop.h: struct loop_config is fd, block size, struct loop_info64 (flags after 52 bytes), 64 bytes for later
_LOOP_CONFIG = struct.Struct("<II 52x I 176x 64x")
_TRIES = 50

_libc = ctypes.CDLL(None, use_errno=True)


def own_namespace() -> None:
    """Let this process's mounts be its own, and its children's.

    Raises:
        OSError: not root, or not allowed.
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")


def missing() -> str:
    """Return what keeps this process from mounting images and recording devices; empty: nothing."""
    if os.geteuid() != 0:
        return "block images need root (loop devices, mounts)"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(path, os.R_OK | os.W_OK):
            return f"block images need {path}"
    wrong = run(_try)
    return f"block images need mounts and loop devices ({wrong})" if wrong else ""


def _try() -> str:
    """Do both, as a process of its own."""
    own_namespace()
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(1 << 16)
        file.flush()
        Loop(Path(file.name)).close()
    return ""


def mount(source: str, target: Path, kind: str, options: str = "") -> None:
    """Mount a file system.

    Raises:
        OSError: it cannot be mounted.
    """
    _check(_libc.mount(source.encode(), os.fsencode(target), kind.encode(), 0, options.encode()), f"mount {target}")


def unmount(target: Path, *, lazily: bool = False) -> None:
    """Unmount; waits a little for what still holds it.

    Raises:
        OSError: it is still in use.
    """
    for attempt in range(_TRIES):
        if _libc.umount2(os.fsencode(target), _MNT_DETACH if lazily else 0) == 0:
            return
        if ctypes.get_errno() != errno.EBUSY or attempt == _TRIES - 1:
            _check(-1, f"umount {target}")
        time.sleep(0.02)


class Loop:
    """A file as a block device, until `close`; its last user's end frees it, too."""

    def __init__(self, file: Path) -> None:
        """Attach.

        Raises:
            OSError: there are no loop devices here, or the file cannot be opened.
        """
        backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._descriptor, self.path = _configure(backing)
        finally:
            os.close(backing)

    def close(self) -> None:
        """Detach."""
        if self._descriptor >= 0:
            fcntl.ioctl(self._descriptor, _LOOP_CLR_FD)
            os.close(self._descriptor)
            self._descriptor = -1


def _configure(backing: int) -> tuple[int, str]:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            if not Path(path).exists():
                os.mknod(path, 0o600 | 0o060000, os.makedev(_LOOP_MAJOR, number))
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(backing, 512, _LO_FLAGS_AUTOCLEAR))
                return device, path
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # somebody else was faster
                    raise
        raise OSError(errno.EBUSY, "no loop device is free")
    finally:
        os.close(control)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
