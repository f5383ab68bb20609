"""System shared memory that local programs registered: tensors in and out without a way through a socket.

Source: Triton's protocol/extension_shared_memory.md.

A region is never mapped here. Its owner may cut it short at any time, and touching a mapped page that is gone would
kill the supervisor with SIGBUS; pread(2) then just returns fewer bytes. The one copy it makes is also what a sample and
a sketch see, whatever the owner writes meanwhile.

Who may name what: only regular files directly in /dev/shm that belong to the asking user (root may name any), opened
without following links, with the agent's own rights: another user's agent needs the file's group. A registered name is
visible to the user who registered it and to nobody else.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import stat
from pathlib import Path
from typing import Any, TypeGuard

from skerry_agent.errors import RequestError
from skerry_agent.peers import Peer

FOLDER = Path("/dev/shm")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
_KEY = re.compile(r"/?([!-.0-~]{1,250})")  # printable ASCII without the slash
_REASONS = {
    errno.ENOENT: "there is no such file in /dev/shm",
    errno.ELOOP: "it is a link",
    errno.EACCES: "the agent may not open it",
    errno.EBADF: "it was unregistered meanwhile",
}


@dataclasses.dataclass(frozen=True, slots=True)
class RegionLimits:
    """How much all local programs together may register: the bytes are those of the files behind the regions."""

    regions: int = 64
    size_bytes: int = 256 * 1024 * 1024


@dataclasses.dataclass(slots=True)
class Region:
    """A registered part of a file. `offset` is where it begins in the file; `fd` is -1 once it is forgotten.

    An inference may still hold a forgotten region: its number must then mean no other file.
    """

    name: str
    key: str
    offset: int
    size_bytes: int
    fd: int
    writable: bool

    def close(self) -> None:
        """Forget the file."""
        fd, self.fd = self.fd, -1
        os.close(fd)

    def part(self, offset: Any, size: Any) -> Part:
        """Return a part of the region.

        Raises:
            RequestError: 400, not within the region.
        """
        if not (_whole(offset) and _whole(size) and size > 0 and offset + size <= self.size_bytes):
            raise RequestError(
                f"offset {offset!r:.24} and size {size!r:.24} are not within region {self.name!r}: "
                f"it has {self.size_bytes} bytes"
            )
        return Part(self, offset, size)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Where one tensor lies in a region."""

    region: Region
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """Return the bytes as they are now.

        Raises:
            RequestError: 400, the file was cut short, or cannot be read.
        """
        region = self.region
        try:
            data = os.pread(region.fd, self.size_bytes, region.offset + self.offset)
        except OSError as error:
            raise RequestError(f"region {region.name!r} cannot be read: {_reason(error)}") from error
        if len(data) != self.size_bytes:
            raise _shorter(region)
        return data

    def write(self, data: bytes) -> None:
        """Put bytes there.

        Raises:
            RequestError: 400, the file was cut short, or cannot be written.
        """
        region, begin = self.region, self.region.offset + self.offset
        try:
            if os.fstat(region.fd).st_size < begin + len(data):
                raise _shorter(region)
            written = os.pwrite(region.fd, data, begin)
        except OSError as error:
            raise RequestError(f"region {region.name!r} cannot be written: {_reason(error)}") from error
        if written != len(data):
            raise _shorter(region)


