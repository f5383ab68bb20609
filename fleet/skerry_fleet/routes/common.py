"""What routes share: bodies into records, records into answers, pages, sessions."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Depends, Header, Query, Request, Response

from skerry_contracts import codec
from skerry_fleet import conditional, paging
from skerry_fleet.apikeys import Caller, Role
from skerry_fleet.audit import Actor
from skerry_fleet.auth import bearer, fleet_part, require
from skerry_fleet.conditional import Seen
from skerry_fleet.errors import InputError
from skerry_fleet.fleet import Fleet
from skerry_fleet.once import Once
from skerry_fleet.paging import Page

T = TypeVar("T")


def reply(data: Any, status: int = 200, *, facts: Any = None) -> Response:
    """Return data as a JSON answer; with `facts`, those that a change may depend on, under an entity tag of both."""
    content = msgspec.json.encode(data)
    headers = None
    if facts is not None:
        headers = {"etag": f'"{conditional.state_of(facts)}-{conditional.whole(content)}"'}
    return Response(content, status, headers, media_type="application/json")


@dataclasses.dataclass(frozen=True, slots=True)
class Body(Generic[T]):
    """A dependency that reads the request's JSON as a record; a field nobody knows is refused, so that no typing error
    passes for a default. The API's description finds it by its class.
    """

    kind: type[T]

    async def __call__(self, request: Request) -> T:
        """Return the record.

        Raises:
            MalformedError, MismatchError: see `codec.from_plain`.
            InputError: an unknown field.
        """
        known = {field.name for field in dataclasses.fields(self.kind)}  # type: ignore[arg-type]  # a dataclass each
        plain = codec.parse_json(await request.body() or b"{}")
        if isinstance(plain, dict) and not known.issuperset(plain):
            unknown = sorted(set(plain) - known)[0]
            raise InputError(f"{unknown!r:.60} is no field of this request", hint=f"fields: {', '.join(sorted(known))}")
        return codec.from_plain(self.kind, plain)


def body(kind: type[T]) -> Body[T]:
    """Return the dependency that reads a body."""
    return Body(kind)


async def seen(if_match: Annotated[str | None, Header()] = None) -> Seen:
    """Read `If-Match`."""
    return Seen(if_match)


async def once(request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> Once:
    """Read `Idempotency-Key`, and what it stands for."""
    digest = codec.digest(await request.body())
    return Once(request.url.path, digest, bearer(request) or "", idempotency_key)


async def page_of(after: str | None = Query(None), limit: str | None = Query(None)) -> Page:
    """Read `?after=&limit=`."""
    return paging.page(after, limit)


def actor_of(request: Request, caller: Caller) -> Actor:
    """Return the caller as the audit names it, with the request's id."""
    return caller.actor(request.state.request_id)


FleetPart = Annotated[Fleet, Depends(fleet_part)]
Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Measurer = Annotated[Caller, Depends(require(Role.MEASURER))]
Operator = Annotated[Caller, Depends(require(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
SeenPart = Annotated[Seen, Depends(seen)]
OncePart = Annotated[Once, Depends(once)]
PagePart = Annotated[Page, Depends(page_of)]
