"""A file in which every write and flush is recorded, for a loop device to sit on: dm-log-writes for kernels without it.

Speaks the kernel's FUSE protocol (7.31; linux/fuse.h) on /dev/fuse itself, with no library: one folder with two files.
`disk` is the device, held in memory; what is written to `mark` becomes a mark at this place of the log. One request is
answered after the other, so the log's order is that in which the kernel was told that things were done.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
import traceback
from pathlib import Path

from skerry_simulators import blocklog, mounts
from skerry_simulators.blocklog import MARK_BYTES, Entry, Flush, Mark, Write

DISK, MARK = "disk", "mark"
_ROOT, _DISK, _MARK = 1, 2, 3
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 1, 2, 3, 4, 14, 15, 16
_STATFS, _RELEASE, _FSYNC, _INIT, _INTERRUPT, _DESTROY, _BATCH_FORGET = 17, 18, 20, 26, 36, 38, 42
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_FOPEN_DIRECT_IO = 1
_PAGES = 256
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_READ_IN = struct.Struct("<QQIIQII")
_FOREVER_S = 1 << 30


class Served:
    """The two files, and the answers to requests about them."""

    def __init__(self, base: bytes) -> None:
        self.content = bytearray(base)
        self.log: list[Entry] = []

    def answer(self, code: int, node: int, body: memoryview) -> bytes:
        """Return the answer to one request.

        Raises:
            OSError: to be answered with its number.
        """
        match code:
            case 26:
                offered = struct.unpack_from("<IIII", body)
                flags = offered[3] & (_BIG_WRITES | _MAX_PAGES)
                head = struct.pack("<IIIIHHIIHH", 7, 31, 1 << 17, flags, 16, 12, _PAGES * 4096, 1, _PAGES, 0)
                return head.ljust(64, b"\0")
            case 1:
                node = {DISK.encode(): _DISK, MARK.encode(): _MARK}.get(bytes(body).rstrip(b"\0"), 0)
                if not node:
                    raise OSError(errno.ENOENT, "no such file")
                return struct.pack("<QQQQII", node, 0, _FOREVER_S, _FOREVER_S, 0, 0) + self._attributes(node)
            case 3 | 4:
                return struct.pack("<QII", _FOREVER_S, 0, 0) + self._attributes(node)
            case 14:
                return struct.pack("<QII", 0, _FOPEN_DIRECT_IO if node == _MARK else 0, 0)
            case 15:
                _, offset, size, *_ = _READ_IN.unpack_from(body)
                return bytes(self.content[offset : offset + size]) if node == _DISK else b""
            case 16:
                _, offset, size, *_ = _READ_IN.unpack_from(body)
                self._write(node, offset, bytes(body[_READ_IN.size : _READ_IN.size + size]))
                return struct.pack("<II", size, 0)
            case 20:
                if node == _DISK:
                    self.log.append(Flush())
                return b""
            case 17:
                return bytes(80)
            case 18 | 38:
                return b""
        raise OSError(errno.ENOSYS, "not served")

    def _write(self, node: int, offset: int, data: bytes) -> None:
        if node == _MARK:
            self.log.append(Mark(data[:MARK_BYTES]))
            return
        self.content[offset : offset + len(data)] = data
        self.log.append(Write(offset, data))

    def _attributes(self, node: int) -> bytes:
        size = len(self.content) if node == _DISK else 0
        mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def serve(base: bytes, folder: Path, log: Path) -> int:
    """Mount the two files on a folder, in a process of its own whose id is returned; unmounting ends it.

    It leaves the log at `log`. The caller must be in a mount namespace of its own.

    Raises:
        OSError: no /dev/fuse, or not allowed.
    """
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={descriptor},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0"
        mounts.mount("skerry", folder, "fuse", options)
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _child(base, descriptor, folder, log)
    finally:
        os.close(descriptor)
    return child


def _child(base: bytes, descriptor: int, folder: Path, log: Path) -> None:
    code = 1
    try:
        # Not in the namespace where the device is mounted: were this its last process and killed, the kernel would
        # unmount there, and wait for answers that nobody gives any more.
        mounts.own_namespace()
        mounts.unmount(folder, lazily=True)
        served = Served(base)
        _loop(served, descriptor)
        with log.open("wb") as file:
            blocklog.save(served.log, file)
        code = 0
    except BaseException:  # noqa: BLE001  # a child must never return into the parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _loop(served: Served, descriptor: int) -> None:
    room = bytearray(_PAGES * 4096 + 4096)
    view = memoryview(room)
    while True:
        try:
            size = os.readv(descriptor, [room])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # unmounted
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                continue
            raise
        _, code, unique, node, *_ = _IN.unpack_from(view)
        if code in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            continue
        try:
            said, error_number = served.answer(code, node, view[_IN.size : size]), 0
        except OSError as error:
            said, error_number = b"", -(error.errno or errno.EIO)
        try:
            os.write(descriptor, _OUT.pack(_OUT.size + len(said), error_number, unique) + said)
        except OSError as error:
            if error.errno != errno.ENOENT:  # nobody waits for this answer any more
                raise
