"""What a client of the fleet's API does when the answer is "not now", or does not come.

A request that changes something carries an `Idempotency-Key` of its own, the same in every try, so that a try whose
answer was lost makes nothing twice. What is busy says when to come back (RFC 9110 section 10.2.3: `Retry-After`), and
that is waited for, within bounds, and said. A lost connection is tried again where a second try can do no harm.
"""

from __future__ import annotations

import random
import re
import secrets
import sys
import time
from collections.abc import Callable

import httpx

WAIT_S = 120.0
"""How long one request waits for a busy fleet, all pauses together."""
TRIES = 4
"""Tries where connections are lost."""
BUSY = (429, 503)
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_MAKES = re.compile(r"/api/v1/[a-z-]+(\?.*)?|/api/v1/shadows/[^/]+/promote|/api/v1/models/[^/]+/bundles(\?.*)?")
# The connection was there and broke; where none is made at all, no fleet listens, and whoever asks should hear so.
_LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.CloseError)


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return secrets.token_hex(16)


def harmless(method: str, path: str) -> bool:
    """Say whether a request may be sent again though the first may have been carried out."""
    return method in ("GET", "HEAD", "PUT") or (method == "POST" and _MAKES.fullmatch(path) is not None)


def asked_to_wait_s(answer: httpx.Response) -> float | None:
    """Return the seconds of `Retry-After` of a busy fleet's answer; None where it is not busy, or does not say."""
    said = answer.headers.get("retry-after", "")
    return float(said) if answer.status_code in BUSY and said.isascii() and said.isdigit() else None


def patiently(
    method: str,
    path: str,
    send: Callable[[], httpx.Response],
    *,
    say: Callable[[str], None] = lambda text: print(f"skerry: {text}", file=sys.stderr, flush=True),
    sleep: Callable[[float], None] = time.sleep,
) -> httpx.Response:
    """Return the answer to a request, which `send` makes anew each time.

    Raises:
        httpx.TransportError: no answer, in any try.
    """
    left_s, lost = WAIT_S, 0
    while True:
        try:
            answer = send()
        except httpx.TransportError as error:
            lost += 1
            again = isinstance(error, _LOST) or (lost > 1 and isinstance(error, httpx.ConnectError))
            if not again or lost >= TRIES or not harmless(method, path):
                raise
            pause_s = 0.2 * 4.0 ** (lost - 1)
            say(f"the connection to the fleet was lost; asking again in {pause_s:.1f} s")
            sleep(pause_s)
            continue
        wait_s = asked_to_wait_s(answer)
        if wait_s is None or wait_s > left_s:
            return answer
        # Not all who were told the same come back at the same moment.
        wait_s = max(wait_s, 0.1) * (1.0 + 0.1 * random.random())
        left_s -= wait_s
        say(f"the fleet is busy (status {answer.status_code}); asking again in {wait_s:.0f} s, as it says")
        answer.close()
        sleep(wait_s)
