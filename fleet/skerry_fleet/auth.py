"""Who may call what: one dependency guards every route, and a test walks the routes to see that it does.

A key comes as `Authorization: Bearer ...` and in no other way: no cookie, so no other site's page can use it unasked.
"""

from __future__ import annotations

import dataclasses
import hmac
from pathlib import Path

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from skerry_fleet import enrolment
from skerry_fleet.apikeys import Caller, Role
from skerry_fleet.errors import AuthError, ForbiddenError, UnavailableError
from skerry_fleet.fleet import Fleet

PUBLIC = frozenset(
    {"/healthz", "/readyz", "/openapi.json", "/device/v1/trust", "/device/v1/enrol", "/broker/v1/revoked.crl"}
)
"""Routes without a key. A test knows this list: adding to it is a decision."""


async def fleet_part(request: Request) -> Fleet:
    """Return the fleet that this application serves: a dependency that needs no thread of its own."""
    return fleet_of(request)


def fleet_of(request: Request) -> Fleet:
    """Return the fleet that this application serves."""
    fleet: Fleet = request.app.state.fleet
    return fleet


@dataclasses.dataclass(frozen=True, slots=True)
class Guard:
    """A dependency that lets in API keys of a role or higher, and says who it is."""

    role: Role

    async def __call__(self, request: Request) -> Caller:
        """Return the caller.

        Raises:
            AuthError: no key, or an unknown one.
            ForbiddenError: its role is too low.
        """
        text = bearer(request)
        if text is None:
            raise AuthError("an API key is needed", hint="send Authorization: Bearer sk1_...")
        keys = fleet_of(request).keys
        caller = keys.recall(text)
        if caller is None:
            caller = await run_in_threadpool(keys.authenticate, text)
        if not caller.role.covers(self.role):
            raise ForbiddenError(f"this needs the role {self.role}, the key has {caller.role}")
        return caller


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceGuard:
    """A dependency that lets in devices by their download token, and returns the device's name."""

    def __call__(self, request: Request) -> str:
        """Return the device's name.

        Raises:
            AuthError: no token, or an unknown one.
        """
        text = bearer(request)
        if text is None:
            raise AuthError("a download token is needed", hint="it came with the enrolment")
        fleet = fleet_of(request)
        with fleet.database.read() as session:
            return enrolment.device_of_token(session, fleet.config.tenant, text).name


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerGuard(DeviceGuard):
    """A dependency that lets in brokers by the secret of this installation (`broker_token_file`)."""

    def __call__(self, request: Request) -> str:
        """Return nothing of interest.

        Raises:
            AuthError: no secret, or another one, or this fleet has none.
        """
        path = fleet_of(request).config.broker_token_file
        try:
            wanted = Path(path).read_bytes().strip() if path else b""
        except OSError as error:
            raise UnavailableError(f"cannot read broker_token_file: {error.strerror}", hint="check the file") from error
        if not wanted or not hmac.compare_digest((bearer(request) or "").encode(), wanted):
            raise AuthError("the secret of this fleet's brokers is needed", hint="see broker_token_file")
        return ""


def require(role: Role) -> Guard:
    """Return the dependency that guards a route."""
    return Guard(role)


def bearer(request: Request) -> str | None:
    """Return the bearer token of a request."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None
