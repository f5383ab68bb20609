"""Who somebody is to the fleet for whom a provider vouches: the same person at every sign-in, with the role of the day.

A person is known by (issuer, subject) alone: a name or an e-mail address may be given to somebody else one day, and
never opens another's account.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session, select

from skerry_fleet import audit, users
from skerry_fleet.apikeys import Role
from skerry_fleet.audit import Actor
from skerry_fleet.config import FleetConfig, RandomBytes
from skerry_fleet.errors import AuthError, ForbiddenError, InputError
from skerry_fleet.oidc_words import Settings, safe_address
from skerry_fleet.user_tables import User

CALLBACK = "/ui/sign-in/oidc/callback"
EVERYBODY = "*"


def settings(config: FleetConfig) -> Settings | None:
    """Return who vouches for people, as the fleet's settings say; None: nobody.

    Raises:
        InputError: they are incomplete, or contradict each other.
    """
    if not config.oidc_issuer:
        return None
    for name, address in (("oidc_issuer", config.oidc_issuer), ("public_url", config.public_url)):
        if not safe_address(address):
            raise InputError(f"{name} must be an https address (http on this machine alone)", hint=f"set {name}")
    if urlsplit(config.oidc_issuer).query:
        raise InputError("oidc_issuer has no query", hint="it is exactly what the provider calls its issuer")
    if not config.oidc_client_id:
        raise InputError("oidc_client_id is missing", hint="the provider gave it when the fleet was registered there")
    roles(config.oidc_roles)
    secret = ""
    if config.oidc_secret_file:
        try:
            secret = Path(config.oidc_secret_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("oidc_secret_file cannot be read", hint="its first line is the client's secret") from error
    hosts = tuple(config.oidc_hosts.split())
    redirect = config.public_url.rstrip("/") + CALLBACK
    return Settings(config.oidc_issuer, config.oidc_client_id, redirect, secret, hosts, config.oidc_scopes)


def roles(text: str) -> list[tuple[str, Role]]:
    """Return which group gives which role, from `ops=operator, bosses=admin, *=viewer`.

    Raises:
        InputError: not written so, or a role that is none.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        group, equals, role = part.rpartition("=")
        if not equals or not group.strip() or role.strip() not in list(Role):
            raise InputError(f"oidc_roles: {part!r:.60} is no GROUP=ROLE", hint=f"roles: {', '.join(Role)}; * is all")
        found.append((group.strip(), Role(role.strip())))
    if not found:
        raise InputError("oidc_roles is empty: nobody could sign in", hint="such as: fleet-admins=admin, *=viewer")
    return found


def role_of(config: FleetConfig, claims: dict[str, Any]) -> Role | None:
    """Return the highest role that a person's groups give; None: no role."""
    said = claims.get(config.oidc_groups)
    words = said if isinstance(said, list) else [said]
    groups = {each for each in words if isinstance(each, str)}
    fit = [role for group, role in roles(config.oidc_roles) if group == EVERYBODY or group in groups]
    return max(fit, key=list(Role).index, default=None)


def admit(
    session: Session, config: FleetConfig, claims: dict[str, Any], now: float, random: RandomBytes, request: str
) -> User:
    """Return the person of these claims: made at the first sign-in, with today's role at every one.

    Raises:
        ForbiddenError: no group of theirs has a role, or their name is another's.
        AuthError: disabled.
    """
    issuer, subject = config.oidc_issuer, str(claims["sub"])
    actor = Actor(config.tenant, "system:oidc", request)
    row = session.exec(
        select(User).where(User.tenant == config.tenant, User.issuer == issuer, User.subject == subject)
    ).first()
    role = role_of(config, claims)
    if role is None:
        if row is not None:
            users.end_sessions(session, row)  # and what they still had open, ends
            session.commit()
        raise ForbiddenError("none of your groups has a role in this fleet", hint="ask whoever keeps oidc_roles")
    if row is None:
        row = _made(session, config, claims, now, random, actor, role)
    if row.disabled_ms is not None:
        raise AuthError("this account is disabled", hint="an admin can enable it")
    if row.role != role:
        audit.write(session, actor, now, "user.change", f"user/{row.name}", {"role": row.role}, {"role": role})
        row.role = role.value
        users.end_sessions(session, row)
    row.seen_ms = int(now * 1000)
    session.add(row)
    return row


def _made(
    session: Session,
    config: FleetConfig,
    claims: dict[str, Any],
    now: float,
    random: RandomBytes,
    actor: Actor,
    role: Role,
) -> User:
    said = claims.get(config.oidc_name)
    name = said.strip().casefold() if isinstance(said, str) else ""
    if not users.NAME.fullmatch(name):
        raise ForbiddenError(f"the provider says no name for you in `{config.oidc_name}`", hint="set oidc_name")
    if users.find(session, config.tenant, name) is not None:
        raise ForbiddenError(f"the name {name} is another's here", hint="an admin has to give one of you another name")
    row = users.new_row(actor, now, random, name, role.value)
    row.issuer, row.subject = config.oidc_issuer, str(claims["sub"])
    session.add(row)
    session.flush()
    after = {"role": role.value, "issuer": row.issuer, "subject": row.subject}
    audit.write(session, actor, now, "user.create", f"user/{name}", None, after)
    return row
