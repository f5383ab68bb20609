"""The doctor's checks of what ties this device to its fleet: identity, HTTP and MQTT, each with the real trust."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any

from skerry_agent import identity
from skerry_agent.clock import system_rng
from skerry_agent.disk import RealDisk
from skerry_agent.errors import NetworkError
from skerry_agent.findings import Finding, note, well, wrong
from skerry_agent.ledger import Key
from skerry_agent.link import Link, tls_context
from skerry_contracts import codec, names
from skerry_contracts.device import Presence
from skerry_contracts.enrolment import Trust
from skerry_contracts.errors import ContractError

ANSWER_S = 10.0
DAY_S = 86400.0
SOON = 0.2  # of a certificate's life: by then a renewal should have come


def credentials(disk: RealDisk, now_s: float) -> Finding:
    """Check that the key is the certificate's, and how long the certificate lives.

    Raises:
        ConfigError: not enrolled, or a damaged file.
    """
    from skerry_agent.trust.renew import inspect

    found = identity.load(disk)
    identity.load_trust(disk)
    again = "enrol again with a new claim token: skerry agent enroll"
    data = disk.read(identity.CREDENTIALS)
    if data is None:
        return wrong("identity", f"{identity.CREDENTIALS} is missing", again)
    life, matches = inspect(data)
    who = f"{found.enrolment.tenant}/{found.enrolment.device}"
    end = time.strftime("%Y-%m-%d", time.gmtime(life.expires_s))
    if not matches:
        return wrong("identity", f"{who}: the key is not the certificate's", again)
    if now_s >= life.expires_s:
        return wrong("identity", f"{who}: the certificate ended on {end}", again)
    says = f"{who}, key fits, certificate to {end} ({(life.expires_s - now_s) / DAY_S:.0f} days)"
    if now_s > life.expires_s - SOON * (life.expires_s - life.begins_s):
        return note("identity", says, "the renewal is overdue: is the fleet reachable?")
    return well("identity", says)


def reached(disk: RealDisk) -> Finding:
    """Ask the fleet's HTTP side for its trust document, and compare it with what this device believes.

    Raises:
        ConfigError: not enrolled.
        NetworkError: it cannot be reached.
    """
    from skerry_agent.trust.transfer import Fleet

    found, trust = identity.load(disk), identity.load_trust(disk)
    fleet = Fleet(found.fleet, ca_pem=trust.ca_pem, timeout_s=ANSWER_S)
    try:
        theirs = codec.decode(Trust, fleet.get("/device/v1/trust"))
    except NetworkError as error:
        return wrong("fleet", str(error), "is the fleet up, and this network a way to it?")
    except ContractError as error:
        return wrong("fleet", f"{found.fleet} is no fleet: {error}", "is this still the fleet's address?")
    finally:
        fleet.close()
    if (theirs.tenant, theirs.ca_pem) != (trust.tenant, trust.ca_pem):
        return wrong("fleet", f"{found.fleet} is another fleet than this device's", "enrol again, or restore the fleet")
    return well("fleet", f"{found.fleet} answers, and is this device's fleet")


def linked(disk: RealDisk, status: Mapping[str, Any] | None) -> Finding:
    """Check the broker: by the running agent's own session, else by one of this device that ends at once.

    Raises:
        ConfigError: not enrolled.
        NetworkError: the device's certificate cannot be read.
    """
    enrolment = identity.load(disk).enrolment
    where = f"{enrolment.broker_host}:{enrolment.broker_port}"
    context = tls_context(disk.root / identity.AUTHORITY, disk.root / identity.CREDENTIALS)
    hint = "is the broker up, and this network a way to it?"
    try:
        with (
            socket.create_connection((enrolment.broker_host, enrolment.broker_port), ANSWER_S) as plain,
            context.wrap_socket(plain, server_hostname=enrolment.broker_host) as secured,
        ):
            spoken = secured.version()
    except ssl.SSLError as error:
        return wrong("link", f"{where}: {error.reason or error}", "is this the fleet's broker? else enrol again")
    except OSError as error:
        return wrong("link", f"{where}: {error.strerror or error}", hint)
    if status is not None:
        if status.get("online"):
            return well("link", f"{where} ({spoken}), the agent's session stands")
        trouble = (status.get("trouble") or {}).get("link", "no session yet")
        return wrong("link", f"{where} answers, but the agent is offline: {trouble}", hint)
    trouble = asyncio.run(_session(enrolment.tenant, enrolment.device, where, context))
    if trouble:
        return wrong("link", trouble, "does the fleet still know this device? else enrol again")
    return well("link", f"{where} ({spoken}) takes this device's certificate")


class _Visitor:
    """A session that only looks whether it stands. Its will is true as well: no agent runs on this device."""

    def __init__(self) -> None:
        self.stood = asyncio.Event()

    def will(self) -> bytes:
        return codec.encode(Presence(names.new_boot_id(0, bytes(4)), 0, online=False))

    def connected(self) -> None:
        self.stood.set()

    def message(self, channel: str, payload: bytes) -> None:
        """Leave everything to the agent: it is told again."""

    def disconnected(self, unconfirmed: tuple[Key, ...]) -> None:
        """Nothing was sent."""


async def _session(tenant: str, device: str, where: str, context: ssl.SSLContext) -> str:
    """Return why no session stands; empty where one did."""
    host, _, port = where.rpartition(":")
    link = Link(
        host=host, port=int(port), tenant=tenant, device=device, keepalive_s=10, retry_max_s=2.0, rng=system_rng()
    )
    visitor = _Visitor()
    task = asyncio.ensure_future(link.run(lambda: context, visitor))
    try:
        async with asyncio.timeout(ANSWER_S):
            await visitor.stood.wait()
        return ""
    except TimeoutError:
        return link.trouble or f"{where}: no session within {ANSWER_S:g} s"
    finally:
        link.reconnect()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, NetworkError):
            await task