class Regions:
    """Everything that is registered, by user and name."""

    def __init__(self, limits: RegionLimits | None = None, folder: Path = FOLDER) -> None:
        self._limits = limits or RegionLimits()
        self._folder = folder
        self._found: dict[tuple[int, str], Region] = {}

    def close(self) -> None:
        """Forget every region."""
        for region in self._found.values():
            region.close()
        self._found.clear()

    def register(self, name: str, document: Any, peer: Peer) -> None:
        """Take a region up.

        Raises:
            RequestError: 400, with what is wrong; 403, the kernel does not say whose request this is.
        """
        uid = _uid(peer)
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"{name!r:.80} is no region's name", hint="1 to 64 letters, digits and _ . : -, not . : - first"
            )
        if not isinstance(document, dict):
            raise RequestError("the request must be a JSON object")
        key, offset, size = document.get("key"), document.get("offset", 0), document.get("byte_size")
        matched = _KEY.fullmatch(key) if isinstance(key, str) else None
        if matched is None or matched[1] in (".", ".."):
            raise RequestError(f"{key!r:.80} is no key", hint="the name of a file in /dev/shm, as shm_open(3) takes it")
        if not (_whole(offset) and _whole(size) and size > 0):
            raise RequestError("'offset' and 'byte_size' must be whole numbers of bytes, 'byte_size' at least 1")
        if (uid, name) in self._found:
            raise RequestError(f"region {name!r} is registered already", hint="unregister it first")
        self._found[uid, name] = self._open(name, matched[0], matched[1], offset, size, uid)

    def unregister(self, name: str | None, peer: Peer) -> None:
        """Forget a region, or with None all of the asking user; one that is not there is no error (as in Triton)."""
        uid = _uid(peer)
        for place in [place for place in self._found if place[0] == uid and name in (None, place[1])]:
            self._found.pop(place).close()

    def status(self, name: str | None, peer: Peer) -> list[dict[str, Any]]:
        """Return the asking user's regions, or one of them.

        Raises:
            RequestError: 404, no region of that name.
        """
        uid = _uid(peer)
        found = (
            [self.find(name, peer)]
            if name is not None
            else [each for (of, _), each in self._found.items() if of == uid]
        )
        return [
            {"name": each.name, "key": each.key, "offset": each.offset, "byte_size": each.size_bytes} for each in found
        ]

    def find(self, name: Any, peer: Peer) -> Region:
        """Return a region that the asking user registered.

        Raises:
            RequestError: 404, no region of that name.
        """
        region = self._found.get((_uid(peer), name)) if isinstance(name, str) else None
        if region is None:
            raise RequestError(
                f"no region is called {name!r:.80}",
                status=404,
                hint="POST /v2/systemsharedmemory/region/NAME/register, as the same user",
            )
        return region

    def _open(self, name: str, key: str, file: str, offset: int, size: int, uid: int) -> Region:
        try:
            fd, writable = _open(self._folder / file)
        except OSError as error:
            raise RequestError(
                f"{key!r} cannot be opened: {_reason(error)}",
                hint="a regular file of yours in /dev/shm that the agent's user or group may read and write",
            ) from error
        try:
            said = os.fstat(fd)
            self._check(key, said, uid)
            if offset + size > said.st_size:
                raise RequestError(f"{key!r} has {said.st_size} bytes, not {size} from {offset} on")
            self._make_room(said.st_size)
        except BaseException:
            os.close(fd)
            raise
        return Region(name, key, offset, size, fd, writable)

    def _check(self, key: str, said: os.stat_result, uid: int) -> None:
        if not stat.S_ISREG(said.st_mode) or said.st_dev != self._folder.stat().st_dev:
            raise RequestError(f"{key!r} is no regular file of /dev/shm")
        if uid not in (0, said.st_uid):
            raise RequestError(f"{key!r} belongs to another user", status=403, hint="let its owner register it")

    def _make_room(self, size_bytes: int) -> None:
        """Forget regions whose file has lost its name, where there is no room otherwise.

        Raises:
            RequestError: 400, there is none.
        """
        said = {place: os.fstat(region.fd) for place, region in self._found.items()}
        for place in [*(place for place, each in said.items() if each.st_nlink == 0), None]:
            used = sum(each.st_size for each in said.values())
            if len(said) < self._limits.regions and used + size_bytes <= self._limits.size_bytes:
                return
            if place is not None:
                self._found.pop(place).close()
                del said[place]
        raise RequestError(
            f"no room: {len(said)} regions with {used} bytes are registered, at most {self._limits.regions} with "
            f"{self._limits.size_bytes} are taken",
            hint="unregister some",
        )


def _open(path: Path) -> tuple[int, bool]:
    """Return a descriptor, and whether it can be written; O_NONBLOCK: a pipe must not hold the supervisor up."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        return os.open(path, os.O_RDWR | flags), True
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags), False


def _uid(peer: Peer) -> int:
    uid = peer.uid()
    if uid is None:
        raise RequestError(
            "whose request this is cannot be told, so no memory is shared", status=403, hint="use the Unix socket"
        )
    return uid


def _whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 62


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or "")


def _shorter(region: Region) -> RequestError:
    return RequestError(f"region {region.name!r} was cut short: its file is smaller than what was registered")
