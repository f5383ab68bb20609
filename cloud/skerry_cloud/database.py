"""The one SQLite file of the cloud side, and the only place that opens it. Its whole data model stands in schema.sql.

The lake's catalogue, the labels, the registry and the pipelines share one file, so that a feed's cursor is committed
together with its rows, and one query leads from a prediction to its labels.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from skerry_cloud.errors import DataError

SCHEMA_VERSION = 2
# version: what makes it of the one before
STEPS = {2: "ALTER TABLE sample ADD COLUMN capture TEXT"}


class Database:
    """One connection for all threads of a process, behind a lock; other processes may use the file too (WAL)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise DataError(f"cannot open {path}: {error}", hint="give another --root, or restore the file") from error

    def _prepare(self) -> None:
        with self.transaction() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise DataError(
                    f"the database has version {version}, this program knows {SCHEMA_VERSION}", hint="update skerry"
                )
            for step in range(version + 1, SCHEMA_VERSION + 1) if version else ():
                connection.execute(STEPS[step])
                connection.execute(f"PRAGMA user_version = {step}")
            if version == 0:
                for statement in resources.files(__package__).joinpath("schema.sql").read_text("utf-8").split(";"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction; everything is undone where the block raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Return all rows of a reading query."""
        with self._lock:
            return self._connection.execute(query, parameters).fetchall()

    def row(self, query: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Row | None:
        """Return the first row of a reading query, or None."""
        with self._lock:
            found: sqlite3.Row | None = self._connection.execute(query, parameters).fetchone()
            return found

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def insert(table: str, *columns: str, ignore: bool = False) -> str:
    """Return the statement that inserts a row with these columns; `ignore`: a row that is there stays as it is.

    >>> insert("cursor", "feed", "value")
    'INSERT INTO cursor (feed, value) VALUES (?, ?)'
    """
    verb = "INSERT OR IGNORE" if ignore else "INSERT"
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
