"""Who is looking: an API key becomes a signed cookie, and every form carries a token that only our own pages know.

The cookie is `1.<key id>.<expires>.<nonce>.<HMAC-SHA256>`. It says which key signed in and nothing more: the role and
whether the key still holds are read from the database at every request, so a revoked key ends its sessions at once.
The key's secret is never kept. The signing secret lies in `<root>/dashboard.key`; removing that file and starting
again ends every session.
"""

from __future__ import annotations

import dataclasses
import hmac
from pathlib import Path

from fastapi import Request

from skerry_fleet.apikeys import Caller, Role
from skerry_fleet.auth import fleet_of
from skerry_fleet.config import RandomBytes
from skerry_fleet.errors import AuthError, ForbiddenError
from skerry_fleet.tables import ApiKey
from skerry_fleet.trust import durable

COOKIE = "skerry_session"
VISIT = "skerry_visit"
"""A random name for a browser that has not signed in: what the sign-in form's token is made for."""
PATH = "/ui"
LASTS_S = 12 * 3600
PUBLIC = frozenset({"/", "/ui", "/ui/sign-in", "/ui/static/{name}"})
"""Pages without a session. A test knows this list: adding to it is a decision."""


@dataclasses.dataclass(frozen=True, slots=True)
class Visitor:
    """Who is signed in, and the token that each of their forms must bring back."""

    caller: Caller
    token: str

    @property
    def operates(self) -> bool:
        """Whether they may change things."""
        return self.caller.role.covers(Role.OPERATOR)


@dataclasses.dataclass(frozen=True, slots=True)
class Sessions:
    """Makes and reads session cookies and form tokens."""

    secret: bytes

    def begin(self, key: str, now: float, random: RandomBytes) -> str:
        """Return the cookie of a new session of this key."""
        claim = f"1.{key}.{int(now + LASTS_S)}.{random(12).hex()}"
        return f"{claim}.{self._sign('session', claim)}"

    def key_of(self, cookie: str, now: float) -> str:
        """Return the id of the key that a cookie was given to.

        Raises:
            AuthError: not a cookie of ours, or too old.
        """
        claim, _, signature = cookie.rpartition(".")
        parts = claim.split(".")
        if len(cookie) > 500 or len(parts) != 4 or not self._fits("session", claim, signature):
            raise AuthError("please sign in")
        if int(parts[2]) <= now:
            raise AuthError("the session has ended, please sign in again")
        return parts[1]

    def token(self, subject: str) -> str:
        """Return the form token for a session's cookie, or for a visit before that."""
        return self._sign("form", subject)

    def check_token(self, subject: str, token: str) -> None:
        """Refuse a form that did not come from one of our pages.

        Raises:
            ForbiddenError: another token, or none.
        """
        if not subject or not self._fits("form", subject, token):
            raise ForbiddenError("this form is out of date; nothing was changed", hint="go back, reload, try again")

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self.secret, f"{purpose}\0{text}".encode(), "sha256").hexdigest()

    def _fits(self, purpose: str, text: str, signature: str) -> bool:
        return hmac.compare_digest(self._sign(purpose, text).encode(), signature.encode("utf-8", "replace"))


def open_sessions(root: Path, random: RandomBytes) -> Sessions:
    """Return the sessions of the fleet in `root`; their secret is made at the first start."""
    path = root / "dashboard.key"
    if not path.is_file():
        durable.write_file(path, random(32).hex().encode(), 0o600)
    return Sessions(bytes.fromhex(path.read_text("ascii")))


def sessions_of(request: Request) -> Sessions:
    """Return this application's sessions."""
    sessions: Sessions = request.app.state.sessions
    return sessions


@dataclasses.dataclass(frozen=True, slots=True)
class SessionGuard:
    """A dependency that lets in sessions of a role or higher."""

    role: Role

    def __call__(self, request: Request) -> Visitor:
        """Return who is signed in.

        Raises:
            AuthError: nobody is, or their key was revoked.
            ForbiddenError: the key's role is too low.
        """
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            raise AuthError("please sign in")
        fleet, sessions = fleet_of(request), sessions_of(request)
        key = sessions.key_of(cookie, fleet.clock())
        with fleet.database.read() as session:
            row = session.get(ApiKey, key)
        if row is None or row.revoked_ms is not None:
            raise AuthError("this API key was revoked")
        caller = Caller(row.tenant, row.id, row.name, Role(row.role))
        if not caller.role.covers(self.role):
            raise ForbiddenError(f"this needs the role {self.role}; your key has {caller.role}")
        return Visitor(caller, sessions.token(cookie))


def check_form(request: Request, token: str) -> None:
    """Refuse a form that a signed-in person did not send from one of our pages.

    Raises:
        ForbiddenError: its token is not this session's.
    """
    sessions_of(request).check_token(request.cookies.get(COOKIE, ""), token)
