"""Retained messages on disk: a file that is only appended to, and written anew when most of it is past.

A record is `crc32 u32 | size u32 | qos u8 | topic length u16 | topic | payload`, big-endian; the CRC covers what
follows it. An empty payload clears the topic. Appended records survive the end of the process (kill -9); a power cut
may take the last seconds, and the fleet publishes its assignments again whenever it meets a broker that has restarted.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from skerry_fleet.trust import durable

_HEAD = struct.Struct(">II")
_BODY = struct.Struct(">BH")
COMPACT_AT_BYTES = 4 * 1024 * 1024  # and when less than a quarter of the file is still true


class Kept(NamedTuple):
    """A retained message."""

    topic: str
    payload: bytes
    qos: int


class Journal:
    """The retained messages of one broker. One writer; `append` gathers, `flush` writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gathered: list[bytes] = []
        self._file: int | None = None
        self._size_bytes = 0
        self._live: dict[str, int] = {}
        self._live_bytes = 0

    def load(self) -> dict[str, Kept]:
        """Return what the file holds; a torn or damaged end is cut off."""
        kept: dict[str, Kept] = {}
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b""
        for each, stop in _records(data):
            self._size_bytes = stop
            self._count(each)
            if each.payload:
                kept[each.topic] = each
            else:
                kept.pop(each.topic, None)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, self._size_bytes)
        os.lseek(self._file, 0, os.SEEK_END)
        return kept

    def append(self, kept: Kept) -> None:
        """Note a retained message, or with an empty payload that there is none any more."""
        self._gathered.append(_record(kept))
        self._count(kept)

    def flush(self) -> None:
        """Hand everything noted to the operating system.

        Raises:
            OSError: the disk is full or failing; what was noted stays noted, for the next call.
        """
        if not self._gathered or self._file is None:
            return
        data = b"".join(self._gathered)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            os.ftruncate(self._file, self._size_bytes)  # half a record would hide all that follow
            os.lseek(self._file, 0, os.SEEK_END)
            raise
        self._size_bytes += len(data)
        self._gathered.clear()

    @property
    def overgrown(self) -> bool:
        """Whether it is time to write the file anew."""
        return self._size_bytes > COMPACT_AT_BYTES and self._live_bytes * 4 < self._size_bytes

    def compact(self, kept: Iterable[Kept]) -> None:
        """Write the file anew with just these messages, durably and in one step."""
        data = b"".join(_record(each) for each in kept)
        durable.write_file(self._path, data, 0o600)
        self._gathered.clear()
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size_bytes = self._live_bytes = len(data)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _count(self, kept: Kept) -> None:
        self._live_bytes -= self._live.pop(kept.topic, 0)
        if kept.payload:
            self._live[kept.topic] = _HEAD.size + _BODY.size + len(kept.topic) + len(kept.payload)
            self._live_bytes += self._live[kept.topic]


def _record(kept: Kept) -> bytes:
    topic = kept.topic.encode("utf-8")
    rest = _BODY.pack(kept.qos, len(topic)) + topic + kept.payload
    size = len(rest).to_bytes(4, "big")
    return _HEAD.pack(zlib.crc32(size + rest), len(rest)) + rest


def _records(data: bytes) -> Iterator[tuple[Kept, int]]:
    """Yield each whole record and where it ends; stop at the first that is torn or damaged."""
    start = 0
    while start + _HEAD.size <= len(data):
        check, size = _HEAD.unpack_from(data, start)
        stop = start + _HEAD.size + size
        rest = data[start + _HEAD.size : stop]
        if stop > len(data) or size < _BODY.size or zlib.crc32(data[start + 4 : stop]) != check:
            return
        qos, length = _BODY.unpack_from(rest)
        topic_end = _BODY.size + length
        try:
            yield Kept(rest[_BODY.size : topic_end].decode("utf-8"), rest[topic_end:], qos), stop
        except UnicodeDecodeError:
            return
        start = stop
