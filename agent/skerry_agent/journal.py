"""Where log lines go: the journal's native socket where systemd started us, else standard error.

The native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) in a few lines: fields as NAME=value, or NAME, the length and
the bytes where a value has several lines. No library, no thread, never blocking: a line that the journal does not take
is lost, and the agent goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
IDENTIFIER = "skerry-agent"
MAX_VALUE_BYTES = 32 * 1024  # far below what a datagram may hold, far above what a line should

_PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


class JournalHandler(logging.Handler):
    """Sends records to the journal; `extra={"skerry_model": name}` becomes the field SKERRY_MODEL."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Connect.

        Raises:
            OSError: no journal listens there.
        """
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._socket.send(encode(fields(record, self.format(record))))
        except (OSError, ValueError):
            return  # a full or absent journal must not cost a device its service

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def fields(record: logging.LogRecord, message: str) -> dict[str, str]:
    """Return the journal's fields of a record."""
    found = {
        "MESSAGE": message,
        "PRIORITY": str(next((number for level, number in _PRIORITY if record.levelno >= level), _DEBUG)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    more = {name.upper(): str(value) for name, value in vars(record).items() if name.startswith("skerry_")}
    return {**found, **more}


def encode(values: Mapping[str, str]) -> bytes:
    """Return fields in the native protocol.

    >>> encode({"MESSAGE": "up", "MORE": "a\\nb"})
    b'MESSAGE=up\\nMORE\\n\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00a\\nb\\n'
    """
    parts = []
    for name, value in values.items():
        data = value.encode("utf-8", "replace")[:MAX_VALUE_BYTES]
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def started_by_systemd(stream: str | None) -> bool:
    """Return whether standard error is the journal's own (`stream`: JOURNAL_STREAM, as systemd.exec(5) says)."""
    try:
        device, _, inode = (stream or "").partition(":")
        found = os.fstat(sys.stderr.fileno())
        return (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


def begin(level: str, stream: str | None, path: Path = SOCKET) -> None:
    """Set up logging for a daemon, once."""
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    if started_by_systemd(stream):
        with contextlib.suppress(OSError):  # the journal takes standard error as well, only without fields
            handler = JournalHandler(path)
    logging.basicConfig(level=LEVELS[level], handlers=[handler])
