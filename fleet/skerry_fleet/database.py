"""The one door to the database: opening it, and the two kinds of session.

One writer at a time: `write()` holds a lock, so that no transaction fails half-way for want of the database's own, and
so that the rollout states in memory move with their rows. What differs between databases is in `sql/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, SQLModel
from starlette.concurrency import run_in_threadpool

from skerry_fleet import (
    claim_tables,
    group_tables,
    incident_tables,
    measure_tables,
    once_tables,
    placement,
    records,
    rollout_pairs,
    rollup_tables,
    shadow_tables,
    tables,
    user_tables,
)
from skerry_fleet.errors import FleetError, UnavailableError
from skerry_fleet.migrations import upgrade
from skerry_fleet.sql import bulk
from skerry_fleet.sql.dialect import compare_bytes, open_dialect

# Imported so that their tables are known.
TABLES = (
    *(tables, records, rollout_pairs, shadow_tables, measure_tables, placement, rollup_tables),
    *(incident_tables, once_tables, user_tables, group_tables, claim_tables),
)
compare_bytes(SQLModel.metadata)
PROBE_S = 5.0

T = TypeVar("T")


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
        self.dialect = open_dialect(url)
        self.info: dict[str, Any] = {bulk.DIALECT: self.dialect}
        """What every session carries with it."""
        self.listeners: list[Callable[[list[Event]], None]] = []
        self._lock = threading.RLock()
        self._probed_s, self._writable = -math.inf, True
        try:
            upgrade.prepare(self.dialect)
        except FleetError:
            self.close()
            raise
        except DBAPIError as error:
            self.close()
            raise UnavailableError(
                f"cannot open the database: {first_line(error)}", hint="check its address, and the rights to it"
            ) from error

    def close(self) -> None:
        """Close every connection."""
        self.dialect.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session whose changes are thrown away."""
        with Session(self.dialect.reader, info=self.info) as session:
            yield session

    async def ask(self, question: Callable[[Session], T], *, short: bool = True) -> T:
        """Return the answer to a question. `short`: within a millisecond or two, so that no other request waits long.

        A short one about a file is answered by the event loop itself: handing it to a thread and back costs more, and
        where many threads wait for the interpreter, those who have little to do wait longest. All others get a thread.
        """
        if short and self.dialect.at_hand:
            return self._asked(question)
        return await run_in_threadpool(self._asked, question)

    def _asked(self, question: Callable[[Session], T]) -> T:
        with self.read() as session:
            return question(session)

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
            with self.dialect.writer.connect() as connection:
                with Session(bind=connection, expire_on_commit=False, info=self.info) as session:
                    yield session
                    session.commit()
                    events: list[Event] = session.info.pop("events", [])
        if events:
            for listener in self.listeners:
                listener(events)


def rowcount(session: Session, statement: str, **values: Any) -> int:
    """Run one statement and return how many rows it changed."""
    result = session.connection().execute(sqlalchemy.text(statement), values)
    return int(result.rowcount)


def first_line(error: DBAPIError) -> str:
    """Return what the driver said, in one line: without the statement, its values, or a password."""
    said = str(error.orig if error.orig is not None else error).strip()
    return said.splitlines()[0] if said else type(error).__name__
