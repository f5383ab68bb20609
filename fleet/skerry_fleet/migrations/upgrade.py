"""Bringing a database to the tables of this version: a new one at once, an older one step by step, a newer one never.

`alembic_version` says at which step a database is. alembic itself is loaded only where steps are to be made.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.sql.dialect import Dialect

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)
FIRST = "0001"
REVISIONS = (FIRST, *(f"{number:04}" for number in range(2, 14)))
"""Every step, oldest first. A new one gets its file in `versions/` and its number here; docs/adr/0010-databases.md."""
HEAD = REVISIONS[-1]
_VERSION = sqlalchemy.Table(
    "alembic_version",
    sqlalchemy.MetaData(),
    sqlalchemy.Column("version_num", sqlalchemy.String(32), nullable=False),
    sqlalchemy.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def prepare(dialect: Dialect) -> None:
    """Make sure that a database has this version's tables.

    Raises:
        ConflictError: it was written by a newer version, or by none that has steps; another manager uses it.
    """
    with dialect.reader.connect() as connection:
        if revision(connection) == HEAD:
            return
    with dialect.writer.begin() as connection:
        dialect.exclusive(connection)
        bring(connection, HEAD)


def bring(connection: Connection, to: str) -> None:
    """Make the steps up to one, in this transaction.

    Raises:
        ConflictError: the database is at a later step.
        InputError: no such step.
    """
    if to not in REVISIONS:
        raise InputError(f"no step {to!r:.40}", hint=f"the steps are {', '.join(REVISIONS)}")
    at = revision(connection)
    if at is None and not _tables(connection):
        if to == HEAD:
            SQLModel.metadata.create_all(connection)
            _note(connection, HEAD)
            return
    elif at is None:
        _adopt(connection)
        at = FIRST
    if at is not None:
        behind(at, to)
    if at != to:
        from alembic import command

        log.info("the database goes from step %s to %s", at or "none", to)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def revision(connection: Connection) -> str | None:
    """Return the step that a database is at; None where it does not say."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sqlalchemy.select(_VERSION.c.version_num)).scalars().all()
    return found[0] if found else None


def behind(at: str, to: str) -> None:
    """Refuse to go back.

    Raises:
        ConflictError: the database is at a later step than `to`, or at one that this version does not know.
    """
    if at not in REVISIONS:
        raise ConflictError(
            f"the database was written by a newer version of skerry (step {at}, this version knows {HEAD})",
            hint="install that version, or restore a backup that this one can read",
        )
    if REVISIONS.index(at) > REVISIONS.index(to):
        raise ConflictError(
            f"the database is at step {at} and only goes forward, not back to {to}",
            hint="restore a backup that was made before the upgrade",
        )


def script(dialect: str, at: str | None) -> str:
    """Return the SQL that would bring a database of one kind from a step (None: an empty one) to this version's."""
    from alembic import command

    text = io.StringIO()
    config = _config(text)
    config.attributes["dialect"] = dialect
    command.upgrade(config, f"{at}:{HEAD}" if at else HEAD, sql=True)
    return text.getvalue()


def _config(output: io.StringIO | None = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _tables(connection: Connection) -> set[str]:
    """Return the tables of ours that are there."""
    return set(sqlalchemy.inspect(connection).get_table_names()) & SQLModel.metadata.tables.keys()


def _adopt(connection: Connection) -> None:
    """Take in a database that was made before there were steps: it is at the first one, once it has every table."""
    from skerry_fleet.migrations.versions import v0001_tables

    first = v0001_tables.M
    inspector = sqlalchemy.inspect(connection)
    for table in first.tables.values():
        if not inspector.has_table(table.name):
            continue
        present = {column["name"] for column in inspector.get_columns(table.name)}
        missing = [column.name for column in table.columns if column.name not in present]
        if missing:
            raise ConflictError(
                f"the database lacks {table.name}.{missing[0]}: it was made by a version that was never released",
                hint="start with a new database",
            )
    first.create_all(connection)
    _note(connection, FIRST)


def _note(connection: Connection, at: str) -> None:
    _VERSION.create(connection, checkfirst=True)
    connection.execute(_VERSION.delete())
    connection.execute(_VERSION.insert().values(version_num=at))
