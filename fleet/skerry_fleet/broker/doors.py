"""What stands at the broker's door: the listening socket, TLS with certificates, and who is not let in."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

from skerry_fleet.broker.config import BrokerConfig
from skerry_fleet.broker.errors import ConfigurationError, PortTakenError

BACKLOG = 1024  # mosquitto's 100 costs a storm of reconnections a second each


def tls_context(config: BrokerConfig) -> ssl.SSLContext:
    """Return a context that asks every client for a certificate of our authority.

    Raises:
        ConfigurationError: a file is missing or holds no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the look at the certificate, and tickets cost memory.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    try:
        context.load_verify_locations(config.ca)
        context.load_cert_chain(config.certificate, config.key)
    except OSError as error:
        raise ConfigurationError(
            f"{config.ca}, {config.certificate} or {config.key} cannot be used: {error.strerror or error}",
            hint="start the broker through `skerry fleet serve`, which makes them",
        ) from error
    return context


def listen(config: BrokerConfig) -> socket.socket:
    """Return a socket that listens.

    Raises:
        PortTakenError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise PortTakenError(
            f"{config.host}:{config.port} cannot be listened on: {error.strerror}",
            hint="choose another port with --broker-port",
        ) from error
    listener.listen(BACKLOG)
    return listener


def revoked(config: BrokerConfig) -> frozenset[int]:
    """Return the serial numbers of revoked certificates.

    Raises:
        ConfigurationError: the file is there and cannot be read.
    """
    try:
        return frozenset(int(serial, 16) for serial in json.loads(Path(config.revoked).read_bytes()))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{config.revoked} cannot be read: {error}", hint="restore it, or remove it"
        ) from error


def common_name(certificate: object) -> str:
    """Return the one common name of a certificate as `ssl` describes it, empty if there is not exactly one."""
    subject = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    found = [value for group in subject for kind, value in group if kind == "commonName"]
    return found[0] if len(found) == 1 else ""
