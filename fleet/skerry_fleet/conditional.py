"""Requests on a condition (RFC 9110 §13): an answer that the caller has already need not be sent, and an object that
changed since the caller saw it is not changed again.

An entity tag is `"STATE-REST"`: STATE stands for what a change may depend on (a device's groups and tags, not its last
heartbeat), REST for the whole answer. `If-None-Match` compares all of it, `If-Match` only STATE.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec
from starlette.types import Message, Send

from skerry_contracts.codec import canonical_json
from skerry_fleet.errors import ConflictError

_DROPPED = (b"content-length", b"content-type")
# What the library that sends files says in its own shape.
_BAD_RANGE = {
    400: ("bad-request", "that is no range of bytes", "such as Range: bytes=0-1023"),
    416: ("no-such-range", "the file has no such range", "Content-Range says how long it is"),
}


def state_of(facts: Any) -> str:
    """Return what stands for these facts in a tag."""
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:16]


def whole(body: bytes) -> str:
    """Return what stands for an answer's bytes in a tag."""
    return hashlib.sha256(body).hexdigest()[:32]


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What the caller says it saw: the entity tags of `If-Match`; None where it does not say."""

    tags: str | None

    def still(self, facts: Any) -> None:
        """Refuse where the object is no longer as the caller saw it.

        Raises:
            ConflictError: it changed (412).
        """
        if self.tags is None:
            return
        states = {each.strip().removeprefix("W/").strip('"').partition("-")[0] for each in self.tags.split(",")}
        if "*" not in states and state_of(facts) not in states:
            raise ConflictError(
                "it was changed since you saw it", hint="read it again and decide anew", code="changed", status=412
            )


UNSEEN = Seen(None)
"""The caller does not say what it saw."""


class Answer:
    """Sends one answer on: JSON of a GET gets an entity tag, and what the caller has already becomes a 304."""

    def __init__(self, send: Send, if_none_match: str) -> None:
        self._send = send
        self._known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")} - {""}
        self._held: Message | None = None
        self._silent, self._instead = False, b""

    async def __call__(self, message: Message) -> None:
        """Take in one message of the application."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if message["status"] == 200 and b"etag" in headers:
                await self._start(message, headers[b"etag"].decode("latin-1"))
            elif message["status"] == 200 and headers.get(b"content-type") == b"application/json":
                self._held = message
            elif message["status"] in _BAD_RANGE and headers.get(b"content-type", b"").startswith(b"text/plain"):
                self._silent, (code, said, hint) = True, _BAD_RANGE[message["status"]]
                self._instead = msgspec.json.encode({"error": {"code": code, "message": said, "hint": hint}})
                kept = [(name, value) for name, value in message["headers"] if name not in _DROPPED]
                length = str(len(self._instead)).encode()
                kept += [(b"content-type", b"application/json"), (b"content-length", length)]
                await self._send({**message, "headers": kept})
            else:
                await self._send(message)
        elif self._held is not None:
            start, self._held = self._held, None
            if message.get("more_body"):  # a stream: its end is not known yet
                await self._send(start)
            else:
                tag = f'"{whole(message.get("body", b""))}"'
                start["headers"] = [*start["headers"], (b"etag", tag.encode())]
                await self._start(start, tag)
            await self._body(message)
        else:
            await self._body(message)

    async def _start(self, message: Message, tag: str) -> None:
        if tag in self._known or "*" in self._known:
            self._silent = True
            kept = [(name, value) for name, value in message["headers"] if name not in _DROPPED]
            message = {**message, "status": 304, "headers": kept}
        await self._send(message)

    async def _body(self, message: Message) -> None:
        if not self._silent:
            await self._send(message)
        elif not message.get("more_body"):
            await self._send({"type": "http.response.body", "body": self._instead})
