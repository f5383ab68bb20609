"""Signing in with a name and a password: as slow for a name that is not there, and slower with every wrong guess.

Each try takes a token from the account's bucket and from the address's (NIST SP 800-63B-4, 3.2.2, asks for a limit; two
of them, since one alone lets a guesser with many names, or with many addresses, go on). A right password gives the
tokens back. A name without an account has a bucket, too: nothing tells the two apart.
"""

from __future__ import annotations

import logging
import math

from sqlmodel import Session

from skerry_fleet import passwords, users
from skerry_fleet.config import Clock
from skerry_fleet.database import Database
from skerry_fleet.errors import AuthError, FleetError
from skerry_fleet.limits import Buckets
from skerry_fleet.user_tables import User

log = logging.getLogger(__name__)
ACCOUNT_TRIES, ACCOUNT_AGAIN_S = 10, 60.0
ADDRESS_TRIES, ADDRESS_AGAIN_S = 30, 20.0
WRONG = "name or password is wrong, or the account is disabled"


class SignIn:
    """The door for people with passwords. Holds how often was tried, for this process's life."""

    def __init__(self, database: Database, tenant: str, clock: Clock) -> None:
        self._database, self._tenant, self._clock = database, tenant, clock
        self._accounts = Buckets(1 / ACCOUNT_AGAIN_S, ACCOUNT_TRIES, clock)
        self._addresses = Buckets(1 / ADDRESS_AGAIN_S, ADDRESS_TRIES, clock)

    def check(self, name: str, password: str, address: str) -> User:
        """Return who this is.

        Raises:
            AuthError: no such name, another password, or disabled; the words do not say which.
            FleetError: this account or address has failed too often (429).
        """
        name = name.strip().casefold()[:200]
        wait_s = max(self._accounts.take(name), self._addresses.take(address))
        if wait_s:
            log.warning("sign-in as %r from %s: too many tries", name, address)
            words = f"too many tries; wait {math.ceil(wait_s)} s"
            raise FleetError(words, hint="or sign in with an API key", code="too-many-requests", status=429)
        with self._database.read() as session:
            found = users.find(session, self._tenant, name)
            kept = "" if found is None else found.password
        right = passwords.fits(kept, password)
        if found is None or not right or found.disabled_ms is not None:
            log.warning("sign-in as %r from %s: refused", name, address)
            raise AuthError(WRONG, hint="an admin can set a new password")
        self._accounts.charge(name, -1.0)
        self._addresses.charge(address, -1.0)
        return found

    def seen(self, session: Session, row: User, password: str) -> None:
        """Note that somebody signed in, and keep their password with today's parameters."""
        if row.password and passwords.outdated(row.password):
            row.password = passwords.hashed(password)
        row.seen_ms = int(self._clock() * 1000)
        session.add(row)
