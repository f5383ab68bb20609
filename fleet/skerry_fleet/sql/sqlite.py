"""SQLite in WAL mode with `synchronous=FULL` (NORMAL lost committed rows in real power cuts)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlmodel import create_engine

from skerry_fleet.sql.changes import Change, Row

CONNECTIONS, MORE_CONNECTIONS = 20, 40
_WRITE = "skerry_write"
_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"),
    "cache_size=-16000",
    # Copied back from the log each 32 MB instead of 4: a busy fleet changes the same pages again and again.
    "wal_autocheckpoint=8000",
)


class Sqlite:
    """One file. Readers see the state at their first statement; a writer takes the lock as it begins."""

    at_hand = True

    def __init__(self, url: URL) -> None:
        arguments = {"check_same_thread": False, "timeout": 30.0, "isolation_level": None}
        # The newest used first: opening a connection costs more than most questions.
        pool = {"pool_size": CONNECTIONS, "max_overflow": MORE_CONNECTIONS, "pool_use_lifo": True}
        self.reader = create_engine(url, connect_args=arguments, **(pool if url.database else {}))
        self.writer: Engine = self.reader.execution_options(**{_WRITE: True})
        event.listen(self.reader, "connect", _on_connect)
        event.listen(self.reader, "begin", _on_begin)

    def many(self, connection: Connection, change: Change, rows: Sequence[Row]) -> None:
        """See `Dialect`."""
        if rows:
            connection.exec_driver_sql(change.each(), rows)

    def among(
        self, connection: Connection, statement: str, names: Sequence[str], values: dict[str, Any]
    ) -> Sequence[Any]:
        """See `Dialect`: the names travel as one JSON list."""
        query = statement.replace("{among}", "IN (SELECT value FROM json_each(:names))")
        return connection.exec_driver_sql(query, {**values, "names": json.dumps(names)}).fetchall()

    def exclusive(self, connection: Connection) -> None:
        """See `Dialect`: a writing transaction is alone anyway."""

    def numbered(self, connection: Connection, table: str, last: int) -> None:
        """See `Dialect`."""
        connection.execute(sqlalchemy.text("DELETE FROM sqlite_sequence WHERE name = :table"), {"table": table})
        values = {"table": table, "last": last}
        connection.execute(sqlalchemy.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)"), values)

    def last_number(self, connection: Connection, table: str) -> int:
        """See `Dialect`."""
        query = sqlalchemy.text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        return int(connection.execute(query, {"table": table}).scalar() or 0)

    def close(self) -> None:
        """See `Dialect`."""
        self.reader.dispose()


def _on_connect(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # The driver's own transaction control is off (isolation_level None): without IMMEDIATE a reader that turns writer
    # may be refused.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")
