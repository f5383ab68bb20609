"""PostgreSQL through psycopg 3: one connection writes and holds a lock for as long as it lives, the others read.

The lock is the session's own, so a manager that lost its connection has lost the right to write with it: two can never
write at once, and numbers of rows rise in the order of commits.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlmodel import create_engine

from skerry_fleet.errors import ConflictError, UnavailableError
from skerry_fleet.sql.changes import VALUE, Change, Row

try:
    import psycopg
    from psycopg.types.string import StrDumperUnknown
except ImportError as missing:
    raise UnavailableError("PostgreSQL needs the package psycopg", hint="pip install 'skerry[postgres]'") from missing

CONNECTIONS, MORE_CONNECTIONS = 10, 30
FEW_ROWS = 16
"""Below this, copying costs more than it saves."""

PATIENCE_S = 5
"""How long to wait for another writer to be gone."""

_ALONE = "SELECT pg_advisory_lock(hashtext('skerry-fleet-writer'), hashtext(current_schema()))"
_SCHEMA = "SELECT pg_advisory_xact_lock(hashtext('skerry-fleet-schema'), hashtext(current_schema()))"
_STAGES = "skerry_stages"
# A connection that a network swallowed must not hold the lock for hours.
_KEEPALIVE = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")


class Postgres:
    """One database of one server. It must be encoded in UTF-8."""

    at_hand = False

    def __init__(self, url: URL) -> None:
        url = url.set(drivername="postgresql+psycopg")
        # One state from the first statement to the end, as readers of SQLite have it.
        self.reader = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            isolation_level="REPEATABLE READ",
        )
        self.writer = create_engine(url, pool_pre_ping=True, pool_size=1, max_overflow=0)
        for engine in (self.reader, self.writer):
            event.listen(engine, "connect", _on_connect)
        event.listen(self.writer, "connect", _on_writer)
        event.listen(self.writer, "rollback", _on_rollback)

    def many(self, connection: Connection, change: Change, rows: Sequence[Row]) -> None:
        """See `Dialect`: rows are copied into a temporary table, and one statement does the rest."""
        if len(rows) < FEW_ROWS:
            if rows:
                connection.execute(sqlalchemy.text(change.each()), rows)
            return
        staged, names = _stage(connection, change), change.columns
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor() as cursor:
            with cursor.copy(f"COPY {staged} ({', '.join(names)}, n) FROM STDIN") as copy:
                for n, row in enumerate(rows):
                    copy.write_row([*(row[name] for name in names), n])
        connection.exec_driver_sql(change.all(staged))

    def among(
        self, connection: Connection, statement: str, names: Sequence[str], values: dict[str, Any]
    ) -> Sequence[Any]:
        """See `Dialect`: the names travel as one array."""
        query = VALUE.sub(r"%(\1)s", statement.replace("%", "%%").replace("{among}", "= ANY(:names)"))
        return connection.exec_driver_sql(query, {**values, "names": list(names)}).fetchall()

    def exclusive(self, connection: Connection) -> None:
        """See `Dialect`."""
        connection.exec_driver_sql(_SCHEMA)

    def numbered(self, connection: Connection, table: str, last: int) -> None:
        """See `Dialect`."""
        query = sqlalchemy.text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :last, :called)")
        connection.execute(query, {"table": table, "last": max(1, last), "called": last > 0})

    def last_number(self, connection: Connection, table: str) -> int:
        """See `Dialect`."""
        query = sqlalchemy.text("SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(:table, 'id')), 0)")
        return int(connection.execute(query, {"table": table}).scalar_one())

    def close(self) -> None:
        """See `Dialect`."""
        self.reader.dispose()
        self.writer.dispose()


class _TextDumper(StrDumperUnknown):
    """PostgreSQL keeps no NUL in text, and one device's NUL must not keep others' messages from being stored."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)


def _on_connect(connection: psycopg.Connection[Any], record: Any) -> None:
    connection.adapters.register_dumper(str, _TextDumper)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_encoding'), current_setting('synchronous_commit')")
        encoding, durable = cursor.fetchone() or ("", "")
        if durable == "off":  # an acknowledgement must not outrun the disk
            cursor.execute("SET synchronous_commit = on")
    connection.commit()
    if encoding != "UTF8":
        raise ConflictError(
            f"the database is encoded in {encoding}", hint="make one with ENCODING 'UTF8' TEMPLATE template0"
        )


def _on_writer(connection: psycopg.Connection[Any], record: Any) -> None:
    try:
        with connection.cursor() as cursor:
            for setting in _KEEPALIVE:
                cursor.execute(f"SET {setting}")
            # The server may still be busy ending the connection of a process that was stopped a moment ago.
            cursor.execute(f"SET LOCAL lock_timeout = {1000 * PATIENCE_S}")
            cursor.execute(_ALONE)
        connection.commit()
    except psycopg.errors.LockNotAvailable as error:
        connection.close()
        raise ConflictError(
            "another fleet manager writes to this database", hint="stop it, or use another database or schema"
        ) from error


def _stage(connection: Connection, change: Change) -> str:
    """Return the temporary table for rows of a change, empty; it lives as long as the connection."""
    columns = ", ".join(change.columns)
    name = f"stage_{change.table}_{zlib.crc32(columns.encode()):08x}"
    made: set[str] = connection.info.setdefault(_STAGES, set())
    if name in made:
        connection.exec_driver_sql(f"DELETE FROM {name}")  # of an earlier call in this transaction
    else:
        query = f"SELECT {columns}, 0::bigint AS n FROM {change.table} LIMIT 0"
        connection.exec_driver_sql(f"CREATE TEMP TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS AS {query}")
        made.add(name)
    return name


def _on_rollback(connection: Connection) -> None:
    connection.info.pop(_STAGES, None)  # those made in this transaction are gone
