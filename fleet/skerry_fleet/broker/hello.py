"""One short visit to a broker: connect, hear its answer to CONNECT, leave. Blocking, for start-up and revocation."""

from __future__ import annotations

import socket
import ssl

from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.client import tls_context
from skerry_fleet.mqtt.errors import ConnectionLostError
from skerry_fleet.trust.credentials import Credentials


def say_hello(host: str, port: int, credentials: Credentials, client_id: str, timeout_s: float) -> int:
    """Return the broker's answer to CONNECT (0 is yes). A standing connection of the same client ends by it.

    Raises:
        ConnectionLostError: no connection, TLS failed, or no answer in time.
    """
    context = tls_context(str(credentials.ca), str(credentials.certificate), str(credentials.key))
    decoder = codec.Decoder(packets.TO_CLIENT, 1024)
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(codec.encode(packets.Connect(client_id, 30)))
                while data := sock.recv(1024):
                    for packet in decoder.feed(data):
                        if isinstance(packet, packets.Connack):
                            sock.sendall(codec.DISCONNECT_BYTES)
                            return packet.code
    except ssl.SSLError as error:
        raise ConnectionLostError(f"TLS with {host}:{port} failed: {error.reason or error}") from error
    except OSError as error:
        raise ConnectionLostError(f"no connection to {host}:{port}: {error.strerror or error}") from error
    raise ConnectionLostError(f"{host}:{port} ended the connection without an answer to CONNECT")
