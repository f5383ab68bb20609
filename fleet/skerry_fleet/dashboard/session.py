"""Who is looking: an API key or a person becomes a signed cookie, and every form carries a token that only our own
pages know.

The cookie is `2.<kind>.<id>.<stamp>.<expires>.<nonce>.<HMAC-SHA256>`. It says which key or person signed in and nothing
more: the role, whether they are still let in and their stamp are read from the database at every request, so that
whatever is changed about them ends their sessions at once. Neither key nor password is ever kept. The signing secret
lies in `<root>/dashboard.key`; removing that file and starting again ends every session.
"""

from __future__ import annotations

import dataclasses
import hmac
from pathlib import Path

from fastapi import Request
from sqlmodel import Session

from skerry_fleet import users
from skerry_fleet.apikeys import Caller, Role
from skerry_fleet.auth import fleet_of
from skerry_fleet.config import RandomBytes
from skerry_fleet.errors import AuthError, ForbiddenError
from skerry_fleet.tables import ApiKey
from skerry_fleet.trust import durable
from skerry_fleet.user_tables import User

COOKIE = "skerry_session"
VISIT = "skerry_visit"
"""A random name for a browser that has not signed in: what the sign-in form's token is made for."""
PATH = "/ui"
LASTS_S = 12 * 3600
PUBLIC = frozenset({"/", "/ui", "/ui/sign-in", "/ui/sign-in/oidc", "/ui/sign-in/oidc/callback", "/ui/static/{name}"})
"""Pages without a session. A test knows this list: adding to it is a decision."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """To whom a session was given: a `key` or `user` by its id, and its stamp then."""

    kind: str
    id: str
    stamp: int


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

    def begin(self, holder: Holder, now: float, random: RandomBytes) -> str:
        """Return the cookie of a new session."""
        claim = f"2.{holder.kind}.{holder.id}.{holder.stamp}.{int(now + LASTS_S)}.{random(12).hex()}"
        return f"{claim}.{self.signature('session', claim)}"

    def holder_of(self, cookie: str, now: float) -> Holder:
        """Return to whom a cookie was given.

        Raises:
            AuthError: not a cookie of ours, or too old.
        """
        claim, _, signature = cookie.rpartition(".")
        parts = claim.split(".")
        if len(cookie) > 500 or len(parts) != 6 or not self.signed("session", claim, signature):
            raise AuthError("please sign in")
        _, kind, name, stamp, expires, _ = parts
        if int(expires) <= now:
            raise AuthError("the session has ended, please sign in again")
        return Holder(kind, name, int(stamp))

    def token(self, subject: str) -> str:
        """Return the form token for a session's cookie, or for a visit before that."""
        return self.signature("form", subject)

    def check_token(self, subject: str, token: str) -> None:
        """Refuse a form that did not come from one of our pages.

        Raises:
            ForbiddenError: another token, or none.
        """
        if not subject or not self.signed("form", subject, token):
            raise ForbiddenError("this form is out of date; nothing was changed", hint="go back, reload, try again")

    def signature(self, purpose: str, text: str) -> str:
        """Return our signature of a text, good for one purpose."""
        return hmac.new(self.secret, f"{purpose}\0{text}".encode(), "sha256").hexdigest()

    def signed(self, purpose: str, text: str, signature: str) -> bool:
        """Say whether a signature is ours, for this text and purpose."""
        return hmac.compare_digest(self.signature(purpose, text).encode(), signature.encode("utf-8", "replace"))


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
            AuthError: nobody is, or not any more.
            ForbiddenError: their role is too low.
        """
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            raise AuthError("please sign in")
        fleet, sessions = fleet_of(request), sessions_of(request)
        holder = sessions.holder_of(cookie, fleet.clock())
        with fleet.database.read() as session:
            caller = caller_of(session, holder)
        if not caller.role.covers(self.role):
            raise ForbiddenError(f"this needs the role {self.role}; yours is {caller.role}")
        return Visitor(caller, sessions.token(cookie))


def caller_of(session: Session, holder: Holder) -> Caller:
    """Return who a session's holder is now.

    Raises:
        AuthError: revoked, disabled, or changed since.
    """
    if holder.kind == "user":
        person = session.get(User, holder.id)
        if person is None or person.disabled_ms is not None or person.stamp != holder.stamp:
            raise AuthError("the session has ended, please sign in again")
        return users.caller_of(person)
    row = session.get(ApiKey, holder.id)
    if row is None or row.revoked_ms is not None or (row.stamp or 0) != holder.stamp:
        raise AuthError("this API key was revoked, or signed out everywhere")
    return Caller(row.tenant, row.id, row.name, Role(row.role))


def check_form(request: Request, token: str) -> None:
    """Refuse a form that a signed-in person did not send from one of our pages.

    Raises:
        ForbiddenError: its token is not this session's.
    """
    sessions_of(request).check_token(request.cookies.get(COOKIE, ""), token)
