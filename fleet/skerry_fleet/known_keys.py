"""API keys that were shown before: a program asks often, and what its key may do changes rarely.

One manager alone writes its database, so it knows when: every transaction that touches a key is heard of as it commits,
and empties this memory before whoever made the change is answered.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import sqlalchemy
from sqlmodel import Session

from skerry_fleet import apikeys
from skerry_fleet.apikeys import Caller
from skerry_fleet.database import Database, Event, announce
from skerry_fleet.tables import ApiKey

MOST = 1000
CHANGED = "key"
"""The event that says so; streams do not tell it."""


class KnownKeys:
    """Callers by the SHA-256 of their key: the key itself is not kept here either."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, Caller] = {}
        self._turn = 0
        self._lock = threading.Lock()
        database.listeners.append(self._heard)

    def recall(self, text: str) -> Caller | None:
        """Return who showed this key before; None where that is not known, or not any more."""
        return self._known.get(_digest(text))

    def authenticate(self, text: str) -> Caller:
        """Return who holds this key, by the database.

        Raises:
            AuthError: see `apikeys.authenticate`.
        """
        turn = self._turn
        with self._database.read() as session:
            caller = apikeys.authenticate(session, text)
        with self._lock:
            if turn == self._turn:  # else a key changed while we looked, and this may be how it was before
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[_digest(text)] = caller
        return caller

    def _heard(self, events: list[Event]) -> None:
        if any(event.kind == CHANGED for event in events):
            with self._lock:
                self._turn += 1
                self._known.clear()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _touched(mapper: Any, connection: Any, row: ApiKey) -> None:
    session = sqlalchemy.inspect(row).session
    if isinstance(session, Session):
        announce(session, row.tenant, CHANGED, key=row.id)


for moment in ("after_insert", "after_update", "after_delete"):
    sqlalchemy.event.listen(ApiKey, moment, _touched)
