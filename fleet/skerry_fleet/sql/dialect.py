"""One database behind one protocol: how it is opened, who may write, and how many rows are changed at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import MetaData, String, Text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from skerry_fleet.errors import InputError
from skerry_fleet.sql.changes import Change, Row

KNOWN = "sqlite:///FILE and postgresql://USER@HOST/DATABASE"


class Dialect(Protocol):
    """What the fleet asks of a database."""

    reader: Engine
    """Gives connections whose transactions see one state of the database from their first statement to their end."""

    writer: Engine
    """Gives the one connection that writes; its transactions never fail for want of a lock half-way."""

    at_hand: bool
    """Whether a short question is answered without waiting for anybody: from a file of this machine."""

    def many(self, connection: Connection, change: Change, rows: Sequence[Row]) -> None:
        """Make a change for every row, in this transaction."""
        ...

    def among(
        self, connection: Connection, statement: str, names: Sequence[str], values: dict[str, Any]
    ) -> Sequence[Any]:
        """Return the rows of a query about many names; see `bulk.among`."""
        ...

    def exclusive(self, connection: Connection) -> None:
        """Wait until no other process changes tables or their columns; holds until the transaction ends."""
        ...

    def numbered(self, connection: Connection, table: str, last: int) -> None:
        """Number new rows of a table from `last` + 1 on."""
        ...

    def last_number(self, connection: Connection, table: str) -> int:
        """Return the highest number that a row of a table ever had; 0 if none had."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def open_dialect(url: str) -> Dialect:
    """Return the database at an address.

    Raises:
        InputError: not an address, or of a database that the fleet does not run on.
        UnavailableError: its driver is not installed.
    """
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise InputError("database_url is not the address of a database", hint=f"such as {KNOWN}") from error
    if kind == "sqlite":
        from skerry_fleet.sql.sqlite import Sqlite

        return Sqlite(parsed)
    if kind in ("postgresql", "postgres"):
        from skerry_fleet.sql.postgres import Postgres  # only here: psycopg is an extra

        return Postgres(parsed)
    raise InputError(f"database_url: the fleet does not run on {kind:.40}", hint=f"such as {KNOWN}")


def compare_bytes(metadata: MetaData) -> None:
    """Make PostgreSQL compare and sort text as SQLite and Python do, byte by byte, whatever the database's language.

    Pages, boot ids and ranges of names rely on it.
    """
    for table in metadata.tables.values():
        for column in table.columns:
            kind = getattr(column.type, "impl_instance", column.type)
            if isinstance(kind, String):
                column.type = column.type.with_variant(Text(collation="C"), "postgresql")
