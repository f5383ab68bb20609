"""Who is at the other end of a local connection, as the kernel says it.

A Unix socket names its peer (unix(7), SO_PEERCRED). For a loopback TCP connection the kernel's table of sockets names
the user who made the other end (proc(5), /proc/net/tcp; a client with a socket for both protocols stands in
/proc/net/tcp6): believed only while that end is established, because the table shows user 0 for one that is closing.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Hashable
from pathlib import Path

_TABLE, _TABLE_6 = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
_OVERFLOW = Path("/proc/sys/kernel/overflowuid")
_ESTABLISHED = "01"
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address in IPv6 (RFC 4291, 2.5.5.2)


class Peer:
    """One connection's other end; asked about when somebody wants to know, and remembered."""

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._connection = connection
        self._told = False
        self._uid: int | None = None
        self._client: Hashable = None

    def speaking_for(self, uid: int | None, client: Hashable) -> Peer:
        """Return this end, asking for a user (None: nobody in particular) and a program that it has told us of."""
        made = Peer(self._connection)
        made._told, made._uid, made._client = True, uid, ("told", client)
        return made

    def client(self) -> Hashable:
        """Return who asks, for taking turns: the process at a Unix socket's other end, else this connection."""
        if self._client is None:
            self._client = id(self)
            if self._connection is not None and self._connection.family == socket.AF_UNIX:
                with contextlib.suppress(OSError, struct.error):
                    self._client = ("process", _credentials(self._connection)[0])
        return self._client

    def hung_up(self) -> bool:
        """Return whether the other end is closed altogether, and not only for writing; a loopback connection does not
        say (a FIN is all that comes of either).
        """
        if self._connection is None or self._connection.family != socket.AF_UNIX:
            return False
        poll = select.poll()
        poll.register(self._connection.fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def uid(self) -> int | None:
        """Return the user's id; None where the kernel does not say, or names nobody in particular."""
        if self._uid is None and self._connection is not None and not self._told:
            with contextlib.suppress(OSError, ValueError, IndexError, struct.error):
                found = _by_kind(self._connection)
                # Users of other namespaces all look like this one: it speaks for nobody.
                self._uid = None if found == int(_OVERFLOW.read_text(encoding="ascii")) else found
        return self._uid


def _by_kind(connection: socket.socket) -> int | None:
    if connection.family == socket.AF_UNIX:
        return _credentials(connection)[1]
    if connection.family != socket.AF_INET:
        return None
    ends = connection.getpeername(), connection.getsockname()
    for table, prefix in ((_TABLE, b""), (_TABLE_6, _MAPPED)):
        wanted = [*(_hex(each, prefix) for each in ends), _ESTABLISHED]
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[1:4] == wanted:
                    return int(fields[7])
    return None


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return the process, user and group at a Unix socket's other end."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", data)
    return int(pid), int(uid), int(gid)


def _hex(address: tuple[str, int], prefix: bytes) -> str:
    """Return an address as the table writes it: every four bytes as one machine word, and the port."""
    packed = prefix + socket.inet_aton(address[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
