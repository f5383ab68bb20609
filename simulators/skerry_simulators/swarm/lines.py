"""Sockets of very many clients: opened without waiting, from many addresses, with TLS where it is asked for."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

BIND_LATE = 24  # IP_BIND_ADDRESS_NO_PORT: the kernel picks the port at connect, by the whole four-tuple
SOURCES = 16  # 127.0.1.1 and on: each brings 28 000 ports


class Broken(Exception):
    """A connection has ended, or could not be made."""


def open_line(port: int, number: int) -> int:
    """Return the descriptor of a socket that is on its way to a port of this machine."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_IP, BIND_LATE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((f"127.0.1.{number % SOURCES + 1}", 0))
    try:
        sock.connect(("127.0.0.1", port))
    except BlockingIOError:
        pass
    except OSError as error:
        sock.close()
        raise Broken(str(error)) from error
    return sock.detach()


class Secure:
    """TLS over a descriptor, one step at a time."""

    def __init__(self, fd: int, credentials: Sequence[str]) -> None:
        ca, certificate, key = credentials
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)  # Python's own idea of it, which a descriptor does not bring along
        self._sock = context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)

    def shake(self) -> bool | None:
        """Go on with the handshake: True when done, else whether it waits to read (None) or to write (False)."""
        try:
            self._sock.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            return False
        except OSError as error:
            raise Broken(str(error)) from error

    def read(self) -> bytes:
        """Return what has come; empty where nothing has."""
        taken = []
        try:
            while data := self._sock.recv(65536):
                taken.append(data)
            if not taken:
                raise Broken("the broker ended the connection")
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            raise Broken(str(error)) from error
        return b"".join(taken)

    def write(self, data: bytes) -> int:
        """Send some of the bytes; return how many."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise Broken(str(error)) from error

    def close(self) -> None:
        """End without a word."""
        self._sock.close()
