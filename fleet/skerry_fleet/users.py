"""People with a name and a password, or whom a provider of identities vouches for; they sign in to the dashboard.

Programs use API keys. A person is disabled and never deleted. Whatever changes about them ends their sessions.
"""

from __future__ import annotations

import re
from typing import Any

from sqlmodel import Session, col, select

from skerry_fleet import audit, passwords
from skerry_fleet.apikeys import Caller, Role
from skerry_fleet.audit import Actor
from skerry_fleet.config import RandomBytes
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.tables import ApiKey
from skerry_fleet.user_tables import User

NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
HIDDEN = {"tenant", "id", "password", "stamp"}


def create(
    session: Session, actor: Actor, now: float, random: RandomBytes, *, name: str, role: str, password: str
) -> dict[str, Any]:
    """Make a person known.

    Raises:
        InputError: a name, role or password that may not be one.
        ConflictError: there is one of that name.
    """
    if not NAME.fullmatch(name):
        raise InputError("name: 1 to 100 of a-z, 0-9 and . _ @ + -, and none of these signs first")
    _check_role(role)
    passwords.check(password, name)
    if find(session, actor.tenant, name) is not None:
        raise ConflictError(f"there is a user {name} already", hint="disabled ones count, too: user enable")
    row = new_row(actor, now, random, name, role)
    row.password = passwords.hashed(password)
    session.add(row)
    audit.write(session, actor, now, "user.create", f"user/{name}", None, {"role": role})
    return view(row)


def new_row(actor: Actor, now: float, random: RandomBytes, name: str, role: str) -> User:
    """Return a person who has no way to sign in yet."""
    made_ms = int(now * 1000)
    return User(
        id=random(6).hex(), tenant=actor.tenant, name=name, role=role, created_ms=made_ms, created_by=actor.name
    )


def change(
    session: Session,
    actor: Actor,
    now: float,
    name: str,
    *,
    role: str | None = None,
    disabled: bool | None = None,
    password: str | None = None,
) -> dict[str, Any]:
    """Change what is named of a person; their sessions end.

    Raises:
        MissingError: nobody of that name.
        InputError: a role or password that may not be one.
        ConflictError: role or password are a provider's to say.
    """
    row = get(session, actor.tenant, name)
    before = {"role": row.role, "disabled": row.disabled_ms is not None}
    if role is not None:
        _check_role(role)
        if row.issuer and role != row.role:
            raise ConflictError(f"the role of {name} comes from {row.issuer}", hint="change it there")
        row.role = role
    if disabled is not None and disabled is not (row.disabled_ms is not None):
        row.disabled_ms = int(now * 1000) if disabled else None
    if password is not None:
        set_password(row, password)
    session.add(row)
    after = {"role": row.role, "disabled": row.disabled_ms is not None}
    changed = {key: after[key] for key in after if after[key] != before[key]}
    if password is not None:
        changed["password"] = "changed"
    if changed:
        end_sessions(session, row)
        audit.write(
            session, actor, now, "user.change", f"user/{name}", {key: before.get(key) for key in changed}, changed
        )
    return view(row)


def set_password(row: User, password: str) -> None:
    """Give a person another password.

    Raises:
        InputError: it may not be one.
        ConflictError: somebody else vouches for this person.
    """
    if row.issuer:
        raise ConflictError(f"{row.name} signs in with {row.issuer}", hint="change the password there")
    passwords.check(password, row.name)
    row.password = passwords.hashed(password)


def end_sessions(session: Session, row: User | ApiKey) -> None:
    """Make every cookie that was given to this person or key worthless."""
    row.stamp = (row.stamp or 0) + 1
    session.add(row)


def sign_out(session: Session, actor: Actor, now: float, name: str) -> dict[str, Any]:
    """End a person's sessions.

    Raises:
        MissingError: nobody of that name.
    """
    row = get(session, actor.tenant, name)
    end_sessions(session, row)
    audit.write(session, actor, now, "user.sign-out", f"user/{name}", None, None)
    return view(row)


def find(session: Session, tenant: str, name: str) -> User | None:
    """Return the person of a name."""
    return session.exec(select(User).where(User.tenant == tenant, User.name == name)).first()


def get(session: Session, tenant: str, name: str) -> User:
    """Return the person of a name.

    Raises:
        MissingError: there is none.
    """
    row = find(session, tenant, name)
    if row is None:
        raise MissingError(f"no user {name!r:.80}", hint="`skerry fleet user list` shows who there is")
    return row


def exist(session: Session, tenant: str) -> bool:
    """Say whether anybody could sign in with a password."""
    query = select(User.id).where(User.tenant == tenant, User.password != "", col(User.disabled_ms).is_(None))
    return session.exec(query.limit(1)).first() is not None


def list_users(session: Session, tenant: str, page: Page) -> dict[str, Any]:
    """Return one page of people by name."""
    query = select(User).where(User.tenant == tenant, User.name > page.after).order_by(col(User.name))
    return listing(session.exec(query.limit(page.limit + 1)).all(), page, view, lambda row: row.name)


def caller_of(row: User) -> Caller:
    """Return a person as routes see them."""
    return Caller(row.tenant, row.name, row.name, Role(row.role), "user")


def view(row: User) -> dict[str, Any]:
    """Return a person as the API shows them."""
    return {**row.model_dump(exclude=HIDDEN), "has_password": bool(row.password)}


def _check_role(role: str) -> None:
    if role not in list(Role):
        raise InputError(f"role {role!r:.40} is none of {', '.join(Role)}")
