"""The broker's sockets: one epoll loop over non-blocking TLS connections, in one thread.

Not asyncio: its TLS layer keeps a read buffer of 256 kB a connection, ours one for all. The hub decides everything;
this file moves bytes.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
from collections.abc import Callable

from skerry_fleet.broker import doors
from skerry_fleet.broker.config import BrokerConfig
from skerry_fleet.broker.errors import ConfigurationError
from skerry_fleet.broker.hub import Hub, Log
from skerry_fleet.broker.session import Session

READ_BYTES = 64 * 1024
READS_A_TURN = 32  # TLS records of one client, before the next client's turn
WRITE_BYTES = 64 * 1024
WRITES_A_TURN = 8
ACCEPTS_A_TURN = 32
LOOK_AROUND_S = 1.0  # between two looks for silent connections; with thousands of them the looks are rarer
LOOK_AROUND_AT_MOST_S = 5.0
LOOKED_AT_A_SECOND = 500

_WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """A socket and, after the TLS handshake, its session."""

    __slots__ = ("expires_s", "mask", "opened_s", "rest", "serial", "session", "sock")

    def __init__(self, sock: ssl.SSLSocket, opened_s: float) -> None:
        self.sock = sock
        self.opened_s = opened_s
        self.session: Session | None = None
        self.rest: memoryview | None = None
        self.mask = select.EPOLLIN
        self.serial = 0
        self.expires_s = 0.0


class Server:
    """The embedded broker. `clock` never goes back (seconds), `wall` is the time of day (seconds since 1970)."""

    def __init__(
        self, config: BrokerConfig, hub: Hub, clock: Callable[[], float], wall: Callable[[], float], log: Log
    ) -> None:
        self._config = config
        self._hub = hub
        self._clock = clock
        self._wall = wall
        self._log = log
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._by_session: dict[Session, Connection] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._stopping = False
        self._accepting = True
        self._now_s = clock()
        self._context = doors.tls_context(config)
        self._revoked = doors.revoked(config)
        self._listener = doors.listen(config)
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def watch(self, descriptor: int, call: Callable[[], None]) -> None:
        """Call a function whenever a descriptor can be read."""
        self._watched[descriptor] = call
        self._epoll.register(descriptor, select.EPOLLIN)

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._stopping = True

    def reload(self) -> None:
        """Read certificates and the list of revoked ones again; connections of revoked ones end now."""
        try:
            self._context = doors.tls_context(self._config)
            self._revoked = doors.revoked(self._config)
        except ConfigurationError as error:
            self._log(f"the new certificates are not taken: {error}")
            return
        for connection in list(self._connections.values()):
            if connection.serial in self._revoked:
                self._close(connection, "its certificate is revoked")

    def run(self) -> None:
        """Serve until `stop`."""
        next_look_s = self._now_s + LOOK_AROUND_S
        listener = self._listener.fileno()
        while not self._stopping:
            idle = not self._connections and self._accepting
            events = self._epoll.poll(-1 if idle else max(0.0, next_look_s - self._clock()))
            self._now_s = self._clock()
            knocking = False
            for descriptor, event in events:
                if (connection := self._connections.get(descriptor)) is not None:
                    self._serve(connection, event)
                elif descriptor == listener:
                    knocking = True
                elif (call := self._watched.get(descriptor)) is not None:
                    call()
            if knocking:  # last, since a new connection may get the number of one that an event above is about
                self._accept()
            self._settle()
            if self._now_s >= next_look_s:
                next_look_s = self._now_s + self._look_around_s()
                self._look_around()
        self._shut()

    def _serve(self, connection: Connection, event: int) -> None:
        if event & (select.EPOLLHUP | select.EPOLLERR) and not event & select.EPOLLIN:
            self._close(connection, "the connection broke")
        elif connection.session is None:
            self._shake_hands(connection)
        else:
            if event & select.EPOLLOUT:
                self._hub.dirty.add(connection.session)
            if event & select.EPOLLIN:
                self._read(connection, connection.session)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                plain, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._log(f"no more connections can be taken for now: {error.strerror}")
                    self._pause_accepting(True)
                    return
                continue  # the client has gone already
            try:
                plain.setblocking(False)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            except OSError:
                plain.close()
                continue
            self._connections[sock.fileno()] = Connection(sock, self._now_s)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _shake_hands(self, connection: Connection) -> None:
        try:
            connection.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._want(connection, select.EPOLLIN)
            return
        except ssl.SSLWantWriteError:
            self._want(connection, select.EPOLLOUT)
            return
        except OSError as error:  # ssl.SSLError is one
            self._close(connection, f"TLS failed: {getattr(error, 'reason', None) or error.strerror or error}")
            return
        self._want(connection, select.EPOLLIN)
        # A client with Nagle's algorithm holds its CONNECT back until we confirm the handshake's last bytes: do it now,
        # not after the 40 ms of a delayed acknowledgement.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        certificate = connection.sock.getpeercert() or {}
        identity = doors.common_name(certificate)
        connection.serial = int(str(certificate.get("serialNumber", "0")), 16)
        connection.expires_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else 0.0
        if connection.serial in self._revoked:
            self._close(connection, f"the certificate of {identity} is revoked")
            return
        connection.session = self._hub.open(identity, self._now_s)
        if connection.session is None:
            self._close(connection, f"a certificate for {identity!r:.80} may not connect")
            return
        self._by_session[connection.session] = connection
        self._read(connection, connection.session)  # the CONNECT may have come with the handshake's last record

    def _read(self, connection: Connection, session: Session) -> None:
        for _ in range(READS_A_TURN):
            try:
                count = connection.sock.recv_into(self._buffer)
            except _WAIT:
                return
            except OSError as error:
                self._close(connection, f"the connection broke: {error.strerror or error}")
                return
            if not count:
                self._close(connection, "the client has gone")
                return
            session.seen_s = self._now_s
            self._hub.receive(session, bytes(self._view[:count]))
            if session.ending or session.waits_for:
                return

    def _settle(self) -> None:
        """Send what the turn has brought about, and end what it has ended; a will may bring about more."""
        hub = self._hub
        hub.settle()
        while hub.dirty:
            for session in [hub.dirty.pop() for _ in range(len(hub.dirty))]:
                if (connection := self._by_session.get(session)) is None:
                    continue
                self._write(connection, session)
                if session.ending:
                    self._close(connection, session.ending)
        while hub.changed_readers:
            session = hub.changed_readers.pop()
            if (connection := self._by_session.get(session)) is not None:
                session.seen_s = self._now_s
                self._want(connection, connection.mask)

    def _write(self, connection: Connection, session: Session) -> None:
        try:
            for _ in range(WRITES_A_TURN):
                if connection.rest is None:
                    if not session.out:
                        break
                    connection.rest = memoryview(session.gather(WRITE_BYTES))
                sent = connection.sock.send(connection.rest)
                session.out_bytes -= sent
                connection.rest = connection.rest[sent:] if sent < len(connection.rest) else None
        except _WAIT:
            pass
        except OSError as error:
            self._close(connection, f"the connection broke: {error.strerror or error}")
            return
        waiting = connection.rest is not None or session.out
        self._want(connection, select.EPOLLIN | select.EPOLLOUT if waiting else select.EPOLLIN)
        self._hub.drained(session)

    def _want(self, connection: Connection, mask: int) -> None:
        if connection.session is not None:
            mask = mask & ~select.EPOLLIN if connection.session.waits_for else mask | select.EPOLLIN
        if mask != connection.mask:
            connection.mask = mask
            self._epoll.modify(connection.sock.fileno(), mask)

    def _close(self, connection: Connection, reason: str) -> None:
        descriptor = connection.sock.fileno()
        if self._connections.pop(descriptor, None) is None:
            return
        self._epoll.unregister(descriptor)
        with contextlib.suppress(OSError):
            connection.sock.close()
        if connection.session is not None:
            del self._by_session[connection.session]
            if connection.session.ending != "it said goodbye":
                self._log(f"{connection.session.identity}: {reason}")
            self._hub.lost(connection.session)
        else:
            self._log(f"a connection was refused: {reason}")
        if not self._accepting:
            self._pause_accepting(False)

    def _pause_accepting(self, pause: bool) -> None:
        if pause == self._accepting:
            self._accepting = not pause
            self._epoll.modify(self._listener.fileno(), 0 if pause else select.EPOLLIN)

    def _look_around_s(self) -> float:
        return min(LOOK_AROUND_AT_MOST_S, max(LOOK_AROUND_S, len(self._connections) / LOOKED_AT_A_SECOND))

    def _look_around(self) -> None:
        """End what has been silent for too long, and what is no longer entitled."""
        if not self._accepting:
            self._pause_accepting(False)
        wall_s = self._wall()
        for connection in list(self._connections.values()):
            session = connection.session
            if session is None or not session.greeted:
                if self._now_s - connection.opened_s > self._config.hello_s:
                    self._close(connection, f"no CONNECT within {self._config.hello_s:g} s")
            elif connection.expires_s < wall_s:
                self._close(connection, "its certificate has expired")
            elif not session.waits_for and self._now_s - session.seen_s > 1.5 * session.keepalive_s:
                self._close(connection, f"silent for more than 1.5 x {session.keepalive_s} s")
        self._settle()

    def _shut(self) -> None:
        self._listener.close()
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()
        self._epoll.close()
