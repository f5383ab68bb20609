"""The one door to the database: opening it, and the two kinds of session.

SQLite in WAL mode with `synchronous=FULL` (NORMAL lost committed rows in real power cuts). One writer at a time:
`write()` holds a lock and begins IMMEDIATE, so that no transaction fails half-way for want of the lock. PostgreSQL
needs no lock for safety; it is kept there too, because the fleet manager is one process and the rollout states it
holds in memory must move with their rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import Session, SQLModel, create_engine

from skerry_fleet import placement, records, rollout_pairs, shadow_tables, tables
from skerry_fleet.errors import UnavailableError

TABLES = (tables, records, rollout_pairs, shadow_tables, placement)  # imported so that `create_all` knows their tables
_WRITE = "skerry_write"
PROBE_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and is committed: what event streams and the publishers of this process are told."""

    tenant: str
    kind: str
    data: dict[str, Any]


def announce(session: Session, tenant: str, kind: str, /, **data: Any) -> None:
    """Tell listeners of this event, if and when the session's transaction commits."""
    session.info.setdefault("events", []).append(Event(tenant, kind, data))


class Database:
    """The engine, the writers' lock and those who want to hear of commits. Sessions are for one thread each."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.listeners: list[Callable[[list[Event]], None]] = []
        self._lock = threading.RLock()
        self._probed_s, self._writable = -math.inf, True
        try:
            SQLModel.metadata.create_all(self.engine)
        except (OperationalError, sqlite3.OperationalError) as error:
            raise UnavailableError(
                f"cannot open the database: {error.__cause__ or error}", hint="check the path and its rights"
            ) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session whose changes are thrown away."""
        with Session(self.engine) as session:
            yield session

    def writable(self) -> bool:
        """Say whether a transaction can be committed; asked anew at most every few seconds."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._probed_s >= PROBE_S:
                self._probed_s = now_s
                try:
                    with self.write() as session:
                        session.merge(records.Cursor(name="readyz", position=int(now_s * 1000)))
                    self._writable = True
                except DBAPIError:
                    self._writable = False
            return self._writable

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """Give the only writing session; it commits at the end, or rolls back where an exception leaves the block."""
        with self._lock:
            with self.engine.connect().execution_options(**{_WRITE: True}) as connection:
                with Session(bind=connection, expire_on_commit=False) as session:
                    yield session
                    session.commit()
                    events: list[Event] = session.info.pop("events", [])
        if events:
            for listener in self.listeners:
                listener(events)


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30.0, "isolation_level": None})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=30000",
        "cache_size=-16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # The driver's own transaction control is off (isolation_level None): without IMMEDIATE a reader that turns writer
    # may be refused.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


def rowcount(session: Session, statement: str, **values: Any) -> int:
    """Run one statement and return how many rows it changed."""
    result = session.connection().execute(sqlalchemy.text(statement), values)
    return int(result.rowcount)
