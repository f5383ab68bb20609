"""What a block device was told, in order: writes, flushes, and marks of whoever uses it.

Read and written in the format of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst,
`replay-log` of xfstests): a sector with the head, then for each entry a sector that describes it and its data. QEMU's
`blklogwrites` writes the same. Integers are little-endian; a sector has 512 bytes here.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from skerry_simulators.errors import SimulatorError

SECTOR = 512
_MAGIC, _VERSION = 0x6A736677736872, 1
_HEAD = struct.Struct("<QQQI")  # magic, version, entries, bytes a sector
_ENTRY = struct.Struct("<QQQQ")  # first sector, sectors, flags, bytes of a mark
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8
MARK_BYTES = SECTOR - _ENTRY.size


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """Bytes at a byte offset, both in whole sectors. `through`: durable when it returned (FUA)."""

    at: int
    data: bytes
    through: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Flush:
    """Everything written before is durable."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A piece of what the device's user says of itself."""

    data: bytes


Entry = Write | Flush | Mark
Fact = dict[str, Any]


def save(log: Iterable[Entry], file: BinaryIO) -> int:
    """Write a log; returns the number of entries."""
    file.seek(SECTOR)
    count = 0
    for each in log:
        count += 1
        match each:
            case Write(at=at, data=data, through=through):
                sectors = len(data) // SECTOR
                _put(file, _ENTRY.pack(at // SECTOR, sectors, _FUA if through else 0, 0))
                file.write(data)
            case Flush():
                _put(file, _ENTRY.pack(0, 0, _FLUSH, 0))
            case Mark(data=data):
                _put(file, _ENTRY.pack(0, 0, _MARK, len(data)) + data)
    end = file.tell()
    file.seek(0)
    _put(file, _HEAD.pack(_MAGIC, _VERSION, count, SECTOR))
    file.seek(end)
    return count


def load(path: Path) -> list[Entry]:
    """Return a log's entries. One that its writer was killed over ends where the entries end, whatever its head says.

    Raises:
        SimulatorError: not such a log, or one of other sectors.
    """
    with path.open("rb") as file:
        return list(_read(file, path))


def _read(file: BinaryIO, path: Path) -> Iterator[Entry]:
    head = file.read(SECTOR)
    magic, version, _, sector = _HEAD.unpack_from(head.ljust(_HEAD.size, b"\0"))
    if (magic, version, sector) != (_MAGIC, _VERSION, SECTOR):
        raise SimulatorError(f"{path} is no log of writes in sectors of {SECTOR}", hint="record it again")
    while len(described := file.read(SECTOR)) == SECTOR:
        at, sectors, flags, size = _ENTRY.unpack_from(described)
        if not (sectors or flags):
            return  # the file was made long before it was filled
        if flags & _MARK:
            yield Mark(described[_ENTRY.size : _ENTRY.size + size])
            continue
        if flags & _FLUSH:
            yield Flush()
        if flags & _DISCARD:
            raise SimulatorError(f"{path} has a discard", hint="mount without discard while recording")
        if sectors:
            data = file.read(sectors * SECTOR)
            if len(data) < sectors * SECTOR:
                return
            yield Write(at * SECTOR, data, bool(flags & _FUA))


def _put(file: BinaryIO, data: bytes) -> None:
    file.write(data.ljust(SECTOR, b"\0"))


def marks(fact: Fact) -> list[bytes]:
    """Return a fact as the pieces that fit one mark each."""
    line = json.dumps(fact, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    return [line[at : at + MARK_BYTES] for at in range(0, len(line), MARK_BYTES)]


def facts(log: Iterable[Entry]) -> Iterator[tuple[int, Fact]]:
    """Yield the facts that the marks spell, each with the position of its last mark."""
    held = b""
    for position, entry in enumerate(log):
        if isinstance(entry, Mark):
            held += entry.data
            if held.endswith(b"\n"):
                yield position, json.loads(held)
                held = b""
