"""How a process that the agent started speaks for the programs in front of it.

The kernel names the front process to the local API, not the program that asked the front. So the front says for whom
it asks, with a secret that only it was given: what is the asking user's (regions of shared memory) stays theirs, and
each program takes its own turns.
"""

from __future__ import annotations

import dataclasses
import hmac
import secrets

from skerry_agent.errors import RequestError
from skerry_agent.http_words import Request
from skerry_agent.peers import Peer

HEADER = "x-skerry-behalf"


class Behalf:
    """The secret of this start of the agent, and what requests that bear it mean."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)

    def of(self, request: Request) -> Request:
        """Return the request with the other end that it speaks for; most speak for themselves.

        Raises:
            RequestError: 403, the secret is another.
        """
        said = request.headers.get(HEADER)
        if said is None:
            return request
        secret, _, rest = said.partition(" ")
        if not hmac.compare_digest(secret.encode("latin-1"), self.secret.encode()):
            raise RequestError("only the agent's own processes speak for others", status=403)
        uid, _, client = rest.partition(" ")
        known = int(uid) if uid.isascii() and uid.isdigit() else None
        return dataclasses.replace(request, peer=request.peer.speaking_for(known, client))


def header(secret: str, peer: Peer) -> tuple[str, str]:
    """Return the header that speaks for the other end of a connection."""
    uid = peer.uid()
    return HEADER, f"{secret} {'-' if uid is None else uid} {peer.client()}"
